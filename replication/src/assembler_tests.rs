//! Messages made by hand, where a server cannot be brought to the moment that matters.

use std::sync::Arc;

use super::*;

const CONTEXT: Context = Context { protocol_version: 3, in_stream: false, parallel: false };

/// The payload of a CopyData message with one pgoutput message of these parts.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    [&[b'w'; 1][..], &[0; 24], &parts.concat()].concat()
}

fn begin(xid: u32, commit_lsn: u64) -> Vec<u8> {
    message(&[b"B", &commit_lsn.to_be_bytes(), &[0; 8], &xid.to_be_bytes()])
}

fn commit(commit_lsn: u64) -> Vec<u8> {
    message(&[b"C\0", &commit_lsn.to_be_bytes(), &(commit_lsn + 8).to_be_bytes(), &[0; 8]])
}

/// Relation 7, "public.t" with one column of type bytea.
fn relation() -> Vec<u8> {
    let column = [&b"\x01a\0"[..], &17_u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
    message(&[b"R", &7_u32.to_be_bytes(), b"public\0t\0d", &1_u16.to_be_bytes(), &column])
}

fn insert(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).expect("short").to_be_bytes();
    message(&[b"I", &7_u32.to_be_bytes(), b"N", &1_u16.to_be_bytes(), b"b", &length, &vec![0; bytes]])
}

fn assembler(dir: &Path) -> Assembler {
    let name = || "walcast".to_owned();
    let options = segment_log::Options {
        dir: dir.join("log"),
        segment_size: 1 << 20,
        retain_min: 0,
        identity: segment_log::Identity {
            system_id: 7,
            timeline: 1,
            database: name(),
            slot: name(),
            publication: name(),
        },
        start: Lsn::from_u64(0x1000),
        on_sync: Arc::new(|_| ()),
    };
    let (writer, _) = segment_log::open(options).expect("log opens");
    let mut assembler = Assembler::new(writer, dir, Arc::default(), CancellationToken::new());
    assembler.restart(CONTEXT, true).expect("restarts");
    assembler
}

#[test]
fn f30_a_stop_does_not_wait_for_the_end_of_a_large_transaction() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut assembler = assembler(dir.path());
    for message in [begin(1, 0x2000), relation(), insert(10), commit(0x2000), begin(2, 0x3000)] {
        assembler.take(&message).expect("taken");
    }
    for _ in 0..40 {
        assembler.take(&insert(100_000)).expect("taken");
    }
    assembler.shutdown.cancel();
    let stopped = assembler.take(&commit(0x3000));
    assert!(matches!(stopped, Err(ReplicationError::Stopped)), "{stopped:?}");
    assert_eq!(assembler.end, Lsn::from_u64(0x2008));
}

#[test]
fn f26_descriptions_are_forgotten_between_connections_and_bounded_within_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut assembler = assembler(dir.path());
    assembler.descriptions_max = 10;
    for message in [begin(1, 0x2000), relation(), insert(10)] {
        assembler.take(&message).expect("taken");
    }
    assembler.settle().expect("the transaction is open");
    assembler.take(&commit(0x2000)).expect("taken");
    let full = assembler.settle();
    assert!(matches!(full, Err(ReplicationError::ManyRelations { .. })), "{full:?}");
    assert_eq!(assembler.restart(CONTEXT, true).expect("restarts"), Lsn::from_u64(0x2008));
    assembler.settle().expect("nothing is described");
    assembler.take(&begin(2, 0x3000)).expect("taken");
    let unknown = assembler.take(&insert(10));
    assert!(matches!(unknown, Err(ReplicationError::UnknownRelation { .. })), "{unknown:?}");
}
