use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::settings::{ChannelBinding, Place, Roots, SessionAttrs, SslMode};

/// The pairs of a connection string in the order of their keys, or the error.
fn pairs(text: &str) -> String {
    match Conninfo::parse(text) {
        Ok(info) => info.0.iter().map(|(key, value)| format!("{key}=<{value}>")).collect::<Vec<_>>().join(" "),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn key_value_strings_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("", ""),
        (" \t\n", ""),
        ("host=h", "host=<h>"),
        ("  host = h   port=\t5433 ", "host=<h> port=<5433>"),
        ("user='a b' dbname='it\\'s'", "dbname=<it's> user=<a b>"),
        ("password=a\\ b\\\\c\\'d", "password=<a b\\c'd>"),
        ("password='' user=u", "password=<> user=<u>"),
        ("password=", "password=<>"),
        ("password= user=u", "password=<user=u>"),
        ("user=a user=b", "user=<b>"),
        ("password='a\nb'", "password=<a\nb>"),
        ("password=x\\", "password=<x>"),
        ("user=a'b", "user=<a'b>"),
        ("password=a=b", "password=<a=b>"),
        ("user='a'dbname=b", "dbname=<b> user=<a>"),
        ("user='abc", "error: connection string: the quoted value of user does not end"),
        ("password='ab\\'", "error: connection string: the quoted value of password does not end"),
        ("host", "error: connection string: a key is not followed by \"=\""),
        ("host h", "error: connection string: a key is not followed by \"=\""),
        ("hots=h", "error: unknown connection parameter \"hots\""),
        ("Host=h", "error: unknown connection parameter \"Host\""),
        ("=h", "error: unknown connection parameter \"\""),
        ("http://h", "error: connection string: a key is not followed by \"=\""),
    ] {
        assert_eq!(pairs(text), expected, "{text}");
    }
}

#[test]
fn uris_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("postgresql://", ""),
        ("postgres://h", "host=<h>"),
        (
            "postgresql://u:p@h:1234/db?connect_timeout=3",
            "connect_timeout=<3> dbname=<db> host=<h> password=<p> port=<1234> user=<u>",
        ),
        ("postgresql://u@", "user=<u>"),
        ("postgresql://:p@h", "host=<h> password=<p>"),
        ("postgresql://u:@h", "host=<h> user=<u>"),
        ("postgresql:///db", "dbname=<db>"),
        ("postgresql://h/", "host=<h>"),
        ("postgresql://h:", "host=<h>"),
        ("postgresql://:5433", "port=<5433>"),
        ("postgresql://%75ser:p%40ss%3a%2F@h%6Fst/d%20b", "dbname=<d b> host=<host> password=<p@ss:/> user=<user>"),
        ("postgresql://%2Ftmp%2Fs:5433/db", "dbname=<db> host=</tmp/s> port=<5433>"),
        ("postgresql:///db?host=/tmp/s&port=5433", "dbname=<db> host=</tmp/s> port=<5433>"),
        ("postgresql://a:1,b:2,c/db", "dbname=<db> host=<a,b,c> port=<1,2,>"),
        ("postgresql://a,b", "host=<a,b>"),
        ("postgresql://[::1]:5433,[fe80::1%25eth0]/db", "dbname=<db> host=<::1,fe80::1%eth0> port=<5433,>"),
        ("postgresql://h?ssl=true", "host=<h> sslmode=<require>"),
        ("postgresql://h?sslmode=verify-full&", "host=<h> sslmode=<verify-full>"),
        ("postgresql://h/db?user=%C3%BC", "dbname=<db> host=<h> user=<ü>"),
        ("postgresql://u@h/a@b", "dbname=<a@b> host=<h> user=<u>"),
        ("postgresql://u:p:q@h", "host=<h> password=<p:q> user=<u>"),
        ("postgresql://h?ssl=false", "error: unknown connection parameter \"ssl\""),
        ("postgresql://h?nonsense=1", "error: unknown connection parameter \"nonsense\""),
        ("postgresql://h?user", "error: connection URI: a query parameter is not followed by \"=\""),
        ("postgresql://h?user=a=b", "error: connection URI: a query parameter has a second \"=\""),
        ("postgresql://h/%zz", "error: connection URI: invalid percent-encoding in dbname"),
        ("postgresql://u:p%4@h", "error: connection URI: invalid percent-encoding in password"),
        ("postgresql://h/a%00b", "error: connection URI: invalid percent-encoding in dbname"),
        ("postgresql://h/%ff", "error: connection URI: invalid percent-encoding in dbname"),
        ("postgresql://[::1", "error: connection URI: the address in brackets misses its closing bracket"),
        ("postgresql://[]", "error: connection URI: the address in brackets is empty"),
        (
            "postgresql://[::1]x",
            "error: connection URI: the address in brackets is followed by something else than a port, a path or a query",
        ),
    ] {
        assert_eq!(pairs(text), expected, "{text}");
    }
}

#[test]
fn values_are_checked_when_they_are_read() {
    for (text, expected) in [
        ("port=0", "port: expected 1 to 65535"),
        ("port=65536", "port: expected 1 to 65535"),
        ("port=x", "port: expected 1 to 65535"),
        ("sslmode=on", "sslmode: expected one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("connect_timeout=1s", "connect_timeout: expected a whole number"),
        ("channel_binding=on", "channel_binding: expected one of disable, prefer, require"),
        ("hostaddr=localhost", "hostaddr: expected an IP address"),
        ("host=a,b port=1,2,3", "connection parameter port has 3 entries for 2 hosts"),
        ("host=a,b hostaddr=127.0.0.1", "connection parameter hostaddr has 1 entries for 2 hosts"),
        ("gssencmode=require", "gssencmode: only disable, prefer is supported"),
        ("sslpassword=canary", "sslpassword: it is not supported"),
        ("client_encoding=latin1", "client_encoding: only auto, UTF8"),
        ("target_session_attrs=writable", "target_session_attrs: expected one of any"),
        ("replication=database", "replication: it is not supported"),
    ] {
        let error = Conninfo::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(Conninfo::parse("host=a,b,c port=5432 connect_timeout=' 5 ' keepalives=0").is_ok());
}

#[test]
fn nothing_that_is_printed_holds_the_password() {
    let info = Conninfo::parse("postgresql://u:canary@h/db?options=-c%20a%3Db").unwrap();
    assert_eq!(info.to_string(), "dbname=db host=h options='-c a=b' password=*** user=u");
    assert_eq!(info.redacted(), info.to_string());
    assert!(!format!("{info:?} {info:#?}").contains("canary"));
    let settings = info.resolve(&Environment::default()).unwrap();
    assert!(!format!("{:?}", settings.hosts).contains("canary"));
    // Errors of broken strings: neither a word that may be the rest of a password, nor the password.
    for text in [
        "password=my canary",
        "password='canary",
        "postgresql://u:%canary@h",
        "postgresql://u:canary@h:x",
        "postgresql://u:canary@[",
        "postgresql://u:my@canary@h",
        "postgresql://u:canary/@h",
        "password=my canary=x",
        "host=h password=canary port=99999",
        "sslpassword=canary",
    ] {
        let error = Conninfo::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{text}: {error:?}");
    }
}

#[test]
fn what_display_prints_without_a_password_is_read_back() {
    let info = Conninfo::parse("host=/tmp/x user='a b\\'c\\\\' options='' application_name='\u{b}'").unwrap();
    assert_eq!(Conninfo::parse(&info.to_string()).unwrap(), info);
}

fn bare() -> Environment {
    Environment::default().with("USER", "os_user").with("HOME", "/nonexistent").with("PGSYSCONFDIR", "/nonexistent")
}

fn resolved(text: &str, environment: &Environment) -> Settings {
    Conninfo::parse(text).unwrap().resolve(environment).unwrap()
}

#[test]
fn defaults_are_those_of_libpq_but_for_dead_peers() {
    let settings = resolved("", &bare());
    assert_eq!((settings.user.as_str(), settings.database.as_str()), ("os_user", "os_user"));
    let places: Vec<_> = settings.hosts.iter().map(|host| (&host.place, host.port)).collect();
    let socket = Place::Unix("/var/run/postgresql/.s.PGSQL.5432".into());
    assert_eq!(places, [(&socket, 5432), (&Place::Tcp("localhost".into()), 5432)]);
    assert_eq!((settings.tls.mode, settings.tls.roots), (SslMode::Prefer, Roots::None));
    assert_eq!(settings.channel_binding, ChannelBinding::Prefer);
    assert_eq!(settings.session_attrs, SessionAttrs::Any);
    assert_eq!(settings.connect_timeout, Some(std::time::Duration::from_secs(30)));
    assert_eq!(settings.socket.user_timeout_ms, Some(60_000));
    assert_eq!(resolved("connect_timeout=0", &bare()).connect_timeout, None);
    assert!(settings.socket.keepalives && settings.tls.server_name_indication);
    assert_eq!(resolved("user=u", &bare()).database, "u");
    let nobody = Environment::default();
    assert_eq!(Conninfo::default().resolve(&nobody).err(), Some(ConninfoError::NoUser(0)));
}

#[test]
fn the_environment_fills_in_what_the_text_leaves_open() {
    let environment = bare()
        .with("PGHOST", "envhost")
        .with("PGHOSTADDR", "10.0.0.1")
        .with("PGPORT", "6000")
        .with("PGDATABASE", "envdb")
        .with("PGUSER", "envuser")
        .with("PGPASSWORD", "envpassword")
        .with("PGSSLMODE", "verify-ca")
        .with("PGSSLROOTCERT", "/r")
        .with("PGSSLCERT", "/c")
        .with("PGSSLKEY", "/k")
        .with("PGCONNECT_TIMEOUT", "1")
        .with("PGAPPNAME", "envapp")
        .with("PGOPTIONS", "-c a=b")
        .with("PGTARGETSESSIONATTRS", "read-write")
        .with("PGCHANNELBINDING", "require");
    let settings = resolved("", &environment);
    let host = &settings.hosts[0];
    assert_eq!((host.name.as_str(), &host.place, host.port), ("envhost", &Place::Tcp("10.0.0.1".into()), 6000));
    assert_eq!(host.password.as_ref().unwrap().0, "envpassword");
    assert_eq!((settings.database.as_str(), settings.user.as_str()), ("envdb", "envuser"));
    assert_eq!((settings.tls.mode, &settings.tls.roots), (SslMode::VerifyCa, &Roots::File("/r".into())));
    assert_eq!(settings.tls.client, Some((PathBuf::from("/c"), PathBuf::from("/k"))));
    assert_eq!(settings.connect_timeout.unwrap().as_secs(), 2);
    assert_eq!((settings.application_name.as_deref(), settings.options.as_deref()), (Some("envapp"), Some("-c a=b")));
    assert_eq!((settings.session_attrs, settings.channel_binding), (SessionAttrs::ReadWrite, ChannelBinding::Require));

    let settings = resolved("host=h hostaddr=::1 port=7000 user=u password=p dbname=d sslmode=disable", &environment);
    let host = &settings.hosts[0];
    assert_eq!((host.name.as_str(), &host.place, host.port), ("h", &Place::Tcp("::1".into()), 7000));
    assert_eq!((host.password.as_ref().unwrap().0.as_str(), settings.user.as_str()), ("p", "u"));
    assert_eq!((settings.database.as_str(), settings.tls.mode), ("d", SslMode::Disable));

    let broken = bare().with("PGSSLMODE", "on");
    assert!(Conninfo::default().resolve(&broken).err().unwrap().to_string().contains("parameter sslmode"));
}

#[test]
fn the_systems_authorities_need_the_strictest_mode() {
    assert_eq!(resolved("sslrootcert=system", &bare()).tls.mode, SslMode::VerifyFull);
    let weak = Conninfo::parse("sslrootcert=system sslmode=require").unwrap();
    assert!(weak.resolve(&bare()).err().unwrap().to_string().contains("sslrootcert=system needs verify-full"));
}

#[test]
fn hosts_are_sockets_names_or_addresses() {
    let settings = resolved("host=/tmp,@abstract,db,,[::] hostaddr=,,,127.0.0.1, port=1,2,3,4,5", &bare());
    let places: Vec<_> = settings.hosts.iter().map(|host| (host.place.clone(), host.port)).collect();
    let (unix, tcp) = (|path: &str| Place::Unix(path.into()), |name: &str| Place::Tcp(name.into()));
    assert_eq!(
        places,
        [
            (unix("/tmp/.s.PGSQL.1"), 1),
            (unix("\0abstract/.s.PGSQL.2"), 2),
            (tcp("db"), 3),
            (tcp("127.0.0.1"), 4),
            (tcp("[::]"), 5)
        ]
    );
}

fn file(name: &str, contents: &str, mode: u32) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn a_service_fills_in_before_the_environment() {
    let services = "# comment\n[one]\nhost=h1\nport = 6001\nuser=u1\n\n[two]\nhost=h2\n[one]\nhost=never\n\
                    [nested]\nservice=one\n[unknown]\ncolour=blue\n[broken]\nhost\n";
    let (_directory, path) = file("services", services, 0o644);
    let environment = bare().with("PGSERVICEFILE", &path).with("PGUSER", "env").with("PGDATABASE", "envdb");
    let settings = resolved("service=one port=7000", &environment);
    assert_eq!((settings.hosts[0].name.as_str(), settings.hosts[0].port), ("h1", 7000));
    assert_eq!((settings.user.as_str(), settings.database.as_str()), ("u1", "envdb"));
    assert_eq!(resolved("", &environment.clone().with("PGSERVICE", "two")).hosts[0].name, "h2");
    assert_eq!(resolved(&format!("service=two servicefile={path}"), &bare()).hosts[0].name, "h2");
    for (service, expected) in [
        ("none", "definition of service \"none\" not found"),
        ("nested", "line 12: a service cannot name another one"),
        ("unknown", "unknown connection parameter \"colour\""),
        ("broken", "line 16: expected key=value"),
    ] {
        let info = Conninfo::parse(&format!("service={service}")).unwrap();
        let error = info.resolve(&environment).err().unwrap().to_string();
        assert!(error.ends_with(expected), "{service}: {error}");
    }
}

#[test]
fn the_first_line_of_the_password_file_that_fits_counts() {
    let lines = "#h:5432:d:u:commented\nh:5432:d:u:exact\nh:*:*:u:any\\:db\\\\\n/tmp/a\\:b:*:*:*:socket\n\
                 localhost:5432:*:*:local\nbroken:line\nempty:*:*:*:\n*:*:*:last:final:with:colons\n";
    let (_directory, path) = file("pgpass", lines, 0o600);
    let environment = bare().with("PGPASSFILE", &path);
    for (text, expected) in [
        ("host=h dbname=d user=u", Some("exact")),
        ("host=h dbname=e user=u", Some("any:db\\")),
        ("host=h port=1 dbname=d user=u", Some("any:db\\")),
        ("host=h user=other", None),
        ("host=/tmp/a:b user=x", Some("socket")),
        ("user=x", Some("local")),
        ("host=empty user=x", None),
        ("host=z user=last", Some("final:with:colons")),
        ("host=h hostaddr=10.0.0.1 dbname=d user=u", Some("exact")),
        ("host=h dbname=d user=u password=given", Some("given")),
    ] {
        let settings = resolved(text, &environment);
        assert_eq!(settings.hosts[0].password.as_ref().map(|password| password.0.as_str()), expected, "{text}");
    }
}

#[test]
fn a_password_file_that_others_can_read_is_ignored() {
    for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
        let (_directory, path) = file("pgpass", "*:*:*:*:secret\n", mode);
        let settings = resolved(&format!("host=h passfile='{path}'"), &bare());
        assert_eq!(settings.hosts[0].password.is_some(), used, "{mode:o}");
    }
    let (directory, _) = file(".pgpass", "*:*:*:*:secret\n", 0o600);
    let home = bare().with("HOME", directory.path().to_str().unwrap());
    assert!(resolved("host=h", &home).hosts[0].password.is_some());
    let not_a_file = bare().with("PGPASSFILE", directory.path().to_str().unwrap());
    assert!(resolved("host=h", &not_a_file).hosts[0].password.is_none());
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = Conninfo::parse(&text);
    }

    #[test]
    fn parsing_what_looks_like_a_uri_never_panics(rest in "[a-z0-9:@/?&=%,\\[\\]ü ]{0,60}") {
        let _ = Conninfo::parse(&format!("postgresql://{rest}"));
    }

    #[test]
    fn parsing_what_looks_like_pairs_never_panics(text in "((host|port|user|password)?[= '\\\\a1,ü]{0,6}){0,6}") {
        let _ = Conninfo::parse(&text);
    }

    #[test]
    fn every_value_survives_quoting(value in "[^\0]*") {
        let text = Conninfo::default().with("user", value.clone()).unwrap().to_string();
        let read = Conninfo::parse(&text).unwrap();
        prop_assert_eq!(read.get("user"), Some(value.as_str()));
    }

    #[test]
    fn files_never_panic(text: String, service in "[a-z]{0,3}") {
        let wanted = crate::passfile::Wanted { host: "h", port: "1", database: "d", user: "u" };
        let _ = crate::passfile::password(&text, &wanted);
        let _ = crate::service::group(&text, &service);
    }
}
