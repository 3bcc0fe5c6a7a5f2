//! Bytes that no server sends: nothing may panic, and what is accepted must be consistent.

use decoder::{Change, Context, DecodeError, Message, OldTuple, Tuple, decode, decode_change, split_change};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::files::messages;
use crate::format::Recorded;
use crate::random_cases;

fn contexts() -> impl Strategy<Value = Context> {
    (1..=4u32, any::<bool>(), any::<bool>()).prop_map(|(protocol_version, in_stream, parallel)| Context {
        protocol_version,
        in_stream,
        parallel,
    })
}

/// Decodes and looks at everything that came out.
fn exercise(bytes: &[u8], context: Context) {
    match decode(bytes, context) {
        Ok(message) => {
            walk(&message);
            assert!(!format!("{message:?}").is_empty());
        }
        Err(error) => check_error(&error, bytes),
    }
    let parts = split_change(bytes, context);
    assert!(parts.is_ok() || decode(bytes, context).is_err());
    if let Err(error) = decode_change(bytes) {
        check_error(&error, bytes);
    }
}

fn check_error(error: &DecodeError, bytes: &[u8]) {
    assert_eq!(error.tag(), bytes.first().copied());
    assert!(error.offset() <= bytes.len(), "{error}: offset beyond {} bytes", bytes.len());
    assert!(!error.to_string().contains('\n'));
}

fn walk(message: &Message<'_>) {
    let Message::Change { change, .. } = message else { return };
    let tuples = match change {
        Change::Insert { new, .. } => [Some(*new), None],
        Change::Update { old, new, .. } => [old.map(tuple), Some(*new)],
        Change::Delete { old, .. } => [Some(tuple(*old)), None],
        _ => [None, None],
    };
    for tuple in tuples.into_iter().flatten() {
        assert_eq!(tuple.columns().len(), tuple.len());
        assert_eq!(tuple.columns().count(), tuple.len());
        assert!(tuple.byte_len() >= tuple.len());
    }
}

fn tuple(old: OldTuple<'_>) -> Tuple<'_> {
    match old {
        OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    Swap(Index, Index),
}

fn damages() -> impl Strategy<Value = Damage> {
    // Bytes that mean something somewhere in a message come up more often than by chance.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"\0\x01\x7F\x80\xFFNKOnutbdfiRIUDTMSEcAbPKrpBCOY"[..])];
    prop_oneof![
        4 => (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        2 => (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => any::<Index>().prop_map(Damage::Remove),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Damage::Set(at, byte) => bytes[at.index(length)] = *byte,
            Damage::Flip(at, mask) => bytes[at.index(length)] ^= mask,
            Damage::Insert(at, byte) => bytes.insert(at.index(length + 1), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(length))),
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Swap(a, b) => bytes.swap(a.index(length), b.index(length)),
        }
    }
}

/// A recorded message, damaged a few times.
pub(crate) fn damaged() -> impl Strategy<Value = (Context, Vec<u8>)> {
    (prop::sample::select(short_messages()), vec(damages(), 1..5)).prop_map(|((context, mut bytes), damage)| {
        damage.iter().for_each(|damage| damage.apply(&mut bytes));
        (context, bytes)
    })
}

/// In the long ones damage would nearly always hit the one long value.
fn short_messages() -> Vec<(Context, Vec<u8>)> {
    let short = messages().into_iter().filter(|message| message.bytes.len() < 1000);
    short.map(|Recorded { context, bytes, .. }| (context, bytes)).collect()
}

proptest! {
    #![proptest_config(random_cases(20_000))]

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..80), context in contexts()) {
        exercise(&bytes, context);
    }

    #[test]
    fn damaged_messages_never_panic((context, bytes) in damaged(), other in contexts()) {
        exercise(&bytes, context);
        exercise(&bytes, other);
    }
}
