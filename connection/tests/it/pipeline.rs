//! Large pipelines and replication streams.

use cluster::Cluster;
use connection::Wire;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::support::{tcp, unix, wire};

const STATEMENTS: usize = 100_000;

/// Each answer is larger than its question: both directions fill up unless both are served.
#[tokio::test]
async fn a_pipeline_larger_than_every_buffer_does_not_deadlock() {
    let cluster = Cluster::start().unwrap();
    for info in [tcp(&cluster), unix(&cluster)] {
        let mut wire = wire(&info).await;
        frontend::parse("s", "SELECT pg_catalog.repeat($1, 30)", [25], wire.out()).unwrap();
        for number in 0..STATEMENTS {
            let bound = frontend::bind(
                "",
                "s",
                [0],
                [number.to_string()],
                |value, out| {
                    out.extend_from_slice(value.as_bytes());
                    Ok(IsNull::No)
                },
                [0],
                wire.out(),
            );
            assert!(bound.is_ok());
            frontend::execute("", 0, wire.out()).unwrap();
        }
        frontend::sync(wire.out());
        let (mut rows, mut complete) = (0, 0);
        loop {
            let message = wire.next_message().await.unwrap();
            match message.tag {
                b'D' => {
                    let value = connection::data_row(message.body).next().unwrap().unwrap();
                    assert_eq!(value, rows.to_string().repeat(30).as_bytes());
                    rows += 1;
                }
                b'C' => complete += connection::command_tag_rows(message.body),
                b'Z' => break,
                b'1' | b'2' => {}
                tag => panic!("unexpected message '{}'", char::from(tag)),
            }
        }
        assert_eq!((rows, complete), (STATEMENTS, STATEMENTS as u64));
    }
}

/// CopyBoth through the two halves: status updates go out while the stream comes in.
#[tokio::test]
async fn a_replication_stream_runs_through_the_two_halves() {
    let cluster = Cluster::start().unwrap();
    let settings = [&[("replication", "database")], connection::PINNED_SETTINGS].concat();
    for info in [tcp(&cluster), unix(&cluster)] {
        let mut wire = Wire::connect(&info, &settings).await.unwrap();
        let slot = "CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding NOEXPORT_SNAPSHOT";
        assert_eq!(wire.simple_query(slot).await.unwrap()[0][0].as_deref(), Some("s"));
        frontend::query("START_REPLICATION SLOT s LOGICAL 0/0 (\"skip-empty-xacts\" '1')", wire.out()).unwrap();
        assert_eq!(wire.next_message().await.unwrap().tag, b'W');
        let (mut reader, mut writer) = wire.into_parts();
        cluster.sql("postgres", "DROP TABLE IF EXISTS t; CREATE TABLE t (a int)").unwrap();
        cluster.sql("postgres", "INSERT INTO t SELECT generate_series(1, 20000)").unwrap();

        let mut inserts = 0;
        while inserts < 20_000 {
            reader.fill().await.unwrap();
            let messages = reader.take_messages().unwrap();
            let mut rest = &messages[..];
            while let Some(total) = connection::first_message_len(rest).unwrap() {
                assert_eq!(rest[0], b'd');
                // 'w', two positions and a time come before what the output plugin wrote.
                inserts += usize::from(rest[5] == b'w' && rest[30..total].starts_with(b"table public.t: INSERT"));
                rest = &rest[total..];
            }
            assert!(rest.is_empty());
        }
        assert_eq!(inserts, 20_000);
        frontend::copy_done(writer.out());
        assert!(writer.has_unsent());
        writer.flush().await.unwrap();
        assert!(!writer.has_unsent());
        let mut seen = Vec::new();
        while seen.last() != Some(&b'Z') {
            reader.fill().await.unwrap();
            let messages = reader.take_messages().unwrap();
            let mut rest = &messages[..];
            while let Some(total) = connection::first_message_len(rest).unwrap() {
                seen.push(rest[0]);
                rest = &rest[total..];
            }
        }
        assert!(seen.contains(&b'c') && seen.contains(&b'C'), "{seen:?}");
    }
}

/// A message far larger than the buffer, and a future of `fill` and `next_message` dropped again and again meanwhile.
#[tokio::test]
async fn a_large_message_arrives_whole_however_often_the_wait_is_given_up() {
    let cluster = Cluster::start().unwrap();
    let mut wire = wire(&tcp(&cluster)).await;
    frontend::query("SELECT pg_catalog.repeat('x', 60000000), 'end'", wire.out()).unwrap();
    let mut given_up = 0_u64;
    let mut lengths = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            message = wire.next_message() => Some(message.unwrap()),
            () = tokio::task::yield_now() => None,
        };
        match next {
            None => given_up += 1,
            Some(message) if message.tag == b'D' => {
                lengths.extend(connection::data_row(message.body).map(|value| value.unwrap().len()));
            }
            Some(message) if message.tag == b'Z' => break,
            Some(_) => {}
        }
    }
    assert_eq!(lengths, [60_000_000, 3]);
    assert!(given_up > 0);
}
