//! Both decoders must read the same.

use bytes::Bytes;
use decoder::{Context, Message, Xid, decode};
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Theirs, StreamingReplicationMessage, TupleData,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::damage::damaged;
use crate::files::messages;
use crate::random_cases;
use crate::walstream::{convert, parse};

#[test]
fn both_decoders_read_the_recordings_alike() {
    for recorded in messages() {
        let ours = decode(&recorded.bytes, recorded.context).expect("recorded");
        let theirs = parse(&recorded.bytes, recorded.context).expect("recorded");
        assert_eq!(convert(&ours), theirs.message, "{}", recorded.text);
        if let Message::Change { xid, .. } = ours {
            assert_eq!(xid, theirs.xid.map(Xid), "{}", recorded.text);
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z_]{1,8}", "[^\0]{0,12}"]
}

fn not_zero() -> impl Strategy<Value = u32> {
    1..=u32::MAX
}

fn lsn() -> impl Strategy<Value = u64> {
    1..=u64::MAX
}

fn time() -> impl Strategy<Value = i64> {
    any::<i64>()
}

fn tuple() -> impl Strategy<Value = TupleData> {
    let bytes = || vec(any::<u8>(), 0..20);
    let column = prop_oneof![
        Just(ColumnData::null()),
        Just(ColumnData::unchanged()),
        bytes().prop_map(ColumnData::text),
        bytes().prop_map(ColumnData::binary),
    ];
    vec(column, 0..8).prop_map(TupleData::new)
}

fn old_tuple() -> impl Strategy<Value = (char, TupleData)> {
    (prop_oneof![Just('K'), Just('O')], tuple())
}

fn update() -> impl Strategy<Value = Theirs> {
    (not_zero(), option::of(old_tuple()), tuple()).prop_map(|(relation_id, old, new_tuple)| {
        let (key_type, old_tuple) = old.unzip();
        Theirs::Update { relation_id, old_tuple, new_tuple, key_type }
    })
}

fn relation() -> impl Strategy<Value = Theirs> {
    let column = (0..=1u8, name(), not_zero(), any::<i32>())
        .prop_map(|(flags, name, type_id, modifier)| ColumnInfo::new(flags, name, type_id, modifier));
    let identity = prop::sample::select(&b"dnfi"[..]);
    (not_zero(), name(), name(), identity, vec(column, 0..6)).prop_map(
        |(relation_id, ns, name, replica_identity, columns)| {
            let (namespace, relation_name) = (ns.into(), name.into());
            Theirs::Relation { relation_id, namespace, relation_name, replica_identity, columns }
        },
    )
}

fn changes() -> impl Strategy<Value = Theirs> {
    let content = vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop_oneof![
        (not_zero(), tuple()).prop_map(|(relation_id, tuple)| Theirs::Insert { relation_id, tuple }),
        update(),
        (not_zero(), old_tuple()).prop_map(|(relation_id, (key_type, old_tuple))| Theirs::Delete {
            relation_id,
            old_tuple,
            key_type
        }),
        relation(),
        (not_zero(), name(), name()).prop_map(|(type_id, namespace, type_name)| Theirs::Type {
            type_id,
            namespace,
            type_name
        }),
        (vec(not_zero(), 0..5), 0..=3u8).prop_map(|(relation_ids, flags)| Theirs::Truncate { relation_ids, flags }),
        (0..=1u8, lsn(), name(), content).prop_map(|(flags, lsn, prefix, content)| Theirs::Message {
            flags,
            lsn,
            prefix,
            content
        }),
    ]
}

fn stream_control() -> impl Strategy<Value = Theirs> {
    prop_oneof![
        (lsn(), time(), not_zero()).prop_map(|(final_lsn, timestamp, xid)| Theirs::Begin { final_lsn, timestamp, xid }),
        (lsn(), lsn(), time()).prop_map(|(commit_lsn, end_lsn, timestamp)| Theirs::Commit {
            flags: 0,
            commit_lsn,
            end_lsn,
            timestamp
        }),
        (any::<u64>(), name()).prop_map(|(origin_lsn, origin_name)| Theirs::Origin { origin_lsn, origin_name }),
        (not_zero(), any::<bool>()).prop_map(|(xid, first_segment)| Theirs::StreamStart { xid, first_segment }),
        (not_zero(), lsn(), lsn(), time()).prop_map(|(xid, commit_lsn, end_lsn, timestamp)| {
            Theirs::StreamCommit { xid, flags: 0, commit_lsn, end_lsn, timestamp }
        }),
        (not_zero(), not_zero(), option::of((any::<u64>(), time()))).prop_map(|(xid, subtransaction_xid, at)| {
            let (abort_lsn, abort_timestamp) = at.unzip();
            Theirs::StreamAbort { xid, subtransaction_xid, abort_lsn, abort_timestamp }
        }),
    ]
}

fn two_phase_control() -> impl Strategy<Value = Theirs> {
    let fields = (0..4u8, lsn(), lsn(), time(), not_zero(), name());
    let rollback = (lsn(), lsn(), time(), time(), not_zero(), name());
    prop_oneof![
        4 => fields.prop_map(|(kind, first_lsn, end_lsn, timestamp, xid, gid)| match kind {
            0 => Theirs::BeginPrepare { prepare_lsn: first_lsn, end_lsn, timestamp, xid, gid },
            1 => Theirs::Prepare { flags: 0, prepare_lsn: first_lsn, end_lsn, timestamp, xid, gid },
            2 => Theirs::StreamPrepare { flags: 0, prepare_lsn: first_lsn, end_lsn, timestamp, xid, gid },
            _ => Theirs::CommitPrepared { flags: 0, commit_lsn: first_lsn, end_lsn, timestamp, xid, gid },
        }),
        1 => rollback.prop_map(|(prepare_end_lsn, rollback_end_lsn, prepare_timestamp, rollback_timestamp, xid, gid)| {
            Theirs::RollbackPrepared {
                flags: 0, prepare_end_lsn, rollback_end_lsn, prepare_timestamp, rollback_timestamp, xid, gid,
            }
        }),
    ]
}

proptest! {
    #![proptest_config(random_cases(4_000))]

    #[test]
    fn an_encoded_change_is_decoded_to_itself(message in changes(), xid in option::of(not_zero())) {
        let context = Context { protocol_version: 4, in_stream: xid.is_some(), parallel: false };
        let wrapped = StreamingReplicationMessage { message, is_streaming: xid.is_some(), xid };
        let bytes = pg_walstream::encode_streaming_message_to_bytes(&wrapped, 4);
        let ours = decode(&bytes, context).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(convert(&ours), wrapped.message);
        let Message::Change { xid: ours, .. } = ours else { return Err(TestCaseError::fail("not a change")) };
        prop_assert_eq!(ours, xid.map(Xid));
    }

    #[test]
    fn an_encoded_control_message_is_decoded_to_itself(message in prop_oneof![stream_control(), two_phase_control()]) {
        let parallel = matches!(message, Theirs::StreamAbort { abort_lsn: Some(_), .. });
        let context = Context { protocol_version: 4, in_stream: false, parallel };
        let bytes = pg_walstream::encode_message_to_bytes(&message, 4);
        let ours = decode(&bytes, context).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(convert(&ours), message);
    }
}

proptest! {
    #![proptest_config(random_cases(20_000))]

    /// The other decoder is the laxer one: it passes over leftover bytes, unknown flags and zeros.
    #[test]
    fn what_we_accept_the_other_decoder_reads_alike((context, bytes) in damaged()) {
        if let Ok(ours) = decode(&bytes, context) {
            let theirs = parse(&bytes, context).map_err(TestCaseError::fail)?;
            prop_assert_eq!(convert(&ours), theirs.message);
        }
    }
}
