//! The log on a real file system.

use std::sync::Mutex;

use decoder::{PgTimestamp, RelationId, Xid};
use tempfile::TempDir;

use super::*;
use crate::builder::FrameBuilder;
use crate::frame::{Record, TransactionInfo};

fn options(dir: &TempDir, segment_size: u64) -> Options {
    let (database, slot, publication) = ("app".to_owned(), "walcast".to_owned(), "walcast".to_owned());
    Options {
        dir: dir.path().join("log"),
        segment_size,
        retain_min: 0,
        identity: Identity { system_id: 7, timeline: 1, database, slot, publication },
        start: Lsn::from_u64(0x1000),
        on_sync: Arc::new(|_| {}),
    }
}

fn info(end: u64) -> TransactionInfo {
    let (commit_lsn, end_lsn) = (Lsn::from_u64(end - 8), Lsn::from_u64(end));
    TransactionInfo { xid: Xid(end as u32), commit_lsn, end_lsn, commit_time: PgTimestamp(end as i64) }
}

fn add(builder: &mut FrameBuilder, end: u64, rows: &[&[u8]]) {
    builder.begin(&info(end));
    builder.describe(RelationId(1), b"Rtable one");
    rows.iter().for_each(|payload| builder.push(Record { relation: Some(RelationId(1)), payload }));
    builder.commit();
}

/// Everything a cursor yields: (end_lsn, is_first, is_last, number of records).
fn pieces(cursor: &mut Cursor) -> Vec<(u64, bool, bool, usize)> {
    let mut all = Vec::new();
    while let Some(frame) = cursor.next_frame().unwrap() {
        let piece = |piece: crate::frame::Piece<'_>| {
            assert_eq!(piece.records().count(), piece.len());
            (piece.info().end_lsn.as_u64(), piece.is_first(), piece.is_last(), piece.len())
        };
        all.extend(frame.pieces().map(piece));
        all.extend(frame.progress().map(|lsn| (lsn.as_u64(), true, true, 0)));
    }
    all
}

#[test]
fn what_was_appended_is_read_back_also_after_reopening() {
    let dir = TempDir::new().unwrap();
    let synced = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&synced);
    let options = Options { on_sync: Arc::new(move |_| *counted.lock().unwrap() += 1), ..options(&dir, 1 << 16) };
    let (mut writer, log) = open(options.clone()).unwrap();
    assert_eq!(log.positions().durable.lsn(), options.start);
    let mut builder = FrameBuilder::new();
    add(&mut builder, 0x2000, &[b"Ia", b"Ibc"]);
    add(&mut builder, 0x3000, &[]);
    writer.append(&mut builder).unwrap();
    assert!(builder.is_empty());
    writer.append_progress(Lsn::from_u64(0x4000)).unwrap();
    let expected = [(0x2000, true, true, 3), (0x3000, true, true, 1), (0x4000, true, true, 0)];
    let mut cursor = log.cursor(options.start).unwrap();
    assert_eq!(pieces(&mut cursor), expected);
    assert_eq!(writer.close().unwrap().lsn(), Lsn::from_u64(0x4000));
    assert!(*synced.lock().unwrap() > 0);
    assert!(matches!(open(options.clone()), Err(OpenError::Locked { .. })));
    drop((log, cursor));
    let (writer, log) = open(options).unwrap();
    assert_eq!(writer.end_lsn(), Lsn::from_u64(0x4000));
    assert_eq!(pieces(&mut log.cursor(Lsn::from_u64(0x1000)).unwrap()), expected);
    assert!(matches!(log.cursor(Lsn::from_u64(0xFFF)), Err(ReadError::Desync { .. })));
}

#[test]
fn a_transaction_larger_than_segments_is_seen_only_when_it_is_whole() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 19);
    let (mut writer, log) = open(options.clone()).unwrap();
    let mut cursor = log.cursor(options.start).unwrap();
    let mut builder = FrameBuilder::new();
    add(&mut builder, 0x2000, &[b"Ia"]);
    builder.begin(&info(0x3000));
    let row = [b'I'; 1000];
    for _ in 0..3000 {
        builder.push(Record { relation: Some(RelationId(1)), payload: &row });
        if builder.is_full() {
            writer.append(&mut builder).unwrap();
        }
    }
    assert_eq!(pieces(&mut cursor), [(0x2000, true, true, 2)]);
    assert!(log.positions().segments > 4);
    builder.commit();
    add(&mut builder, 0x4000, &[b"Ib"]);
    writer.append(&mut builder).unwrap();
    let seen = pieces(&mut cursor);
    assert_eq!(seen.iter().filter(|piece| piece.0 == 0x3000).map(|piece| piece.3).sum::<usize>(), 3000);
    assert_eq!(seen.first().map(|piece| (piece.1, piece.2)), Some((true, false)));
    assert_eq!(seen.last(), Some(&(0x4000, true, true, 2)));
    // A target that has applied the transaction before must get all of it, one that has applied it none of it.
    let mut before = log.cursor(Lsn::from_u64(0x2FFF)).unwrap();
    assert_eq!(pieces(&mut before).iter().filter(|piece| piece.0 == 0x3000 && piece.1).count(), 1);
    writer.close().unwrap();
    log.trim(Lsn::from_u64(0x3000)).unwrap();
    assert_eq!(log.positions().segments, 1);
    assert_eq!(log.positions().first_lsn, Lsn::from_u64(0x3000));
}
