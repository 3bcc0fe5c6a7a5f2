//! Opening sessions without TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cluster::Cluster;
use connection::{Class, ConnectError, Conninfo, PINNED_SETTINGS, Wire, WireError, connect_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{chain, one, tcp, unix, wire};

#[tokio::test]
async fn a_trusted_user_opens_sessions_by_tcp_and_by_socket() {
    let cluster = Cluster::start().unwrap();
    for info in [tcp(&cluster), unix(&cluster)] {
        let mut wire = wire(&info).await;
        assert_eq!(wire.server_version() / 10_000, cluster.version());
        assert_eq!(one(&mut wire, "SELECT pg_backend_pid()").await, wire.backend_pid().to_string());
        assert_eq!(one(&mut wire, "SHOW search_path").await, "");
        assert_eq!(wire.parameter("IntervalStyle"), Some("postgres"));
        let rows =
            wire.simple_query("SELECT 1, NULL, 'x'; SELECT 2, NULL, 'ü' UNION ALL SELECT 3, '', ''").await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], [Some("2".to_owned()), None, Some("ü".to_owned())]);
        assert_eq!(rows[1][1].as_deref(), Some(""));
        wire.close().await;
    }
}

#[tokio::test]
async fn a_refused_query_leaves_the_session_usable() {
    let cluster = Cluster::start().unwrap();
    let mut wire = wire(&tcp(&cluster)).await;
    let error = wire.simple_query("SELECT 1; SELECT * FROM pg_catalog.nowhere").await.unwrap_err();
    let said = error.server().unwrap();
    assert_eq!((said.severity.as_str(), said.sqlstate.as_str(), said.transient()), ("ERROR", "42P01", false));
    assert_eq!(error.to_string(), "ERROR 42P01: relation \"pg_catalog.nowhere\" does not exist");
    assert_eq!(one(&mut wire, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_password_by_scram_opens_a_session_and_a_wrong_one_does_not() {
    let cluster = Cluster::builder().password("s3cret ü'\\").start().unwrap();
    for info in [tcp(&cluster), unix(&cluster)] {
        assert_eq!(one(&mut wire(&info).await, "SELECT 1").await, "1");
        let client = connect_client(&info, "walcast test", PINNED_SETTINGS).await.unwrap();
        let name: String = client.query_one("SHOW application_name", &[]).await.unwrap().get(0);
        assert_eq!(name, "walcast test");
        let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
        assert_eq!(path, "");
        let wrong = info.clone().with("password", "canary-xyzzy").unwrap();
        let raw = Wire::connect(&wrong, &[]).await.unwrap_err();
        let client = connect_client(&wrong, "walcast", &[]).await.map(drop).unwrap_err();
        for error in [raw, client] {
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
            assert_eq!(error.server().unwrap().sqlstate, "28P01");
            assert_eq!(error.class(), Class::Definite);
            assert!(error.hint().unwrap().contains("password"));
            assert!(!format!("{error:?}{}", chain(&error)).contains("canary"));
        }
    }
}

#[tokio::test]
async fn sessions_can_be_opened_from_a_spawned_task() {
    let cluster = Cluster::start().unwrap();
    let info = tcp(&cluster);
    let task = tokio::spawn(async move { one(&mut wire(&info).await, "SELECT 'spawned'").await });
    assert_eq!(task.await.unwrap(), "spawned");
}

/// Answers connections one after the other with these bytes, once it has read something, and then closes them.
async fn fake_server(answers: Vec<Vec<u8>>) -> Conninfo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_buf(&mut Vec::with_capacity(10_000)).await.unwrap();
            socket.write_all(&answer).await.unwrap();
        }
    });
    Conninfo::parse(&format!("host=127.0.0.1 port={port} user=u dbname=d sslmode=disable password=canary")).unwrap()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap() + 4;
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn error_message(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{sqlstate}\0Mno\0\0").as_bytes())
}

#[tokio::test]
async fn each_old_method_of_authentication_opens_a_session() {
    let cluster = Cluster::start().unwrap();
    let roles = "SET password_encryption = 'md5'; CREATE ROLE m LOGIN PASSWORD 'mé'; CREATE ROLE p LOGIN PASSWORD 'pé'";
    cluster.sql("postgres", roles).unwrap();
    cluster.write_hba("local all all trust\nhost all m all md5\nhost all p all password\n").unwrap();
    cluster.restart().unwrap();
    for (user, password) in [("m", "mé"), ("p", "pé")] {
        let info = tcp(&cluster).with("user", user).unwrap();
        let none = Wire::connect(&info, &[]).await.unwrap_err();
        assert!(chain(&none).contains("asks for a password, and none was given"), "{}", chain(&none));
        let given = info.with("password", password).unwrap();
        assert_eq!(one(&mut wire(&given).await, "SELECT current_user").await, user);
        let wrong = Wire::connect(&given.with("password", "wrong").unwrap(), &[]).await.unwrap_err();
        assert_eq!(wrong.server().unwrap().sqlstate, "28P01");
    }
}

#[tokio::test]
async fn the_connection_strings_application_name_and_options_count() {
    let cluster = Cluster::start().unwrap();
    let given = [("application_name", "walcast"), ("datestyle", "ISO")];
    let plain = tcp(&cluster).with("options", "-c work_mem=3MB").unwrap();
    let named = plain.clone().with("application_name", "mine").unwrap();
    for (info, expected) in [(&plain, "walcast"), (&named, "mine")] {
        let mut wire = Wire::connect(info, &given).await.unwrap();
        assert_eq!(one(&mut wire, "SHOW application_name").await, expected);
        assert_eq!(one(&mut wire, "SHOW work_mem").await, "3MB");
        let client = connect_client(info, "walcast", &[("search_path", "\"a\\ b\", c")]).await.unwrap();
        let row = client.query_one("SELECT current_setting('application_name'), current_setting('work_mem')", &[]);
        let row = row.await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (expected, "3MB"));
        let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
        assert_eq!(path, "\"a\\ b\", c");
    }
}

#[tokio::test]
async fn hosts_are_tried_in_turn_until_one_fits_target_session_attrs() {
    let (first, second) = (Cluster::start().unwrap(), Cluster::start().unwrap());
    first.append_configuration("default_transaction_read_only = on").unwrap();
    first.restart().unwrap();
    let ports = format!("1,{},{}", first.port(), second.port());
    let list = [("host", "127.0.0.1,127.0.0.1,127.0.0.1"), ("port", &ports)];
    let info = Conninfo::parse("user=postgres dbname=postgres").unwrap();
    let info = info.with("host", list[0].1).unwrap().with("port", list[1].1).unwrap();
    for (wanted, expected) in [
        ("any", first.port()),
        ("read-write", second.port()),
        ("read-only", first.port()),
        ("primary", first.port()),
        ("prefer-standby", first.port()),
    ] {
        let info = info.clone().with("target_session_attrs", wanted).unwrap();
        assert_eq!(one(&mut wire(&info).await, "SHOW port").await, expected.to_string(), "{wanted}");
        let client = connect_client(&info, "walcast", &[]).await.unwrap();
        assert_eq!(client.query_one("SHOW port", &[]).await.unwrap().get::<_, String>(0), expected.to_string());
    }
    let info = info.with("target_session_attrs", "standby").unwrap();
    let error = Wire::connect(&info, &[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::SessionAttrs { wanted: "standby", .. }), "{error:?}");
    assert_eq!(error.class(), Class::Transient);
}

#[tokio::test]
async fn each_failure_is_one_line_with_a_hint_and_without_the_password() {
    let cluster = Cluster::start().unwrap();
    cluster.write_hba("local all all trust\nhost postgres all all trust\n").unwrap();
    cluster.restart().unwrap();
    let good = tcp(&cluster).with("password", "canary").unwrap();
    for (key, value, expected, class) in [
        ("port", "1", "could not connect to 127.0.0.1:1 (user", Class::Transient),
        ("host", "/nonexistent", "could not connect to /nonexistent/.s.PGSQL.", Class::Transient),
        ("host", "no-such-host.invalid", "could not find the address of no-such-host.invalid:", Class::Transient),
        ("dbname", "elsewhere", "FATAL 28000: no pg_hba.conf entry", Class::Definite),
        ("user", "nobody", "FATAL 28000: role \"nobody\" does not exist", Class::Definite),
    ] {
        let info = good.clone().with(key, value).unwrap();
        let raw = Wire::connect(&info, &[]).await.unwrap_err();
        let client = connect_client(&info, "walcast", &[]).await.map(drop).unwrap_err();
        for error in [raw, client] {
            let said = chain(&error);
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains('\n') && error.hint().is_some(), "{said}");
            assert!(!format!("{said}{error:?}").contains("canary"), "{said}");
            assert_eq!(error.class(), class, "{said}");
        }
    }
    let missing = unix(&cluster).with("dbname", "elsewhere").unwrap();
    let error = Wire::connect(&missing, &[]).await.unwrap_err();
    assert_eq!((error.server().unwrap().sqlstate.as_str(), error.class()), ("3D000", Class::Definite));
    assert!(error.hint().unwrap().contains("create the database"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let info = Conninfo::parse(&format!("host=127.0.0.1 port={port} user=u connect_timeout=1")).unwrap();
    for sslmode in ["disable", "require"] {
        let error = Wire::connect(&info.clone().with("sslmode", sslmode).unwrap(), &[]).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout { seconds: 2, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_an_error() {
    let (ok, ready) = (message(b'R', &[0; 4]), message(b'Z', b"I"));
    let scram = message(b'R', b"\0\0\0\x0ASCRAM-SHA-256\0\0");
    let challenge = message(b'R', b"\0\0\0\x0Br=short,s=AAAA,i=4096");
    for (answer, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "sent message 'H' with length 1414811695"),
        (vec![b'R', 0, 0, 0, 3], "sent message 'R' with length 3"),
        (message(b'R', &[0, 0, 0]), "message 'R' is not an answer to the startup message"),
        (message(b'R', &[0, 0, 0, 7]), "server asks for method 7, which is not supported"),
        (message(b'R', &[0, 0, 0, 5, 1, 2, 3]), "expected a salt of 4 bytes, got 3"),
        (message(b'R', b"\0\0\0\x0AOAUTHBEARER\0\0"), "no SASL mechanism that is supported"),
        ([scram.clone(), ok.clone(), ready.clone()].concat(), "server broke off SCRAM"),
        ([scram, challenge].concat(), "SCRAM: "),
        (message(b'D', &[]), "message 'D' is not an answer"),
        (ok.clone(), "server closed the connection"),
        (Vec::new(), "server closed the connection"),
        (error_message("57P03"), "FATAL 57P03: no"),
    ] {
        let info = fake_server(vec![answer]).await;
        let error = Wire::connect(&info, &[]).await.unwrap_err();
        assert!(chain(&error).contains(expected), "{expected}: {}", chain(&error));
        assert!(!format!("{error:?}").contains("canary"));
    }
    let required = fake_server(vec![[ok, ready].concat()]).await.with("channel_binding", "require").unwrap();
    let error = Wire::connect(&required, &[]).await.unwrap_err();
    assert!(chain(&error).contains("did not bind to the channel"), "{}", chain(&error));
}

#[tokio::test]
async fn what_follows_the_answer_to_sslrequest_in_the_clear_is_not_taken_for_the_server() {
    let injected = [b"S".to_vec(), message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    let info = fake_server(vec![injected]).await.with("sslmode", "require").unwrap();
    let error = Wire::connect(&info, &[]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let info = fake_server(vec![error_message("28000")]).await.with("sslmode", "prefer").unwrap();
    let error = Wire::connect(&info, &[]).await.unwrap_err();
    assert!(chain(&error).contains("byte 'E' is not an answer to SSLRequest"), "{}", chain(&error));
}

/// The kernel may lose what a dead server said last, but not on a unix socket.
#[tokio::test]
async fn the_reason_for_which_a_server_ends_a_session_is_told() {
    let cluster = Cluster::start().unwrap();
    let mut victim = wire(&unix(&cluster)).await;
    let mut other = wire(&unix(&cluster)).await;
    let kill = format!("SELECT pg_terminate_backend({}, 10000)", victim.backend_pid());
    assert_eq!(one(&mut other, &kill).await, "t");
    let error = victim.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.server().unwrap().sqlstate, "57P01", "{}", chain(&error));
    assert_eq!(error.class(), Class::Transient);
    let error = victim.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(matches!(error, WireError::Closed { .. } | WireError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn a_service_and_a_password_file_open_a_session() {
    let cluster = Cluster::builder().password("it's:\\").start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (services, passwords) = (directory.path().join("services"), directory.path().join("passwords"));
    let service = format!("[db]\nhost=127.0.0.1\nport={}\nuser=postgres\ndbname=postgres\n", cluster.port());
    fs::write(&services, service).unwrap();
    let set_password = |password: &str| {
        fs::write(&passwords, format!("127.0.0.1:{}:*:postgres:{password}\n", cluster.port())).unwrap();
        fs::set_permissions(&passwords, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let text = format!("service=db servicefile='{}' passfile='{}'", services.display(), passwords.display());
    let info = Conninfo::parse(&text).unwrap();
    set_password("stale");
    let error = Wire::connect(&info, &[]).await.unwrap_err();
    assert_eq!(error.server().unwrap().sqlstate, "28P01");
    // The same connection string finds the new one.
    set_password("it's\\:\\\\");
    assert_eq!(one(&mut wire(&info).await, "SELECT 1").await, "1");
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Wire::connect(&info, &[]).await.unwrap_err();
    assert!(chain(&error).contains("asks for a password, and none was given"), "{}", chain(&error));
    let error = connect_client(&info, "walcast", &[]).await.map(drop).unwrap_err();
    assert!(chain(&error).contains("password missing") && error.hint().is_some(), "{}", chain(&error));
}
