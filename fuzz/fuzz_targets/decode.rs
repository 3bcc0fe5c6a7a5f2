//! Any bytes in any context: decoding ends with a message or an error, and a decoded row can be walked.
//!
//! An input is a byte that chooses the context (see `context`) and then one message.

#![no_main]

use decoder::{Change, Context, Message, OldTuple, Tuple, decode, decode_change, split_change};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let context = context(choice);
    match decode(bytes, context) {
        Ok(message) => check_message(&message, bytes, context),
        Err(error) => assert!(error.offset() <= bytes.len(), "{error}"),
    }
    if let Err(error) = decode_change(bytes) {
        assert!(error.offset() <= bytes.len(), "{error}");
    }
});

/// Bits 0 and 1: protocol version less 1; bit 2: inside a stream; bit 3: streaming 'parallel'.
fn context(choice: u8) -> Context {
    Context { protocol_version: u32::from(choice & 3) + 1, in_stream: choice & 4 != 0, parallel: choice & 8 != 0 }
}

fn check_message(message: &Message<'_>, bytes: &[u8], context: Context) {
    let parts = split_change(bytes, context).expect("a decoded message can be cut");
    let Message::Change { xid, change } = message else {
        assert_eq!(parts, None);
        return;
    };
    let parts = parts.expect("a change has parts");
    assert_eq!(parts.xid, *xid);
    assert_eq!(decoder::decode_change_body(parts.tag, parts.body).as_ref(), Ok(change));
    check_change(change);
}

fn check_change(change: &Change<'_>) {
    match change {
        Change::Insert { new, .. } => check_tuple(*new),
        Change::Update { old, new, .. } => {
            old.iter().for_each(|old| check_tuple(tuple(*old)));
            check_tuple(*new);
        }
        Change::Delete { old, .. } => check_tuple(tuple(*old)),
        _ => {}
    }
}

fn tuple(old: OldTuple<'_>) -> Tuple<'_> {
    match old {
        OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
    }
}

fn check_tuple(tuple: Tuple<'_>) {
    assert_eq!(tuple.columns().count(), tuple.len());
}
