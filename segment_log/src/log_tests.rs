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

#[test]
fn pieces_with_messages_are_told_from_others_also_where_frames_are_split() {
    let dir = TempDir::new().unwrap();
    let (mut writer, log) = open(options(&dir, 1 << 19)).unwrap();
    let mut builder = FrameBuilder::new();
    add(&mut builder, 0x2000, &[b"Ia"]);
    builder.begin(&info(0x3000));
    builder.push_message(b"Mone");
    builder.commit();
    // The transaction that is open has its message before it is split off the whole ones, and in its first piece only.
    builder.begin(&info(0x4000));
    builder.push_message(b"Mtwo");
    for _ in 0..2 {
        builder.push(Record { relation: None, payload: &[b'O'; 2000] });
        assert!(builder.is_full());
        writer.append(&mut builder).unwrap();
    }
    builder.commit();
    writer.append(&mut builder).unwrap();
    let mut cursor = log.cursor(Lsn::from_u64(0x1000)).unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = cursor.next_frame().unwrap() {
        seen.extend(frame.pieces().map(|piece| (piece.info().end_lsn.as_u64(), piece.has_messages(), piece.is_last())));
    }
    let expected = [
        (0x2000, false, true),
        (0x3000, true, true),
        (0x4000, true, false),
        (0x4000, false, false),
        (0x4000, false, true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_limit_never_falls_into_a_transaction() {
    let dir = TempDir::new().unwrap();
    let (mut writer, log) = open(options(&dir, 1 << 19)).unwrap();
    let mut builder = FrameBuilder::new();
    let row = [b'I'; 1000];
    add(&mut builder, 0x2000, &[&row[..]; 300]);
    writer.append(&mut builder).unwrap();
    add(&mut builder, 0x3000, &[&row[..]; 300]);
    writer.append(&mut builder).unwrap();
    builder.begin(&info(0x4000));
    builder.describe(RelationId(1), b"Rtable one");
    for _ in 0..3000 {
        builder.push(Record { relation: Some(RelationId(1)), payload: &row });
        if builder.is_full() {
            writer.append(&mut builder).unwrap();
            assert!(log.first_lsn_within(1 << 19) <= Lsn::from_u64(0x3000));
        }
    }
    builder.commit();
    writer.append(&mut builder).unwrap();
    assert!(log.positions().segments > 4);
    assert_eq!(log.first_lsn_within(1 << 19), Lsn::from_u64(0x2000), "the transaction begins behind another one");
    add(&mut builder, 0x5000, &[&row[..]; 300]);
    writer.append(&mut builder).unwrap();
    add(&mut builder, 0x6000, &[&row[..]; 300]);
    writer.append(&mut builder).unwrap();
    assert!(log.first_lsn_within(1 << 19) >= Lsn::from_u64(0x4000), "the limit is behind the transaction");
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 16);
    let path = options.dir.clone();
    drop(open(options.clone()).unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    for open_mode in [0o750, 0o701] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(open_mode)).unwrap();
        let error = open(options.clone()).err().unwrap();
        assert!(error.to_string().ends_with(&format!("has mode {open_mode:04o}, expected 0700")), "{error}");
        assert_eq!(error.class(), crate::error::Class::Definite);
    }
    std::fs::remove_dir_all(&path).unwrap();
    std::os::unix::fs::symlink("/", &path).unwrap();
    assert!(open(options.clone()).err().unwrap().to_string().ends_with("is not a directory"));
    std::fs::remove_file(&path).unwrap();
    drop(open(options).unwrap());
}

#[test]
fn a_segment_that_is_a_symbolic_link_is_not_followed() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 16);
    drop(open(options.clone()).unwrap());
    let segment = options.dir.join("0000000000000001-0000000000001000.seg");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&segment, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &segment).unwrap();
    assert!(matches!(open(options), Err(OpenError::Io(_))));
}

#[test]
fn damage_is_noticed_through_the_map_and_names_file_and_offset() {
    use std::os::unix::fs::FileExt;
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 16);
    let (mut writer, log) = open(options.clone()).unwrap();
    let mut builder = FrameBuilder::new();
    add(&mut builder, 0x2000, &[b"Ia"]);
    writer.append(&mut builder).unwrap();
    let path = options.dir.join("0000000000000001-0000000000001000.seg");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 4096 + 70).unwrap();
    let mut cursor = log.cursor(options.start).unwrap();
    let Err(ReadError::Damage(damage)) = cursor.next_frame() else { panic!("damage was read") };
    assert_eq!((damage.path, damage.offset), (path, 4096));
}

/// Writes with the syncer's thread while readers tail, an inspector looks, and the oldest segments are recycled.
#[test]
fn readers_and_inspectors_keep_up_with_a_writer_that_recycles() {
    const LAST: u64 = 0x1000 + 16 * 4000;
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 16);
    let (mut writer, log) = open(options.clone()).unwrap();
    let reader = {
        let log = log.clone();
        std::thread::spawn(move || tail_and_trim(&log, LAST))
    };
    let inspector = {
        let dir = options.dir.clone();
        std::thread::spawn(move || {
            let mut looked = 0;
            while looked < 20 {
                let report = crate::inspect::inspect(&dir).unwrap().check().unwrap();
                assert!(report.problems.is_empty(), "{:?}", report.problems);
                looked += 1;
            }
        })
    };
    let mut builder = FrameBuilder::new();
    for end in (0x1010..=LAST).step_by(16) {
        add(&mut builder, end, &[&[b'I'; 300], &end.to_le_bytes()]);
        writer.append(&mut builder).unwrap();
    }
    reader.join().unwrap();
    inspector.join().unwrap();
    assert_eq!(writer.close().unwrap().lsn().as_u64(), LAST);
}

fn tail_and_trim(log: &Log, last: u64) {
    let mut watch = log.watch();
    let mut cursor = log.cursor(log.positions().first_lsn).unwrap();
    let mut expected = 0x1010;
    while expected <= last {
        watch.mark_unchanged();
        for (end, ..) in pieces(&mut cursor) {
            assert_eq!(end, expected);
            expected += 16;
        }
        log.trim(Lsn::from_u64(expected - 16)).unwrap();
        if expected <= last && log.positions().appended_lsn.as_u64() < expected {
            wait(&mut watch);
        }
    }
    assert!(log.positions().first_lsn.as_u64() > 0x1000);
}

fn wait(watch: &mut watch::Receiver<Positions>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(watch.changed()).unwrap();
}

#[test]
fn trimming_leaves_what_is_to_be_retained() {
    let dir = TempDir::new().unwrap();
    let options = Options { retain_min: 3 << 13, ..options(&dir, 1 << 13) };
    let (mut writer, log) = open(options).unwrap();
    let mut builder = FrameBuilder::new();
    for end in (0x2000..0x2200).step_by(16) {
        add(&mut builder, end, &[&[b'I'; 1500]]);
        writer.append(&mut builder).unwrap();
    }
    let before = log.positions();
    assert!(before.segments > 8);
    let mut watch = log.watch();
    while watch.borrow_and_update().durable.lsn() < writer.end_lsn() {
        wait(&mut watch);
    }
    log.trim(Lsn::from_u64(0x1FFF)).unwrap();
    assert_eq!(log.positions().segments, before.segments);
    log.trim(Lsn::MAX).unwrap();
    let after = log.positions();
    assert_eq!((after.segments, after.bytes), (3, 3 << 13));
    let error = log.cursor(Lsn::from_u64(0x2000)).err().unwrap();
    assert!(matches!(error, ReadError::Desync { first_lsn, .. } if first_lsn == after.first_lsn));
}

#[test]
fn an_inspector_sees_what_the_log_holds_while_it_is_open() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir, 1 << 13);
    let (mut writer, log) = open(options.clone()).unwrap();
    let mut builder = FrameBuilder::new();
    for end in (0x2000..0x2080).step_by(16) {
        add(&mut builder, end, &[&[b'I'; 1500]]);
        writer.append(&mut builder).unwrap();
    }
    let inspector = crate::inspect::inspect(&options.dir).unwrap();
    assert_eq!(inspector.identity(), Some(log.identity()));
    let (_, overview) = crate::inspect::overview(&options.dir).unwrap().unwrap();
    assert_eq!((overview.first_lsn, overview.end_lsn), (options.start, Lsn::from_u64(0x2070)));
    let frames: Vec<_> = inspector.frames(Lsn::from_u64(0x2030), Lsn::from_u64(0x2050)).collect();
    let ends: Vec<u64> =
        frames.iter().flat_map(|frame| frame.as_ref().unwrap().pieces()).map(|p| p.info().end_lsn.as_u64()).collect();
    assert!(ends.contains(&0x2040) && ends.contains(&0x2050) && !ends.contains(&0x2060), "{ends:x?}");
    let report = inspector.check().unwrap();
    assert!(report.problems.is_empty());
    assert_eq!(report.segments.iter().map(|segment| segment.transactions).sum::<u64>(), 8);
    assert_eq!(report.segments.len() as u64, log.positions().segments);
    assert_eq!(report.segments.iter().filter(|segment| !segment.sealed).count(), 1);
    assert_eq!(report.segments.last().unwrap().last_lsn, Lsn::from_u64(0x2070));
}

#[test]
fn a_change_of_a_relation_that_nobody_described_is_an_error() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _log) = open(options(&dir, 1 << 16)).unwrap();
    let mut builder = FrameBuilder::new();
    builder.begin(&info(0x2000));
    builder.push_truncate(&[RelationId(5)], b"T");
    builder.commit();
    let error = writer.append(&mut builder).unwrap_err();
    assert!(matches!(error, crate::error::AppendError::Undescribed { relation: RelationId(5) }));
}

#[test]
fn transactions_out_of_order_are_an_error() {
    let dir = TempDir::new().unwrap();
    let (mut writer, _log) = open(options(&dir, 1 << 16)).unwrap();
    for ends in [[0x1000, 0x2000], [0x3000, 0x2000]] {
        let mut builder = FrameBuilder::new();
        ends.into_iter().for_each(|end| add(&mut builder, end, &[]));
        assert!(matches!(writer.append(&mut builder), Err(crate::error::AppendError::Order { .. })));
    }
    assert_eq!(writer.end_lsn(), Lsn::from_u64(0x1000));
}
