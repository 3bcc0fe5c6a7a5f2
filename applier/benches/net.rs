//! How long it takes to net a batch's changes of one table of ten columns, decoding included: `cargo bench -p applier`.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;

/// As many changes as a full batch may have, about.
const CHANGES: u32 = 20_000;
const COLUMNS: u16 = 10;
const RELATION: [u8; 4] = 16_384_u32.to_be_bytes();

fn main() {
    divan::main();
}

/// A row message: its tag, the tuple's, and a row with this key; of a key alone all else is NULL.
fn message(tag: u8, tuple: u8, key: u32) -> Vec<u8> {
    let mut bytes = [&[tag], &RELATION[..], &[tuple], &COLUMNS.to_be_bytes()].concat();
    for column in 0..COLUMNS {
        let value = if column == 0 { key.to_string() } else { format!("value {column} of {key}") };
        if column > 0 && tuple == b'K' {
            bytes.push(b'n');
        } else {
            bytes.push(b't');
            bytes.extend((value.len() as u32).to_be_bytes());
            bytes.extend(value.as_bytes());
        }
    }
    bytes
}

fn net(bencher: Bencher, messages: &[Vec<u8>]) {
    bencher.counter(ItemsCount::new(messages.len())).bench(|| {
        let messages = black_box(messages).iter().map(Vec::as_slice);
        applier::sizes_of_sets(usize::from(COLUMNS), vec![0], messages).expect("changes that can be netted")
    });
}

/// Every row once.
#[divan::bench]
fn inserts(bencher: Bencher) {
    net(bencher, &(0..CHANGES).map(|key| message(b'I', b'N', key)).collect::<Vec<_>>());
}

/// So many rows, again and again.
#[divan::bench(args = [10, 1_000, CHANGES])]
fn updates_of_rows(bencher: Bencher, rows: u32) {
    net(bencher, &(0..CHANGES).map(|n| message(b'U', b'N', n % rows)).collect::<Vec<_>>());
}

/// Each row comes, changes and goes.
#[divan::bench]
fn rows_that_come_and_go(bencher: Bencher) {
    let life = |key| [message(b'I', b'N', key), message(b'U', b'N', key), message(b'D', b'K', key)];
    net(bencher, &(0..CHANGES / 3).flat_map(life).collect::<Vec<_>>());
}
