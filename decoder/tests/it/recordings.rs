//! What real servers sent.

use std::collections::BTreeSet;

use decoder::{Change, Lsn, Message, decode, decode_change_body, split_change};

use crate::files::{messages, sessions};

#[test]
fn recorded_messages_decode_to_their_recorded_text() {
    for (version, session) in sessions() {
        for recorded in &session.messages {
            let message = decode(&recorded.bytes, recorded.context)
                .unwrap_or_else(|e| panic!("{version}: {}: {e}; expected {}", session.title, recorded.text));
            assert_eq!(format!("{message:?}"), recorded.text, "{version}: {}", session.title);
        }
    }
}

#[test]
fn every_version_recorded_every_kind_of_message_it_has() {
    let base: BTreeSet<u8> = BTreeSet::from(*b"BCORYIUDTMSEcA");
    let two_phase: BTreeSet<u8> = BTreeSet::from(*b"bPKrp");
    for version in ["14", "15", "16", "17", "18"] {
        let recorded = sessions().filter(|(of, _)| *of == version).flat_map(|(_, session)| session.messages);
        let tags: BTreeSet<u8> = recorded.map(|message| message.bytes[0]).collect();
        let expected = if version == "14" { base.clone() } else { &base | &two_phase };
        assert_eq!(tags, expected, "PostgreSQL {version}");
    }
}

#[test]
fn every_proper_prefix_of_a_recorded_message_is_an_error() {
    for recorded in messages() {
        for length in 0..recorded.bytes.len() {
            let result = decode(&recorded.bytes[..length], recorded.context);
            let error = result.expect_err(&format!("the first {length} bytes of {}", recorded.text));
            assert!(error.offset() <= length, "{error}: offset beyond {length} bytes");
        }
    }
}

#[test]
fn a_recorded_message_with_a_byte_appended_is_an_error() {
    for recorded in messages() {
        for byte in [0, b'N', 0xFF] {
            let mut bytes = recorded.bytes.clone();
            bytes.push(byte);
            decode(&bytes, recorded.context).expect_err(&format!("{byte:#04x} after {}", recorded.text));
        }
    }
}

#[test]
fn a_change_cut_into_parts_decodes_to_the_same_change() {
    for recorded in messages() {
        let message = decode(&recorded.bytes, recorded.context).expect("recorded");
        let parts = split_change(&recorded.bytes, recorded.context).expect("recorded");
        match (message, parts) {
            (Message::Change { xid, change }, Some(parts)) => {
                assert_eq!((parts.xid, parts.tag), (xid, change.tag()));
                assert_eq!(decode_change_body(parts.tag, parts.body), Ok(change));
            }
            (Message::Change { .. }, None) => panic!("not cut: {}", recorded.text),
            (_, parts) => assert_eq!(parts, None, "{}", recorded.text),
        }
    }
}

#[test]
fn a_change_names_its_relation_where_it_has_exactly_one() {
    for recorded in messages() {
        let Ok(Message::Change { change, .. }) = decode(&recorded.bytes, recorded.context) else { continue };
        let one = matches!(change.tag(), b'R' | b'I' | b'U' | b'D');
        assert_eq!(change.relation().is_some(), one, "{}", recorded.text);
    }
}

#[test]
fn the_text_and_the_binary_recording_have_the_same_rows() {
    for version in ["14", "15", "16", "17", "18"] {
        let shape = |binary: &str| -> Vec<Vec<u8>> {
            let same =
                sessions().filter(|(of, s)| *of == version && s.title.starts_with("rows") && s.title.ends_with(binary));
            let messages = same.flat_map(|(_, session)| session.messages);
            messages.map(|message| kinds(&message.bytes, message.context)).collect()
        };
        let (text, binary) = (shape("binary=off"), shape("binary=on"));
        assert!(text.iter().flatten().any(|kind| *kind == b'v'), "no values in {version}");
        assert_eq!(text, binary, "PostgreSQL {version}");
    }
}

/// A row's columns as letters: v for a value in either format.
fn kinds(bytes: &[u8], context: decoder::Context) -> Vec<u8> {
    let Ok(Message::Change { change: Change::Insert { new, .. } | Change::Update { new, .. }, .. }) =
        decode(bytes, context)
    else {
        return Vec::new();
    };
    let kind = |value| match value {
        decoder::ColumnValue::Null => b'n',
        decoder::ColumnValue::UnchangedToast => b'u',
        decoder::ColumnValue::Text(_) | decoder::ColumnValue::Binary(_) => b'v',
    };
    new.columns().map(kind).collect()
}

#[test]
fn an_origin_has_no_position_inside_a_stream() {
    let mut seen = [0, 0];
    for recorded in messages() {
        if let Ok(Message::Origin { commit_lsn, name }) = decode(&recorded.bytes, recorded.context) {
            assert_eq!(name, "walcast_golden");
            assert_eq!(commit_lsn.is_none(), recorded.context.in_stream);
            assert!(commit_lsn.is_none_or(|lsn| lsn >= "16/B374D848".parse::<Lsn>().expect("an lsn")));
            seen[usize::from(recorded.context.in_stream)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?} origins outside and inside streams");
}
