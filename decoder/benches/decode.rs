//! How long the decoder takes for a row of ten columns, its values looked at: `cargo bench -p decoder`.

use std::hint::black_box;

use decoder::{Change, ColumnValue, Tuple, decode_change};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

const COLUMNS: u16 = 10;
const RELATION: [u8; 4] = 16_384_u32.to_be_bytes();

fn main() {
    divan::main();
}

/// `N`, `K` or `O` and a tuple whose values take turns through `values`.
fn tuple(tag: u8, values: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(COLUMNS.to_be_bytes());
    for (kind, value) in values.iter().cycle().take(usize::from(COLUMNS)) {
        bytes.push(*kind);
        if matches!(kind, b't' | b'b') {
            bytes.extend((value.len() as u32).to_be_bytes());
            bytes.extend(*value);
        }
    }
    bytes
}

fn change(tag: u8, tuples: &[Vec<u8>]) -> Vec<u8> {
    [&[tag], &RELATION[..], &tuples.concat()].concat()
}

const TEXT: [(u8, &[u8]); 5] = [
    (b't', b"4711"),
    (b't', b"2026-01-02 03:04:05.678901+00"),
    (b't', b"12345.67"),
    (b'n', b""),
    (b't', b"order no. 4711"),
];
const BINARY: [(u8, &[u8]); 5] = [
    (b'b', &[0, 0, 0x12, 0x67]),
    (b'b', &[0; 8]),
    (b'b', &[0, 2, 0, 1, 0, 0, 0, 2, 0, 1, 9, 41]),
    (b'n', b""),
    (b'b', b"order"),
];
const UNCHANGED: [(u8, &[u8]); 2] = [(b't', b"4711"), (b'u', b"")];

/// Decodes `message` and looks at every value of its new row.
fn decode(bencher: Bencher, message: &[u8]) {
    bencher.counter(BytesCount::new(message.len())).counter(ItemsCount::new(1_usize)).bench(|| {
        let change = decode_change(black_box(message)).expect("a change");
        match change {
            Change::Insert { new, .. } | Change::Update { new, .. } => length(&new),
            _ => 0,
        }
    });
}

fn length(tuple: &Tuple) -> usize {
    let bytes = |value| match value {
        ColumnValue::Text(bytes) | ColumnValue::Binary(bytes) => bytes.len(),
        ColumnValue::Null | ColumnValue::UnchangedToast => 0,
    };
    tuple.columns().map(bytes).sum()
}

#[divan::bench]
fn insert_text(bencher: Bencher) {
    decode(bencher, &change(b'I', &[tuple(b'N', &TEXT)]));
}

#[divan::bench]
fn insert_binary(bencher: Bencher) {
    decode(bencher, &change(b'I', &[tuple(b'N', &BINARY)]));
}

#[divan::bench]
fn update_with_unchanged_toast(bencher: Bencher) {
    decode(bencher, &change(b'U', &[tuple(b'N', &UNCHANGED)]));
}

#[divan::bench]
fn update_with_whole_old_row(bencher: Bencher) {
    decode(bencher, &change(b'U', &[tuple(b'O', &TEXT), tuple(b'N', &TEXT)]));
}
