//! Messages made by hand, where a server cannot be brought to the moment that matters.

use std::sync::Arc;

use super::*;
use crate::schema_names::Renamed;
use crate::signature::tests::{key, signed};

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
    assembler_and_log(dir).0
}

fn assembler_and_log(dir: &Path) -> (Assembler, segment_log::Log) {
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
    let (writer, log) = segment_log::open(options).expect("log opens");
    let keeper = Keeper::new(Box::new(|| panic!("the key is known")), Arc::default(), CancellationToken::new());
    let schemas = SchemaNames::read(dir.join("renamed_schemas")).expect("names");
    let mut assembler = Assembler::new(writer, dir, schemas, keeper, Arc::default(), CancellationToken::new());
    assembler.restart(CONTEXT, true, known(), Lsn::ZERO).expect("restarts");
    (assembler, log)
}

/// A key as of a position that no test reaches.
fn known() -> Reading {
    Reading { key: Some(key(1)), as_of: Lsn::MAX }
}

/// A transactional message with walcast's prefix.
fn logical(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    message(&[b"M\x01", &[1; 8], b"walcast\0", &length, content])
}

/// Each transaction in the log: its records, and whether it is said to have messages.
fn logged(assembler: &mut Assembler, log: &segment_log::Log) -> Vec<(Vec<Vec<u8>>, bool)> {
    assembler.settle().expect("settled");
    let mut cursor = log.cursor(Lsn::from_u64(0x1000)).expect("cursor");
    let mut all = Vec::new();
    while let Some(frame) = cursor.next_frame().expect("readable") {
        let records = |piece: &segment_log::Piece<'_>| piece.records().map(|record| record.payload.to_vec()).collect();
        all.extend(frame.pieces().map(|piece| (records(&piece), piece.has_messages())));
    }
    all
}

/// The tags of records.
fn tags(records: &[Vec<u8>]) -> String {
    records.iter().filter_map(|record| record.first()).map(|tag| char::from(*tag)).collect()
}

#[test]
fn x08_a_message_reaches_the_log_only_in_the_transaction_it_was_signed_for() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    let ours = logical(&signed(&key(1), r#"{"v": 1, "xid": "1"}"#));
    let forged = logical(&signed(&key(2), r#"{"v": 1, "xid": "1"}"#));
    let marker = logical(b"");
    for message in [begin(1, 0x2000), relation(), insert(10), ours.clone(), insert(10), forged, commit(0x2000)] {
        assembler.take(&message).expect("taken");
    }
    for message in [begin(2, 0x3000), insert(10), ours, commit(0x3000), begin(3, 0x4000), marker, commit(0x4000)] {
        assembler.take(&message).expect("taken");
    }
    let found = logged(&mut assembler, &log);
    let found: Vec<_> = found.iter().map(|(records, flag)| (tags(records), *flag)).collect();
    assert_eq!(found, [("RIMI", true), ("I", false), ("M", false)].map(|(tags, flag)| (tags.to_owned(), flag)));
}

#[test]
fn lateness_is_from_the_last_commit_to_its_being_sent_by_the_sources_clock() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut assembler = assembler(dir.path());
    // Begin has the commit's time behind the position.
    let begin = |commit_time: u64| {
        message(&[b"B", &0x2000_u64.to_be_bytes(), &commit_time.to_be_bytes(), &1_u32.to_be_bytes()])
    };
    let sent = |mut message: Vec<u8>, at: u64| {
        message[17..25].copy_from_slice(&at.to_be_bytes());
        message
    };
    for (commit_time, sent_at, late_by) in [(1_000, 8_000, 7_000), (9_000, 8_000, 0), (u64::MAX, 0, 1)] {
        assembler.take(&begin(commit_time)).expect("taken");
        assembler.take(&sent(commit(0x2000), sent_at)).expect("taken");
        assert_eq!(assembler.lateness(), Duration::from_micros(late_by), "{commit_time} {sent_at}");
    }
    let origin = message(&[b"O", &[0; 8], b"upstream\0"]);
    for message in [begin(1_000), origin, sent(commit(0x2000), 8_000)] {
        assembler.take(&message).expect("taken");
    }
    assert_eq!(assembler.lateness(), Duration::ZERO, "dated elsewhere");
}

/// A message of a stream, as the server sends it: with the transaction's xid, whatever subtransaction wrote it.
fn streamed(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    message(&[b"M", &5_u32.to_be_bytes(), b"\x01", &[1; 8], b"walcast\0", &length, content])
}

#[test]
fn d32_a_streamed_message_goes_with_the_subtransaction_that_wrote_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    let signed = |subxid: u32| streamed(&signed(&key(1), &format!(r#"{{"xid": "5", "subxid": "{subxid}"}}"#)));
    let start = message(&[b"S", &5_u32.to_be_bytes(), b"\x01"]);
    let rolled_back = message(&[b"A", &5_u32.to_be_bytes(), &6_u32.to_be_bytes()]);
    let commit =
        message(&[b"c", &5_u32.to_be_bytes(), b"\0", &0x2000_u64.to_be_bytes(), &0x2008_u64.to_be_bytes(), &[0; 8]]);
    for message in [start, signed(5), signed(6), signed(7), message(&[b"E"]), rolled_back, commit] {
        assembler.take(&message).expect("taken");
    }
    let found = logged(&mut assembler, &log);
    let [(records, true)] = found.as_slice() else { panic!("one transaction with messages, {found:?}") };
    let ends: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record[record.len() - 3..])).collect();
    assert_eq!(ends, ["5\"}", "7\"}"]);
}

/// Relation 9, a table of walcast's own.
fn own_relation() -> Vec<u8> {
    let column = [&b"\x01a\0"[..], &17_u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
    message(&[b"R", &9_u32.to_be_bytes(), b"walcast\0secret\0d", &1_u16.to_be_bytes(), &column])
}

#[test]
fn x12_rows_of_walcasts_own_tables_do_not_reach_the_log() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    let secret = message(&[b"I", &9_u32.to_be_bytes(), b"N", &1_u16.to_be_bytes(), b"b", &3_u32.to_be_bytes(), b"key"]);
    let truncate = |ids: &[u32]| {
        let ids = ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>();
        message(&[b"T", &u32::try_from(ids.len() / 4).expect("few").to_be_bytes(), b"\x03", &ids])
    };
    for message in [begin(1, 0x2000), own_relation(), secret, truncate(&[9]), commit(0x2000)] {
        assembler.take(&message).expect("taken");
    }
    for message in [begin(2, 0x3000), relation(), insert(10), truncate(&[9, 7]), commit(0x3000)] {
        assembler.take(&message).expect("taken");
    }
    let found = logged(&mut assembler, &log);
    let [(records, false)] = found.as_slice() else { panic!("one transaction, {found:?}") };
    assert_eq!(tags(records), "RIT");
    assert_eq!(records[2], b"T\0\0\0\x01\x03\0\0\0\x07");
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
    assembler.appender.stop();
    let stopped = assembler.take(&commit(0x3000));
    assert!(matches!(stopped, Err(ReplicationError::Stopped)), "{stopped:?}");
    assert_eq!(assembler.appender.end(), Lsn::from_u64(0x2008));
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
    assert_eq!(assembler.restart(CONTEXT, true, known(), Lsn::ZERO).expect("restarts"), Lsn::from_u64(0x2008));
    assembler.settle().expect("nothing is described");
    assembler.take(&begin(2, 0x3000)).expect("taken");
    let unknown = assembler.take(&insert(10));
    assert!(matches!(unknown, Err(ReplicationError::UnknownRelation { .. })), "{unknown:?}");
}

/// Relation 7 as it is called in the schema, and a row at `at`; of a streamed transaction if that has an xid.
fn described(at: u64, xid: Option<u32>, schema: &str) -> [Vec<u8>; 2] {
    let column = [&b"\x01a\0"[..], &17_u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
    let xid = xid.map_or(Vec::new(), |xid| xid.to_be_bytes().to_vec());
    let name = [schema.as_bytes(), b"\0t\0d"].concat();
    let relation = message(&[b"R", &xid, &7_u32.to_be_bytes(), &name, &1_u16.to_be_bytes(), &column]);
    let mut row = message(&[b"I", &xid, &7_u32.to_be_bytes(), b"N", &1_u16.to_be_bytes(), b"n"]);
    row[1..9].copy_from_slice(&at.to_be_bytes());
    [relation, row]
}

/// Transaction 1, which renames schema a and commits at 0x2000.
fn renamer() -> [Vec<u8>; 3] {
    let names = r#"{"class": "pg_namespace", "before": {"name": "a"}, "after": {"name": "b"}}"#;
    let renames = signed(&key(1), &format!(r#"{{"v": 1, "xid": "1", "changes": [{names}]}}"#));
    [begin(1, 0x2000), logical(&renames), commit(0x2000)]
}

/// The schemas of all descriptions in the log.
fn schemas(assembler: &mut Assembler, log: &segment_log::Log) -> Vec<String> {
    let all = logged(assembler, log).into_iter().flat_map(|(records, _)| records);
    let schema = |record: &Vec<u8>| {
        let end = record[5..].iter().position(|byte| *byte == 0).expect("a name ends");
        String::from_utf8_lossy(&record[5..5 + end]).into_owned()
    };
    all.filter(|record| record.first() == Some(&b'R')).map(|record| schema(&record)).collect()
}

fn take_all(assembler: &mut Assembler, messages: &[&[Vec<u8>]]) {
    messages.iter().copied().flatten().for_each(|message| assembler.take(message).expect("taken"));
}

#[test]
fn d11_a_description_of_before_a_rename_has_the_new_name_after_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    take_all(&mut assembler, &[&renamer()]);
    take_all(&mut assembler, &[&[begin(2, 0x3000)], &described(0x1500, None, "a"), &[commit(0x3000)]]);
    // Another table, or this one after one more rename that waits for its turn.
    take_all(&mut assembler, &[&[begin(3, 0x4000)], &described(0x3500, None, "a"), &[commit(0x4000)]]);
    assert_eq!(schemas(&mut assembler, &log), ["b", "a"]);
}

#[test]
fn d11_so_has_one_that_was_streamed_before_the_rename() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    let start = |first: u8| message(&[b"S", &5_u32.to_be_bytes(), &[first]]);
    let commit =
        message(&[b"c", &5_u32.to_be_bytes(), b"\0", &0x3000_u64.to_be_bytes(), &0x3008_u64.to_be_bytes(), &[0; 8]]);
    take_all(&mut assembler, &[&[start(1)], &described(0x1500, Some(5), "a"), &[message(&[b"E"])]]);
    take_all(&mut assembler, &[&renamer()]);
    take_all(&mut assembler, &[&[start(0)], &described(0x2500, Some(5), "b"), &[message(&[b"E"]), commit]]);
    assert_eq!(schemas(&mut assembler, &log), ["b", "b"]);
}

#[test]
fn d11_what_the_open_transaction_made_itself_is_called_as_it_says() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    let made = r#"{"class": "pg_class", "oid": 7, "before": null, "after": {"name": "t", "schema": "a"}}"#;
    let made = logical(&signed(&key(1), &format!(r#"{{"v": 1, "xid": "2", "changes": [{made}]}}"#)));
    take_all(&mut assembler, &[&renamer()]);
    take_all(&mut assembler, &[&[begin(2, 0x3000), made], &described(0x1500, None, "a"), &[commit(0x3000)]]);
    assert_eq!(schemas(&mut assembler, &log), ["a"]);
}

#[test]
fn d11_renames_that_nobody_needs_any_more_are_forgotten_by_a_new_connection() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut assembler = assembler(dir.path());
    let many = vec![Renamed { schemas: vec![("a".to_owned(), "b".to_owned())], made: Vec::new() }; 1001];
    assembler.schemas.add(Lsn::from_u64(0x800), &many).expect("written");
    let crowded = assembler.settle();
    assert!(matches!(crowded, Err(ReplicationError::ManyRenames { count: 1001 })), "{crowded:?}");
    assembler.restart(CONTEXT, true, known(), Lsn::from_u64(0x700)).expect("all are needed");
    assembler.settle().expect("which is known now");
    assembler.restart(CONTEXT, true, known(), Lsn::from_u64(0x800)).expect("none is needed");
    assert!(assembler.schemas.is_empty());
}

#[test]
fn d11_a_rename_is_remembered_by_the_next_connection_and_the_next_process() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut assembler, log) = assembler_and_log(dir.path());
    take_all(&mut assembler, &[&[begin(9, 0x1800)], &described(0x1200, None, "a"), &[commit(0x1800)]]);
    take_all(&mut assembler, &[&renamer()]);
    let [relation, row] = described(0x1500, None, "a");
    let open = [begin(2, 0x3000), relation, row];
    take_all(&mut assembler, &[&open]);
    assert_eq!(assembler.restart(CONTEXT, true, known(), Lsn::from_u64(0x1100)).expect("again").as_u64(), 0x2008);
    assembler.schemas = SchemaNames::read(dir.path().join("renamed_schemas")).expect("names");
    take_all(&mut assembler, &[&open]);
    take_all(&mut assembler, &[&[commit(0x3000)]]);
    assert_eq!(schemas(&mut assembler, &log), ["a", "b"]);
    assembler.restart(CONTEXT, true, known(), Lsn::from_u64(0x2000)).expect("again");
    assert!(assembler.schemas.is_empty());
}
