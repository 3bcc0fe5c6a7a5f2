//! Opening sessions without TLS.

use cluster::Cluster;
use connection::{Class, ConnectError, PINNED_SETTINGS, Wire, connect_client};

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
