//! pg_walstream, an independent implementation, as the second decoder and as encoder.

use bytes::Bytes;
use decoder::{Change, ColumnValue, Context, Message, OldTuple, Relation, ReplicaIdentity, Tuple};
use pg_walstream::{
    ColumnData, ColumnInfo, LogicalReplicationMessage as Theirs, LogicalReplicationParser, StreamingReplicationMessage,
    TupleData,
};

/// The stream in which messages with `in_stream` are encoded and parsed.
const STREAM: u32 = 99;

/// Their reading of one message.
pub(crate) fn parse(bytes: &[u8], context: Context) -> Result<StreamingReplicationMessage, String> {
    let mut parser = LogicalReplicationParser::with_protocol_version(context.protocol_version);
    if context.in_stream {
        let start = Theirs::StreamStart { xid: STREAM, first_segment: false };
        let start = pg_walstream::encode_message_to_bytes(&start, 2);
        parser.parse_wal_message(&start).map_err(|e| e.to_string())?;
    }
    parser.parse_wal_message(bytes).map_err(|e| e.to_string())
}

/// Our message in their type. They keep an empty namespace where we write pg_catalog, and 0 for an absent position.
pub(crate) fn convert(message: &Message<'_>) -> Theirs {
    match *message {
        Message::Begin { commit_lsn, commit_time, xid } => {
            Theirs::Begin { final_lsn: commit_lsn.as_u64(), timestamp: commit_time.0, xid: xid.0 }
        }
        Message::Commit { commit_lsn, end_lsn, commit_time } => Theirs::Commit {
            flags: 0,
            commit_lsn: commit_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: commit_time.0,
        },
        Message::Origin { commit_lsn, name } => {
            Theirs::Origin { origin_lsn: commit_lsn.map_or(0, |lsn| lsn.as_u64()), origin_name: name.to_owned() }
        }
        Message::Change { ref change, .. } => convert_change(change),
        _ => convert_stream(message),
    }
}

fn convert_stream(message: &Message<'_>) -> Theirs {
    match *message {
        Message::StreamStart { xid, first } => Theirs::StreamStart { xid: xid.0, first_segment: first },
        Message::StreamStop => Theirs::StreamStop,
        Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => Theirs::StreamCommit {
            xid: xid.0,
            flags: 0,
            commit_lsn: commit_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: commit_time.0,
        },
        Message::StreamAbort { xid, subxid, abort_lsn, abort_time } => Theirs::StreamAbort {
            xid: xid.0,
            subtransaction_xid: subxid.0,
            // With a time the wire had a position, if only 0.
            abort_lsn: abort_time.map(|_| abort_lsn.map_or(0, |lsn| lsn.as_u64())),
            abort_timestamp: abort_time.map(|time| time.0),
        },
        _ => convert_two_phase(message),
    }
}

fn convert_two_phase(message: &Message<'_>) -> Theirs {
    match *message {
        Message::BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => Theirs::BeginPrepare {
            prepare_lsn: prepare_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: prepare_time.0,
            xid: xid.0,
            gid: gid.to_owned(),
        },
        Message::Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => Theirs::Prepare {
            flags: 0,
            prepare_lsn: prepare_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: prepare_time.0,
            xid: xid.0,
            gid: gid.to_owned(),
        },
        Message::CommitPrepared { commit_lsn, end_lsn, commit_time, xid, gid } => Theirs::CommitPrepared {
            flags: 0,
            commit_lsn: commit_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: commit_time.0,
            xid: xid.0,
            gid: gid.to_owned(),
        },
        Message::RollbackPrepared { prepare_end_lsn, rollback_end_lsn, prepare_time, rollback_time, xid, gid } => {
            Theirs::RollbackPrepared {
                flags: 0,
                prepare_end_lsn: prepare_end_lsn.as_u64(),
                rollback_end_lsn: rollback_end_lsn.as_u64(),
                prepare_timestamp: prepare_time.0,
                rollback_timestamp: rollback_time.0,
                xid: xid.0,
                gid: gid.to_owned(),
            }
        }
        Message::StreamPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => Theirs::StreamPrepare {
            flags: 0,
            prepare_lsn: prepare_lsn.as_u64(),
            end_lsn: end_lsn.as_u64(),
            timestamp: prepare_time.0,
            xid: xid.0,
            gid: gid.to_owned(),
        },
        ref other => panic!("no conversion of {other:?}"),
    }
}

fn convert_change(change: &Change<'_>) -> Theirs {
    match *change {
        Change::Relation(ref relation) => convert_relation(relation),
        Change::Type { oid, namespace, name } => Theirs::Type {
            type_id: oid.0,
            namespace: their_namespace(namespace).to_owned(),
            type_name: name.to_owned(),
        },
        Change::Insert { relation, new } => Theirs::Insert { relation_id: relation.0, tuple: convert_tuple(new) },
        Change::Update { relation, old, new } => Theirs::Update {
            relation_id: relation.0,
            old_tuple: old.map(|old| convert_old(old).1),
            new_tuple: convert_tuple(new),
            key_type: old.map(|old| convert_old(old).0),
        },
        Change::Delete { relation, old } => {
            let (key_type, old_tuple) = convert_old(old);
            Theirs::Delete { relation_id: relation.0, old_tuple, key_type }
        }
        Change::Truncate { ref relations, options } => Theirs::Truncate {
            relation_ids: relations.iter().map(|id| id.0).collect(),
            flags: u8::from(options.cascade) | u8::from(options.restart_identity) << 1,
        },
        Change::Message { transactional, lsn, prefix, content } => Theirs::Message {
            flags: u8::from(transactional),
            lsn: lsn.as_u64(),
            prefix: prefix.to_owned(),
            content: Bytes::copy_from_slice(content),
        },
    }
}

fn their_namespace(ours: &str) -> &str {
    if ours == "pg_catalog" { "" } else { ours }
}

fn convert_relation(relation: &Relation) -> Theirs {
    let identity = match relation.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    };
    let columns = relation.columns.iter();
    let column = |c: &decoder::Column| ColumnInfo::new(c.is_key.into(), c.name.clone(), c.type_oid.0, c.type_modifier);
    Theirs::Relation {
        relation_id: relation.id.0,
        namespace: their_namespace(&relation.namespace).into(),
        relation_name: relation.name.as_str().into(),
        replica_identity: identity,
        columns: columns.map(column).collect(),
    }
}

fn convert_old(old: OldTuple<'_>) -> (char, TupleData) {
    match old {
        OldTuple::Key(tuple) => ('K', convert_tuple(tuple)),
        OldTuple::Full(tuple) => ('O', convert_tuple(tuple)),
    }
}

fn convert_tuple(tuple: Tuple<'_>) -> TupleData {
    let column = |value| match value {
        ColumnValue::Null => ColumnData::null(),
        ColumnValue::UnchangedToast => ColumnData::unchanged(),
        ColumnValue::Text(bytes) => ColumnData::text(bytes.to_vec()),
        ColumnValue::Binary(bytes) => ColumnData::binary(bytes.to_vec()),
    };
    TupleData::new(tuple.columns().map(column).collect())
}
