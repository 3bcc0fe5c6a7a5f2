//! Every error, with its text: which message, which byte, what was expected and what was there.

use decoder::{Context, Message, Xid, decode, decode_change};

const V1: Context = Context { protocol_version: 1, in_stream: false, parallel: false };
const V4: Context = Context { protocol_version: 4, in_stream: false, parallel: true };
const STREAM: Context = Context { protocol_version: 2, in_stream: true, parallel: false };

fn error(bytes: &[u8], context: Context) -> String {
    decode(bytes, context).expect_err("an error").to_string()
}

#[test]
fn errors_name_message_byte_and_both_numbers() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty message: expected at least 1 byte, got 0"),
        (b"Z", "message 'Z', byte 0: unknown message tag 0x5a"),
        (b"\xFF", "message '\\xff', byte 0: unknown message tag 0xff"),
        (b"S\0\0\0\x01\x01", "message 'S', byte 0: belongs to protocol version 2, but version 1 was asked for"),
        (b"K", "message 'K', byte 0: belongs to protocol version 3, but version 1 was asked for"),
        (b"I\0\0\0", "message 'I', byte 1: relation id needs 4 bytes, got 3"),
        (b"I\0\0\0\0N\0\0", "message 'I', byte 1: expected relation id other than 0, got 0"),
        (b"I\0\0\0\x01K\0\0", "message 'I', byte 5: expected tuple tag to be one of \"N\", got 0x4b"),
        (b"I\0\0\0\x01N\xFF\xFF", "message 'I', byte 6: expected column count of at least 0, got -1"),
        (b"I\0\0\0\x01N\0\x01x", "message 'I', byte 8: expected column kind to be one of \"nutb\", got 0x78"),
        (b"I\0\0\0\x01N\0\x02n", "message 'I', byte 9: column kind needs 1 bytes, got 0"),
        (b"I\0\0\0\x01N\0\x01t\xFF\xFF\xFF\xFE", "message 'I', byte 9: expected column length of at least 0, got -2"),
        (b"I\0\0\0\x01N\0\x01b\0\0\0\x05abc", "message 'I', byte 13: column value needs 5 bytes, got 3"),
        (b"I\0\0\0\x01N\0\x01n??", "message 'I', byte 9: expected the end after 9 bytes, got 11 bytes"),
        (b"U\0\0\0\x01X", "message 'U', byte 5: expected tuple tag to be one of \"KON\", got 0x58"),
        (b"U\0\0\0\x01K\0\0K", "message 'U', byte 8: expected tuple tag to be one of \"N\", got 0x4b"),
        (b"D\0\0\0\x01N\0\0", "message 'D', byte 5: expected tuple tag to be one of \"KO\", got 0x4e"),
        (b"Y\0\0\0\x01abc", "message 'Y', byte 5: schema has no terminating NUL in the 3 bytes left"),
        (b"Y\0\0\0\x01ab\xFFc\0x\0", "message 'Y', byte 7: schema is not valid UTF-8"),
        (b"R\0\0\0\x01\0r\0x\0\0", "message 'R', byte 8: expected replica identity to be one of \"dnfi\", got 0x78"),
        (b"R\0\0\0\x01\0r\0d\0\x01\x02", "message 'R', byte 11: expected column flags within 0x01, got 0x02"),
        (b"T\0\0\0\x01\x04", "message 'T', byte 5: expected truncate options within 0x03, got 0x04"),
        (b"T\x7F\xFF\xFF\xFF\0", "message 'T', byte 6: relation id needs 4 bytes, got 0"),
        (b"C\x01", "message 'C', byte 1: expected flags within 0x00, got 0x01"),
        (b"B\0\0\0\0\0\0\0\0", "message 'B', byte 1: expected commit lsn other than 0, got 0"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(error(bytes, V1), *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn offsets_inside_a_stream_count_the_xid() {
    assert_eq!(
        error(b"I\0\0\0\x07\0\0\0\x01K", STREAM),
        "message 'I', byte 9: expected tuple tag to be one of \"N\", got 0x4b"
    );
    assert_eq!(error(b"I\0\0\0\0\0\0\0\x01N\0\0", STREAM), "message 'I', byte 1: expected xid other than 0, got 0");
}

#[test]
fn messages_out_of_place_are_errors() {
    assert_eq!(error(b"E", V4), "message 'E', byte 0: came without a stream start");
    for tag in b"BCScAbPKrp" {
        let context = Context { protocol_version: 4, ..STREAM };
        let expected = format!("message '{}', byte 0: came before the stream stop", char::from(*tag));
        assert_eq!(error(&[*tag], context), expected);
    }
    let error = decode_change(b"E").expect_err("not a change");
    assert_eq!(error.to_string(), "message 'E', byte 0: is not a change");
}

#[test]
fn a_stray_stream_abort_is_read_in_every_protocol_version() {
    for protocol_version in 1..=4 {
        let context = Context { protocol_version, ..V1 };
        let message = decode(b"A\0\0\0\x05\0\0\0\x06", context).expect("a stream abort");
        let (xid, subxid) = (Xid(5), Xid(6));
        assert_eq!(message, Message::StreamAbort { xid, subxid, abort_lsn: None, abort_time: None });
    }
}

#[test]
fn a_stream_abort_has_position_and_time_only_when_parallel_was_asked_for() {
    let bytes = b"A\0\0\0\x05\0\0\0\x06\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x0A";
    let Ok(Message::StreamAbort { abort_lsn, abort_time, .. }) = decode(bytes, V4) else { panic!("not read") };
    assert_eq!((abort_lsn.map(|lsn| lsn.as_u64()), abort_time.map(|time| time.0)), (Some(9), Some(10)));
    assert_eq!(error(bytes, V1), "message 'A', byte 9: expected the end after 9 bytes, got 25 bytes");
    assert_eq!(error(&bytes[..9], V4), "message 'A', byte 9: abort lsn needs 8 bytes, got 0");
}
