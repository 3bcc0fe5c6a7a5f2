//! TLS as libpq has it: which certificates are trusted under which sslmode, and which one the client shows.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Certificate;
use crate::error::{ConnectError, Endpoint};
use crate::settings::{Roots, SslMode, TlsSettings, TlsVersion};
use crate::verifier::{Trust, Verifier};

/// Opens TLS over connected sockets.
pub(crate) struct Connector {
    connector: TlsConnector,
    verifies_name: bool,
}

impl Connector {
    /// Reads the files that the settings name.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Connector, ConnectError> {
        // Passed on explicitly: the process's default provider is not this crate's to choose.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifies_name = settings.mode == SslMode::VerifyFull;
        let verifier = Verifier {
            trust: trust(settings, &provider)?,
            verifies_name,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions(settings));
        let builder = builder.map_err(|error| file_error("TLS", Path::new("protocol versions"), error))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &settings.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, private_key) = (certificates("certificate file", certificate)?, private_key(key)?);
                let config = builder.with_client_auth_cert(chain, private_key);
                config.map_err(|error| file_error("certificate file", certificate, error))?
            }
        };
        config.enable_sni = settings.server_name_indication;
        Ok(Connector { connector: Arc::new(config).into(), verifies_name })
    }

    pub(crate) async fn connect(
        &self,
        tcp: TcpStream,
        host: &str,
        at: &Endpoint,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let failed = |source| ConnectError::Tls { at: at.clone(), source };
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(error) if self.verifies_name => return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, error))),
            // A name that no certificate can hold is not checked anyway, and an address is never sent to the server.
            Err(_) => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        };
        self.connector.connect(name, tcp).await.map_err(failed)
    }
}

/// What SCRAM binds to: the hash of the server's certificate.
pub(crate) fn server_end_point(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let (_, session) = stream.get_ref();
    Certificate::parse(session.peer_certificates()?.first()?)?.server_end_point()
}

/// What a person can do about a failed handshake.
pub(crate) fn hint(error: &io::Error) -> Option<&'static str> {
    let Some(rustls::Error::InvalidCertificate(problem)) = error.get_ref()?.downcast_ref() else {
        return Some("check ssl_min_protocol_version and the server's TLS settings");
    };
    Some(match problem {
        CertificateError::UnknownIssuer => "give the authority that signed the server's certificate as sslrootcert",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the server's certificate",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "check the clocks",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name in the server's certificate, or give its address as hostaddr beside that name"
        }
        CertificateError::Revoked => "the server's certificate was revoked: replace it",
        CertificateError::UnknownRevocationStatus => "sslcrl must hold a list of each authority in the chain",
        _ => "see the server's certificate",
    })
}

fn file_error(what: &'static str, path: &Path, problem: impl ToString) -> ConnectError {
    ConnectError::TlsFile { what, path: path.display().to_string(), problem: problem.to_string() }
}

static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    match (settings.min_version, settings.max_version) {
        (Some(TlsVersion::V13), _) => &BOTH[..1],
        (_, Some(TlsVersion::V12)) => &BOTH[1..],
        _ => &BOTH,
    }
}

/// The certificates that a server's one must lead to; none when it is not checked, as in libpq without a root file.
fn trust(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Option<Trust>, ConnectError> {
    const WHAT: &str = "root certificate file";
    let path = match &settings.roots {
        Roots::File(path) => path.clone(),
        Roots::System => system_roots()?,
        Roots::None if settings.mode >= SslMode::VerifyCa => {
            return Err(file_error(
                WHAT,
                Path::new("~/.postgresql/root.crt"),
                "does not exist; give one as sslrootcert",
            ));
        }
        Roots::None => return Ok(None),
    };
    let roots = certificates(WHAT, &path)?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store.add(root.clone()).map_err(|error| file_error(WHAT, &path, format!("cannot be used: {error}")))?;
    }
    let lists = settings.crl.as_deref().map_or(Ok(Vec::new()), revocation_lists)?;
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).with_crls(lists);
    let chain = builder.build().map_err(|error| file_error(WHAT, &path, format!("cannot be used: {error}")))?;
    Ok(Some(Trust { chain, roots }))
}

/// Where distributions keep the authorities that they trust; OpenSSL's own variable comes first.
fn system_roots() -> Result<PathBuf, ConnectError> {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut places = given.into_iter().chain(PLACES.map(PathBuf::from));
    let missing = || file_error("system's root certificate file", Path::new(PLACES[0]), "does not exist");
    places.find(|path| path.exists()).ok_or_else(missing)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    all_in_pem(what, path, "certificate")
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, ConnectError> {
    all_in_pem("certificate revocation list file", path, "revocation list")
}

fn all_in_pem<T: PemObject>(what: &'static str, path: &Path, kind: &str) -> Result<Vec<T>, ConnectError> {
    let read = T::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<T> = read.map_err(|error| file_error(what, path, pem_problem(&error)))?;
    if found.is_empty() { Err(file_error(what, path, format!("holds no {kind}"))) } else { Ok(found) }
}

fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
        pem::Error::NoItemsFound => "holds no unencrypted key".to_owned(),
        error => format!("could not be read: {error}"),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    const WHAT: &str = "private key file";
    if let Ok(metadata) = std::fs::metadata(path)
        && let Some(problem) = distrust(&metadata)
    {
        return Err(file_error(WHAT, path, problem));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error(WHAT, path, pem_problem(&error)))
}

/// A key that others can read is no proof of anything. One of root may be shared with a group.
fn distrust(metadata: &std::fs::Metadata) -> Option<&'static str> {
    let too_open = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if !metadata.is_file() {
        Some("is not a regular file")
    } else if metadata.mode() & too_open != 0 {
        Some(
            "has group or world access; it must have permissions u=rw (0600) or less if owned by the current user, \
             or u=rw,g=r (0640) or less if owned by root",
        )
    } else {
        None
    }
}
