//! Throw-away clusters of the installed PostgreSQL.

use cluster::{Cluster, Error};

#[test]
fn a_cluster_answers_by_tcp_and_by_socket_and_goes_without_a_trace() {
    let cluster = Cluster::start().unwrap();
    let (directory, pid) = (cluster.socket_dir().to_path_buf(), cluster.pid().unwrap());
    assert_eq!(cluster.sql("postgres", "SHOW wal_level; SELECT 1, 'a'").unwrap(), "logical\n1|a");
    assert!(cluster.conninfo("postgres").to_string().contains(&format!("host=127.0.0.1 port={}", cluster.port())));
    assert!(cluster.conninfo_unix("postgres").to_string().contains("host=/"));
    drop(cluster);
    assert!(!directory.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn clusters_of_one_template_have_identities_of_their_own_and_recover() {
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let (one, other) = (Cluster::start().unwrap(), Cluster::start().unwrap());
    assert_ne!(one.sql("postgres", identifier).unwrap(), other.sql("postgres", identifier).unwrap());

    let before = one.sql("postgres", identifier).unwrap();
    one.create_database("quoted \" name").unwrap();
    one.sql("quoted \" name", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id; CHECKPOINT").unwrap();
    for stop in [Cluster::kill9, Cluster::stop_immediate, Cluster::stop_fast] {
        one.sql("quoted \" name", "INSERT INTO t VALUES (0)").unwrap();
        stop(&one).unwrap();
        assert!(matches!(one.stop_fast(), Err(Error::NotRunning { .. })));
        one.resume().unwrap();
    }
    one.restart().unwrap();
    assert_eq!(one.sql("quoted \" name", "SELECT count(*) FROM t").unwrap(), "1003");
    assert_eq!(one.sql("postgres", identifier).unwrap(), before);
}

#[test]
fn a_password_is_asked_for_and_given() {
    let cluster = Cluster::builder().password("o'pass \\ word").set("log_min_messages", "log").start().unwrap();
    assert_eq!(cluster.sql("postgres", "SHOW password_encryption").unwrap(), "scram-sha-256");
    assert!(cluster.conninfo("postgres").to_string().ends_with(r"password='o\'pass \\ word'"));
    cluster.write_hba("local all all reject\n").unwrap();
    cluster.restart().unwrap();
    let error = cluster.sql("postgres", "SELECT 1").unwrap_err();
    assert!(error.to_string().contains("pg_hba.conf rejects"), "{error}");
}

#[test]
fn a_server_that_does_not_start_says_why_in_one_line() {
    let error = Cluster::builder().set("no_such_setting", "1").start().unwrap_err();
    assert!(error.to_string().contains("unrecognized configuration parameter"), "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_statement_that_fails_is_an_error_with_its_sqlstate() {
    let cluster = Cluster::start().unwrap();
    let error = cluster.sql("postgres", "SELECT 1; SELECT 1/0; SELECT 2").unwrap_err();
    assert!(error.to_string().contains("22012"), "{error}");
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let cluster = std::thread::spawn(Cluster::start).join().unwrap().unwrap();
    assert_eq!(cluster.sql("postgres", "SELECT 1").unwrap(), "1");
}
