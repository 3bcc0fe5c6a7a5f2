//! Large pipelines and replication streams.

use cluster::Cluster;
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
