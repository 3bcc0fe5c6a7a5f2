//! Connection parameters with every default filled in, as types.

use std::path::PathBuf;
use std::time::Duration;

use crate::conninfo::{Conninfo, ConninfoError};
use crate::environment::Environment;
use crate::passfile;

/// Where the operating system's packages put the server's socket.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
const PORT: u16 = 5432;

/// Everything that one attempt to connect needs.
pub(crate) struct Settings {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) tls: TlsSettings,
    pub(crate) channel_binding: ChannelBinding,
    /// For each address; none waits as long as the operating system does.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) socket: SocketSettings,
    pub(crate) session_attrs: SessionAttrs,
    pub(crate) application_name: Option<String>,
    pub(crate) fallback_application_name: Option<String>,
    pub(crate) options: Option<String>,
}

/// One entry of the list of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// As given: what the certificate must name.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(crate) password: Option<Password>,
}

/// Where a host listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The socket itself; a leading NUL is the abstract namespace.
    Unix(PathBuf),
    /// A name or an address.
    Tcp(String),
}

/// A password; no formatting shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(***)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// Which certificates are trusted, and which one is shown.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub(crate) mode: SslMode,
    pub(crate) roots: Roots,
    /// The file with revocation lists.
    pub(crate) crl: Option<PathBuf>,
    /// Certificate and key of the client.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) server_name_indication: bool,
    pub(crate) min_version: Option<TlsVersion>,
    pub(crate) max_version: Option<TlsVersion>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// None given, and no default file.
    None,
    File(PathBuf),
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V12,
    V13,
}

/// TCP options; durations of zero are the operating system's defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketSettings {
    pub(crate) keepalives: bool,
    pub(crate) keepalives_idle: Option<Duration>,
    pub(crate) keepalives_interval: Option<Duration>,
    pub(crate) keepalives_count: Option<u32>,
    pub(crate) user_timeout_ms: Option<u32>,
}

impl Settings {
    pub(crate) fn new(info: &Conninfo, environment: &Environment) -> Result<Settings, ConninfoError> {
        let os_user = || environment.os_user().ok_or(ConninfoError::NoUser(environment.uid));
        let user = info.value("user").map_or_else(os_user, |user| Ok(user.to_owned()))?;
        let database = info.value("dbname").unwrap_or(&user).to_owned();
        let mut hosts = hosts(info)?;
        set_passwords(&mut hosts, info, environment, (&user, &database));
        let text = |key| info.value(key).map(str::to_owned);
        Ok(Settings {
            hosts,
            tls: tls(info, environment)?,
            channel_binding: channel_binding(info),
            connect_timeout: connect_timeout(info),
            socket: socket(info),
            session_attrs: session_attrs(info),
            application_name: text("application_name"),
            fallback_application_name: text("fallback_application_name"),
            options: text("options"),
            user,
            database,
        })
    }
}

/// The list of hosts without passwords, from the lists of names, addresses and ports.
pub(crate) fn hosts(info: &Conninfo) -> Result<Vec<Host>, ConninfoError> {
    let list = |key| info.value(key).map(|value| value.split(',').collect::<Vec<_>>());
    let (names, addresses) = (list("host"), list("hostaddr"));
    if let (Some(names), Some(addresses)) = (&names, &addresses)
        && names.len() != addresses.len()
    {
        return Err(ConninfoError::Count { key: "hostaddr", got: addresses.len(), expected: names.len() });
    }
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    let ports = ports(list("port").as_deref().unwrap_or(&[""]), count)?;
    let mut hosts = Vec::with_capacity(count + 1);
    for (index, &port) in ports.iter().enumerate() {
        let nth =
            |list: &Option<Vec<&str>>| list.as_ref().and_then(|list| list.get(index)).map_or("", |s| *s).to_owned();
        add_host(&mut hosts, nth(&names), nth(&addresses), port)?;
    }
    Ok(hosts)
}

/// One port for all hosts, or one for each.
fn ports(given: &[&str], count: usize) -> Result<Vec<u16>, ConninfoError> {
    let ports = given.iter().map(|text| port(text)).collect::<Result<Vec<_>, _>>()?;
    match ports[..] {
        [port] => Ok(vec![port; count]),
        _ if ports.len() == count => Ok(ports),
        _ => Err(ConninfoError::Count { key: "port", got: ports.len(), expected: count }),
    }
}

fn port(text: &str) -> Result<u16, ConninfoError> {
    match text.trim() {
        "" => Ok(PORT),
        digits => digits.parse().ok().filter(|&port| port != 0).ok_or_else(|| ConninfoError::Value {
            key: "port",
            // After a URI's user with a "/" in the password, this is a piece of the password.
            value: "***".to_owned(),
            expected: "expected 1 to 65535".to_owned(),
        }),
    }
}

fn add_host(hosts: &mut Vec<Host>, name: String, address: String, port: u16) -> Result<(), ConninfoError> {
    let mut add = |name: String, place| hosts.push(Host { name, place, port, password: None });
    if !address.is_empty() {
        if address.parse::<std::net::IpAddr>().is_err() {
            let expected = "expected an IP address".to_owned();
            return Err(ConninfoError::Value { key: "hostaddr", value: address, expected });
        }
        let name = if name.is_empty() { address.clone() } else { name };
        add(name, Place::Tcp(address));
    } else if name.is_empty() {
        add(SOCKET_DIRECTORY.to_owned(), Place::Unix(socket_path(SOCKET_DIRECTORY, port)));
        add("localhost".to_owned(), Place::Tcp("localhost".to_owned()));
    } else if name.starts_with(['/', '@']) {
        let path = socket_path(&name, port);
        add(name, Place::Unix(path));
    } else {
        add(name.clone(), Place::Tcp(name));
    }
    Ok(())
}

fn socket_path(directory: &str, port: u16) -> PathBuf {
    let directory = directory.strip_prefix('@').map_or_else(|| directory.to_owned(), |name| format!("\0{name}"));
    format!("{directory}/.s.PGSQL.{port}").into()
}

fn set_passwords(hosts: &mut [Host], info: &Conninfo, environment: &Environment, (user, database): (&str, &str)) {
    if let Some(password) = info.value("password") {
        hosts.iter_mut().for_each(|host| host.password = Some(Password(password.to_owned())));
        return;
    }
    let Some(passfile) = passfile::read(info, environment) else { return };
    for host in hosts {
        let port = host.port.to_string();
        let name = if host.name == SOCKET_DIRECTORY { "localhost" } else { &host.name };
        let wanted = passfile::Wanted { host: name, port: &port, database, user };
        host.password = passfile::password(&passfile, &wanted).map(Password);
    }
}

fn invalid(key: &'static str, value: &str, expected: &str) -> ConninfoError {
    ConninfoError::Value { key, value: value.to_owned(), expected: expected.to_owned() }
}

fn tls(info: &Conninfo, environment: &Environment) -> Result<TlsSettings, ConninfoError> {
    let in_home = |name: &str| environment.home().map(|home| home.join(".postgresql").join(name));
    let existing = |name: &str| in_home(name).filter(|path| path.exists());
    let roots = match info.value("sslrootcert") {
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => existing("root.crt").map_or(Roots::None, Roots::File),
    };
    let certificate = info.value("sslcert").map(PathBuf::from).or_else(|| existing("postgresql.crt"));
    let key = info.value("sslkey").map(PathBuf::from).or_else(|| in_home("postgresql.key"));
    Ok(TlsSettings {
        mode: ssl_mode(info, &roots)?,
        roots,
        crl: info.value("sslcrl").map(PathBuf::from).or_else(|| existing("root.crl")),
        client: certificate.zip(key),
        server_name_indication: info.value("sslsni") != Some("0"),
        min_version: info.value("ssl_min_protocol_version").and_then(tls_version),
        max_version: info.value("ssl_max_protocol_version").and_then(tls_version),
    })
}

fn tls_version(name: &str) -> Option<TlsVersion> {
    match name {
        "TLSv1.2" => Some(TlsVersion::V12),
        "TLSv1.3" => Some(TlsVersion::V13),
        _ => None,
    }
}

fn ssl_mode(info: &Conninfo, roots: &Roots) -> Result<SslMode, ConninfoError> {
    let mode = match info.value("sslmode") {
        // Anyone can get a certificate of a public authority, so that only the name says who it is.
        None if *roots == Roots::System => SslMode::VerifyFull,
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        None | Some(_) => SslMode::Prefer,
    };
    if *roots == Roots::System && mode != SslMode::VerifyFull {
        let value = info.value("sslmode").unwrap_or_default();
        return Err(invalid("sslmode", value, "sslrootcert=system needs verify-full"));
    }
    Ok(mode)
}

fn channel_binding(info: &Conninfo) -> ChannelBinding {
    match info.value("channel_binding") {
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        _ => ChannelBinding::Prefer,
    }
}

fn session_attrs(info: &Conninfo) -> SessionAttrs {
    match info.value("target_session_attrs") {
        Some("read-write") => SessionAttrs::ReadWrite,
        Some("read-only") => SessionAttrs::ReadOnly,
        Some("primary") => SessionAttrs::Primary,
        Some("standby") => SessionAttrs::Standby,
        Some("prefer-standby") => SessionAttrs::PreferStandby,
        _ => SessionAttrs::Any,
    }
}

// Where libpq leaves it to the kernel (two hours until the first keepalive) or waits forever, a service that nobody
// watches gives up on a dead peer and tries again. What the connection string says goes first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES_COUNT: u32 = 3;
const USER_TIMEOUT_MS: u32 = 60_000;

/// Zero and negative mean no limit; libpq never waits less than two seconds.
fn connect_timeout(info: &Conninfo) -> Option<Duration> {
    if info.value("connect_timeout").is_none() {
        return Some(CONNECT_TIMEOUT);
    }
    let seconds = number(info, "connect_timeout")?;
    Some(Duration::from_secs(u64::from(seconds).max(2)))
}

/// A number above zero.
fn number(info: &Conninfo, key: &str) -> Option<u32> {
    info.value(key)?.trim().parse().ok().filter(|&number| number > 0)
}

fn socket(info: &Conninfo) -> SocketSettings {
    let seconds = |key| number(info, key).map(|seconds| Duration::from_secs(seconds.into()));
    SocketSettings {
        keepalives: info.value("keepalives").is_none_or(|value| value.trim() != "0"),
        keepalives_idle: seconds("keepalives_idle").or(Some(KEEPALIVES_IDLE)),
        keepalives_interval: seconds("keepalives_interval").or(Some(KEEPALIVES_INTERVAL)),
        keepalives_count: number(info, "keepalives_count").or(Some(KEEPALIVES_COUNT)),
        user_timeout_ms: number(info, "tcp_user_timeout").or(Some(USER_TIMEOUT_MS)),
    }
}
