//! How fast the log is written and read: `cargo bench -p segment_log`. The disk is that of the system's temporary files;
//! what the syncer does goes on beside the appends, as in the service.

use std::path::Path;
use std::sync::Arc;

use decoder::{Lsn, PgTimestamp, RelationId, Xid};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use segment_log::{FrameBuilder, Identity, Log, Options, Record, TransactionInfo, Writer};

const START: u64 = 0x1000;
/// Of a row of ten columns.
const ROW_BYTES: usize = 150;
/// Far more than a frame.
const TRANSACTIONS: u64 = 50_000;

fn main() {
    divan::main();
}

fn open(dir: &Path) -> (Writer, Log) {
    let [database, slot, publication] = ["bench"; 3].map(str::to_owned);
    let options = Options {
        dir: dir.join("log"),
        segment_size: 64 << 20,
        retain_min: 0,
        identity: Identity { system_id: 7, timeline: 1, database, slot, publication },
        start: Lsn::from_u64(START),
        on_sync: Arc::new(|_| {}),
    };
    segment_log::open(options).expect("a log")
}

fn info(number: u64) -> TransactionInfo {
    let at = START + 0x100 + number * 0x100;
    TransactionInfo {
        xid: Xid(number as u32),
        commit_lsn: Lsn::from_u64(at),
        end_lsn: Lsn::from_u64(at + 0x30),
        commit_time: PgTimestamp(0),
    }
}

/// Appends transactions of `rows` rows each, from number `first` on, in frames as the receiver makes them.
fn append(writer: &mut Writer, builder: &mut FrameBuilder, first: u64, transactions: u64, rows: usize) {
    let row = [b'I'; ROW_BYTES];
    for number in first..first + transactions {
        builder.begin(&info(number));
        for _ in 0..rows {
            builder.push(Record { relation: Some(RelationId(16_384)), payload: &row });
        }
        builder.commit();
        if builder.is_full() {
            writer.append(builder).expect("appended");
        }
    }
    if !builder.is_empty() {
        writer.append(builder).expect("appended");
    }
}

#[divan::bench(args = [1, 10], sample_count = 20, sample_size = 1)]
fn append_transactions_of(bencher: Bencher, rows: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, log) = open(dir.path());
    let mut builder = FrameBuilder::new();
    describe(&mut writer, &mut builder);
    let transactions = TRANSACTIONS / rows as u64;
    let mut first = 1;
    let count = (transactions * rows as u64) as usize;
    bencher.counter(ItemsCount::new(count)).counter(BytesCount::new(count * ROW_BYTES)).bench_local(|| {
        append(&mut writer, &mut builder, first, transactions, rows);
        first += transactions;
        log.trim(log.positions().durable.lsn()).expect("trimmed");
    });
}

/// The relation that all rows are of.
fn describe(writer: &mut Writer, builder: &mut FrameBuilder) {
    let relation = [&b"R"[..], &16_384_u32.to_be_bytes(), b"public\0", b"t\0", b"d", &0_u16.to_be_bytes()].concat();
    builder.begin(&info(0));
    builder.describe(RelationId(16_384), &relation);
    builder.commit();
    writer.append(builder).expect("appended");
}

#[divan::bench(args = [1, 10], sample_count = 20, sample_size = 1)]
fn read_transactions_of(bencher: Bencher, rows: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, log) = open(dir.path());
    let mut builder = FrameBuilder::new();
    describe(&mut writer, &mut builder);
    append(&mut writer, &mut builder, 1, TRANSACTIONS / rows as u64, rows);
    let count = TRANSACTIONS as usize / rows * rows;
    bencher.counter(ItemsCount::new(count)).counter(BytesCount::new(count * ROW_BYTES)).bench_local(|| {
        let bytes = read(&log);
        assert!(bytes > count * ROW_BYTES, "only {bytes} bytes were read");
        bytes
    });
}

/// All frames from the beginning on, checked; gives the bytes of their records.
fn read(log: &Log) -> usize {
    let mut cursor = log.cursor(Lsn::from_u64(START)).expect("a cursor");
    let mut bytes = 0;
    while let Some(frame) = cursor.next_frame().expect("a frame") {
        let records = frame.pieces().map(|piece| piece.records().map(|record| record.payload.len()).sum::<usize>());
        bytes += records.sum::<usize>();
    }
    bytes
}
