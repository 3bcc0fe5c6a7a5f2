//! TLS: which sslmode takes which server, and what SCRAM binds to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::Cluster;
use connection::{Class, ConnectError, Conninfo, PINNED_SETTINGS, Wire, connect_client};
use tempfile::TempDir;

use crate::support::{chain, one, tcp, unix, wire};

/// A directory of keys and certificates.
struct Pki(TempDir);

const RSA: &str = "rsa:2048";
const SAN: &str = "subjectAltName=DNS:localhost,DNS:*.db.example,IP:127.0.0.1";

impl Pki {
    fn new() -> Pki {
        Pki(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A self-signed certificate, as the manual of PostgreSQL makes it.
    fn self_signed(&self, name: &str, new_key: &[&str], common_name: &str) {
        let (key, certificate, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={common_name}"));
        let mut arguments = vec!["req", "-x509", "-nodes", "-days", "2", "-subj", &subject, "-newkey"];
        arguments.extend(new_key);
        arguments.extend(["-keyout", &key, "-out", &certificate]);
        self.openssl(&arguments);
    }

    /// A certificate with an RSA key, signed by `authority`. Without extensions it is one of version 1.
    fn signed(&self, name: &str, authority: &str, common_name: &str, days: &str, extensions: Option<&str>) {
        let [key, request, certificate, list] = ["key", "csr", "crt", "ext"].map(|suffix| format!("{name}.{suffix}"));
        let subject = format!("/CN={common_name}");
        self.openssl(&["req", "-new", "-nodes", "-newkey", RSA, "-subj", &subject, "-keyout", &key, "-out", &request]);
        let (authority_certificate, authority_key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let mut arguments =
            vec!["x509", "-req", "-in", &request, "-CA", &authority_certificate, "-CAkey", &authority_key];
        arguments.extend(["-CAcreateserial", "-days", days, "-out", &certificate]);
        if let Some(extensions) = extensions {
            fs::write(self.path(&list), extensions).unwrap();
            arguments.extend(["-extfile", &list]);
        }
        self.openssl(&arguments);
    }

    fn serve(&self, cluster: &Cluster, name: &str) {
        for suffix in ["crt", "key"] {
            let contents = fs::read(self.path(&format!("{name}.{suffix}"))).unwrap();
            cluster.write_file(&format!("server.{suffix}"), &contents).unwrap();
        }
        cluster.append_configuration("ssl = on").unwrap();
        cluster.restart().unwrap();
    }
}

fn with(info: &Conninfo, pairs: &[(&str, &str)]) -> Conninfo {
    pairs.iter().fold(info.clone(), |info, (key, value)| info.with(key, *value).unwrap())
}

/// A name for the certificate beside the address that is connected to.
fn at(cluster: &Cluster, host: &str) -> Conninfo {
    with(&tcp(cluster), &[("host", host), ("hostaddr", "127.0.0.1")])
}

async fn encrypted(info: &Conninfo) -> Result<bool, ConnectError> {
    let mut wire = Wire::connect(info, PINNED_SETTINGS).await?;
    let sql = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    Ok(one(&mut wire, sql).await == "t")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The server's certificate, sslmode, root and host; then: encrypted, or part of the error.
type Case = (&'static str, &'static str, &'static str, &'static str, Result<bool, &'static str>);

#[tokio::test]
async fn each_sslmode_takes_the_servers_that_it_should() {
    let pki = Pki::new();
    pki.self_signed("ca", &[RSA], "ca");
    pki.self_signed("other", &[RSA], "other");
    pki.signed("good", "ca", "ignored.example", "2", Some(SAN));
    pki.signed("expired", "ca", "localhost", "-1", Some(SAN));
    pki.signed("named", "ca", "localhost", "2", Some("basicConstraints=CA:FALSE"));
    pki.signed("v1", "ca", "localhost", "2", None);
    pki.self_signed("self", &[RSA], "localhost");
    let cluster = Cluster::builder().password("secret").start().unwrap();
    let rows: [Case; 31] = [
        ("", "disable", "", "localhost", Ok(false)),
        ("", "allow", "", "localhost", Ok(false)),
        ("", "prefer", "", "localhost", Ok(false)),
        ("", "require", "", "localhost", Err("does not support TLS, but sslmode=require")),
        ("", "verify-full", "ca", "localhost", Err("does not support TLS, but sslmode=verify-full")),
        ("good", "disable", "", "localhost", Ok(false)),
        ("good", "allow", "", "localhost", Ok(false)),
        ("good", "prefer", "", "localhost", Ok(true)),
        ("good", "require", "", "localhost", Ok(true)),
        ("good", "require", "ca", "wrong.example", Ok(true)),
        ("good", "require", "other", "localhost", Err("UnknownIssuer")),
        ("good", "prefer", "other", "localhost", Ok(false)),
        ("good", "verify-ca", "ca", "wrong.example", Ok(true)),
        ("good", "verify-ca", "other", "localhost", Err("UnknownIssuer")),
        ("good", "verify-full", "ca", "localhost", Ok(true)),
        ("good", "verify-full", "ca", "127.0.0.1", Ok(true)),
        ("good", "verify-full", "ca", "one.db.example", Ok(true)),
        ("good", "verify-full", "ca", "ignored.example", Err("not valid for name")),
        ("good", "verify-full", "ca", "wrong.example", Err("not valid for name")),
        ("good", "verify-full", "other", "localhost", Err("UnknownIssuer")),
        ("good", "verify-full", "system", "localhost", Err("UnknownIssuer")),
        ("expired", "require", "", "localhost", Ok(true)),
        ("expired", "verify-ca", "ca", "localhost", Err("expired")),
        ("expired", "verify-full", "ca", "localhost", Err("expired")),
        ("named", "verify-full", "ca", "localhost", Ok(true)),
        ("named", "verify-full", "ca", "wrong.example", Err("not valid for name")),
        ("v1", "require", "", "localhost", Ok(true)),
        ("self", "require", "", "localhost", Ok(true)),
        ("self", "verify-ca", "self", "wrong.example", Ok(true)),
        ("self", "verify-full", "self", "localhost", Ok(true)),
        ("self", "verify-full", "self", "wrong.example", Err("not valid for name")),
    ];
    let mut served = "";
    for (certificate, sslmode, root, host, expected) in rows {
        if certificate != served {
            pki.serve(&cluster, certificate);
            served = certificate;
        }
        let mut info = with(&at(&cluster, host), &[("sslmode", sslmode)]);
        if !root.is_empty() {
            let file = pki.path(&format!("{root}.crt"));
            let root = if root == "system" { root } else { text(&file) };
            info = with(&info, &[("sslrootcert", root)]);
        }
        let case = format!("{certificate} {sslmode} {root} {host}");
        match (encrypted(&info).await, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{case}"),
            (Err(error), Err(expected)) => {
                let said = chain(&error);
                assert!(said.to_lowercase().contains(&expected.to_lowercase()), "{case}: {said}");
                assert_eq!(error.class(), Class::Definite, "{case}");
                assert!(error.hint().is_some(), "{case}");
            }
            (got, expected) => panic!("{case}: expected {expected:?}, got {:?}", got.map_err(|error| chain(&error))),
        }
    }
}

#[tokio::test]
async fn scram_binds_to_the_certificate_by_the_hash_of_its_own_signature() {
    let pki = Pki::new();
    pki.self_signed("ca", &[RSA], "ca");
    pki.self_signed("ec", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"], "ec");
    pki.self_signed("pss", &[RSA, "-sigopt", "rsa_padding_mode:pss", "-sha512"], "localhost");
    pki.self_signed("ed", &["ed25519"], "localhost");
    pki.signed("rsa", "ca", "localhost", "2", Some(SAN));
    pki.signed("mixed", "ec", "localhost", "2", Some(SAN));
    pki.signed("v1", "ca", "localhost", "2", None);
    let cluster = Cluster::builder().password("secret").start().unwrap();
    let bound = with(&at(&cluster, "localhost"), &[("channel_binding", "require")]);

    let error = Wire::connect(&bound, &[]).await.unwrap_err();
    assert!(chain(&error).contains("does not support TLS"), "{}", chain(&error));
    let error = Wire::connect(&with(&unix(&cluster), &[("channel_binding", "require")]), &[]).await.unwrap_err();
    assert!(chain(&error).contains("channel_binding=require, but there is no TLS"), "{}", chain(&error));

    for certificate in ["rsa", "mixed", "pss", "v1"] {
        pki.serve(&cluster, certificate);
        assert!(encrypted(&bound).await.unwrap_or_else(|error| panic!("{certificate}: {}", chain(&error))));
        let client = connect_client(&bound, "walcast", PINNED_SETTINGS).await.unwrap();
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
        let unbound = with(&bound, &[("channel_binding", "disable")]);
        assert!(encrypted(&unbound).await.unwrap());
    }
    // Ed25519 has no hash that could be bound to: refused where binding is required, and only there.
    pki.serve(&cluster, "ed");
    let error = Wire::connect(&bound, &[]).await.unwrap_err();
    assert!(chain(&error).contains("has no hash"), "{}", chain(&error));
    assert!(encrypted(&with(&bound, &[("channel_binding", "prefer")])).await.unwrap());

    // Whoever is trusted without SCRAM has not been bound.
    cluster.write_hba("local all all trust\nhost all all all trust\n").unwrap();
    pki.serve(&cluster, "rsa");
    let error = Wire::connect(&bound, &[]).await.unwrap_err();
    assert!(chain(&error).contains("did not bind to the channel"), "{}", chain(&error));
    assert!(connect_client(&bound, "walcast", &[]).await.is_err());
}

#[tokio::test]
async fn what_pg_hba_allows_decides_between_plain_and_tls() {
    let pki = Pki::new();
    pki.self_signed("self", &[RSA], "localhost");
    let cluster = Cluster::start().unwrap();
    let modes = |mode| with(&at(&cluster, "localhost"), &[("sslmode", mode)]);
    for (line, allow, prefer) in
        [("hostnossl", Ok(false), Ok(false)), ("hostssl", Ok(true), Ok(true)), ("", Err(()), Err(()))]
    {
        let lines = if line.is_empty() { String::new() } else { format!("{line} all all all trust\n") };
        cluster.write_hba(&format!("local all all trust\n{lines}")).unwrap();
        pki.serve(&cluster, "self");
        for (mode, expected) in [("allow", allow), ("prefer", prefer)] {
            let outcome = encrypted(&modes(mode)).await;
            if let Err(error) = &outcome {
                assert_eq!(error.server().unwrap().sqlstate, "28000", "{}", chain(error));
            }
            assert_eq!(outcome.map_err(drop), expected, "{line} {mode}");
        }
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_unless_others_can_read_its_key() {
    let pki = Pki::new();
    pki.self_signed("ca", &[RSA], "ca");
    pki.signed("server", "ca", "localhost", "2", Some(SAN));
    let cluster = Cluster::start().unwrap();
    let user = tcp(&cluster).get("user").unwrap().to_owned();
    pki.signed("client", "ca", &user, "2", Some("extendedKeyUsage=clientAuth"));
    cluster.write_file("root.crt", &fs::read(pki.path("ca.crt")).unwrap()).unwrap();
    cluster.append_configuration("ssl_ca_file = 'root.crt'").unwrap();
    cluster.write_hba("local all all trust\nhostssl all all all cert\n").unwrap();
    pki.serve(&cluster, "server");
    let (certificate, key, root) = (pki.path("client.crt"), pki.path("client.key"), pki.path("ca.crt"));
    let root = [("sslmode", "verify-full"), ("sslrootcert", text(&root))];
    let bare = with(&at(&cluster, "localhost"), &root);
    let error = Wire::connect(&bare, &[]).await.unwrap_err();
    assert!(chain(&error).contains("valid client certificate"), "{}", chain(&error));

    let shown = with(&bare, &[("sslcert", text(&certificate)), ("sslkey", text(&key))]);
    for (mode, fits) in [(0o600, true), (0o644, false), (0o620, false), (0o400, true)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        match encrypted(&shown).await {
            Ok(encrypted) => assert!(encrypted && fits, "mode {mode:o}"),
            Err(error) => {
                assert!(!fits && chain(&error).contains("group or world access"), "{mode:o}: {}", chain(&error));
            }
        }
    }
    drop(wire(&shown).await);
}

#[tokio::test]
async fn files_that_are_missing_or_hold_nothing_are_named() {
    let pki = Pki::new();
    fs::write(pki.path("empty.crt"), "").unwrap();
    let info = Conninfo::parse("host=127.0.0.1 port=1 user=u sslmode=verify-full").unwrap();
    for (key, file, expected) in [
        ("sslrootcert", "missing.crt", "root certificate file \"{}\" does not exist"),
        ("sslrootcert", "empty.crt", "root certificate file \"{}\" holds no certificate"),
    ] {
        let path = pki.path(file);
        let error = Wire::connect(&with(&info, &[(key, text(&path))]), &[]).await.unwrap_err();
        assert_eq!(error.to_string(), expected.replace("{}", text(&path)));
        assert_eq!(error.class(), Class::Definite);
    }
}
