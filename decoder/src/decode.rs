//! From bytes to [`Message`]: one function per message kind, in the order of the manual.
//!
//! In the log a change is kept without the xid that a stream puts between its tag and its body:
//!
//! ```text
//! outside a stream   tag            body     ─┐
//! inside a stream    tag  xid (4)   body     ─┴─▶  split_change()  ─▶  tag, body  ─▶  decode_change_body()
//! ```

use crate::error::DecodeError;
use crate::lsn::Xid;
use crate::message::{Change, Context, Message, OldTuple, TruncateOptions};
use crate::reader::Reader;
use crate::relation::{Column, Relation, ReplicaIdentity};
use crate::tuple::Tuple;

/// Decodes one whole message (one CopyData payload after its `w` header).
///
/// # Errors
/// Truncated, over-long or otherwise malformed bytes, or a tag that the protocol version does not have.
#[inline]
pub fn decode<'a>(bytes: &'a [u8], context: Context) -> Result<Message<'a>, DecodeError> {
    let (&tag, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let mut reader = Reader::new(tag, rest, 1);
    if !is_change(tag) {
        return decode_control(reader, context);
    }
    let xid = if context.in_stream { Some(reader.xid("xid")?) } else { None };
    read_change(reader, |change| Message::Change { xid, change })
}

/// Decodes a message of a change that carries no xid: a tag and its body.
///
/// # Errors
/// As [`decode`]; also when the message is not a change.
#[inline]
pub fn decode_change<'a>(bytes: &'a [u8]) -> Result<Change<'a>, DecodeError> {
    let (&tag, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    decode_change_body(tag, body)
}

/// Decodes a change whose tag and body are kept apart, as [`split_change`] gives them. Errors count offsets as if the
/// tag stood before the body.
///
/// # Errors
/// As [`decode_change`].
#[inline]
pub fn decode_change_body<'a>(tag: u8, body: &'a [u8]) -> Result<Change<'a>, DecodeError> {
    read_change(Reader::new(tag, body, 1), |change| change)
}

/// A change's message cut into its parts, none of them copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeParts<'a> {
    /// The first byte.
    pub tag: u8,
    /// The (sub)transaction, when inside a stream.
    pub xid: Option<Xid>,
    /// All that follows, for [`decode_change_body`].
    pub body: &'a [u8],
}

/// Cuts a change's message into its parts; the body is *not* checked. `None` when the message is not a change, so that
/// a writer that has just decoded `bytes` can tell what it has to keep.
///
/// # Errors
/// When there is no tag, or inside a stream no xid.
pub fn split_change<'a>(bytes: &'a [u8], context: Context) -> Result<Option<ChangeParts<'a>>, DecodeError> {
    let (&tag, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if !is_change(tag) {
        return Ok(None);
    }
    let mut reader = Reader::new(tag, rest, 1);
    let xid = if context.in_stream { Some(reader.xid("xid")?) } else { None };
    Ok(Some(ChangeParts { tag, xid, body: reader.rest() }))
}

#[inline]
fn is_change(tag: u8) -> bool {
    matches!(tag, b'I' | b'U' | b'D' | b'R' | b'Y' | b'T' | b'M')
}

/// Reads a change into what the caller makes of it. To wrap it here, where it is made, spares a copy of it.
#[inline(always)]
fn read_change<'a, T>(reader: Reader<'a>, wrap: impl FnOnce(Change<'a>) -> T) -> Result<T, DecodeError> {
    match reader.tag() {
        b'I' => insert(reader).map(wrap),
        b'U' => update(reader).map(wrap),
        b'D' => delete(reader).map(wrap),
        _ => read_other_change(reader).map(wrap),
    }
}

/// Every change that is not of a row.
#[inline(never)]
fn read_other_change<'a>(mut reader: Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let change = match reader.tag() {
        b'R' => Change::Relation(relation(&mut reader)?),
        b'Y' => type_name(&mut reader)?,
        b'T' => truncate(&mut reader)?,
        b'M' => logical_message(&mut reader)?,
        tag if first_version(tag).is_some() => return Err(DecodeError::NotAChange { tag }),
        tag => return Err(DecodeError::UnknownTag { tag }),
    };
    reader.finish()?;
    Ok(change)
}

/// The first protocol version with this tag; `None` for a tag that none has.
fn first_version(tag: u8) -> Option<u32> {
    match tag {
        b'B' | b'C' | b'O' | b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M' => Some(1),
        // Stream Abort is of version 2, but PostgreSQL 18 was seen to send it to sessions that never asked for streams.
        b'A' => Some(1),
        b'S' | b'E' | b'c' => Some(2),
        b'b' | b'P' | b'K' | b'r' | b'p' => Some(3),
        _ => None,
    }
}

/// Whether this message may come now; `tag` is that of a message that is not a change.
fn check_context(tag: u8, context: Context) -> Result<(), DecodeError> {
    let first = first_version(tag).ok_or(DecodeError::UnknownTag { tag })?;
    match tag {
        _ if first > context.protocol_version => {
            Err(DecodeError::NotInVersion { tag, first, asked: context.protocol_version })
        }
        // A stream begins with its transaction's origin.
        b'O' => Ok(()),
        b'E' if !context.in_stream => Err(DecodeError::OutsideStream { tag }),
        b'E' => Ok(()),
        _ if context.in_stream => Err(DecodeError::InsideStream { tag }),
        _ => Ok(()),
    }
}

/// Every message that is not a change.
#[inline(never)]
fn decode_control<'a>(mut reader: Reader<'a>, context: Context) -> Result<Message<'a>, DecodeError> {
    let tag = reader.tag();
    check_context(tag, context)?;
    let reader = &mut reader;
    let message = match tag {
        b'B' => begin(reader)?,
        b'C' => commit(reader)?,
        b'O' => origin(reader)?,
        b'S' => stream_start(reader)?,
        b'E' => Message::StreamStop,
        b'c' => stream_commit(reader)?,
        b'A' => stream_abort(reader, context)?,
        b'b' => begin_prepare(reader)?,
        b'P' => prepare(reader)?,
        b'K' => commit_prepared(reader)?,
        b'r' => rollback_prepared(reader)?,
        b'p' => stream_prepare(reader)?,
        _ => return Err(DecodeError::UnknownTag { tag }),
    };
    reader.finish()?;
    Ok(message)
}

fn begin<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let commit_lsn = r.lsn("commit lsn")?;
    let commit_time = r.timestamp("commit time")?;
    Ok(Message::Begin { commit_lsn, commit_time, xid: r.xid("xid")? })
}

fn commit<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    no_flags(r)?;
    let commit_lsn = r.lsn("commit lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    Ok(Message::Commit { commit_lsn, end_lsn, commit_time: r.timestamp("commit time")? })
}

/// A byte that every version so far writes as 0.
fn no_flags(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    r.flags("flags", 0).map(|_| ())
}

fn origin<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let commit_lsn = r.optional_lsn("origin lsn")?;
    Ok(Message::Origin { commit_lsn, name: r.string("origin name")? })
}

fn logical_message<'a>(r: &mut Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let transactional = r.flags("flags", 1)? != 0;
    let lsn = r.lsn("message lsn")?;
    let prefix = r.string("prefix")?;
    let length = r.length("content length")?;
    Ok(Change::Message { transactional, lsn, prefix, content: r.bytes(length, "content")? })
}

fn relation(r: &mut Reader<'_>) -> Result<Relation, DecodeError> {
    let id = r.relation_id()?;
    let namespace = r.namespace()?.to_owned();
    let name = r.string("relation name")?.to_owned();
    let replica_identity = replica_identity(r)?;
    let count = usize::from(r.count("column count")?);
    // A column takes ten bytes at least: a false count must not reserve more than the message could hold.
    let mut columns = Vec::with_capacity(count.min(r.rest().len() / 10));
    for _ in 0..count {
        columns.push(column(r)?);
    }
    Ok(Relation { id, namespace, name, replica_identity, columns })
}

fn replica_identity(r: &mut Reader<'_>) -> Result<ReplicaIdentity, DecodeError> {
    match r.u8("replica identity")? {
        b'd' => Ok(ReplicaIdentity::Default),
        b'n' => Ok(ReplicaIdentity::Nothing),
        b'f' => Ok(ReplicaIdentity::Full),
        b'i' => Ok(ReplicaIdentity::Index),
        got => Err(r.unknown_letter("replica identity", "dnfi", got)),
    }
}

fn column(r: &mut Reader<'_>) -> Result<Column, DecodeError> {
    let is_key = r.flags("column flags", 1)? != 0;
    let name = r.string("column name")?.to_owned();
    let type_oid = r.type_oid()?;
    Ok(Column { is_key, name, type_oid, type_modifier: r.i32("type modifier")? })
}

fn type_name<'a>(r: &mut Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let oid = r.type_oid()?;
    let namespace = r.namespace()?;
    Ok(Change::Type { oid, namespace, name: r.string("type name")? })
}

#[inline(always)]
fn insert<'a>(mut r: Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let relation = r.relation_id()?;
    match r.u8("tuple tag")? {
        b'N' => {
            let new = last_tuple(r)?;
            Ok(Change::Insert { relation, new })
        }
        got => Err(r.unknown_letter("tuple tag", "N", got)),
    }
}

#[inline(always)]
fn update<'a>(mut r: Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let relation = r.relation_id()?;
    let tag = r.u8("tuple tag")?;
    let old = match tag {
        b'N' => None,
        b'K' => Some(OldTuple::Key(Tuple::read(&mut r)?)),
        b'O' => Some(OldTuple::Full(Tuple::read(&mut r)?)),
        got => return Err(r.unknown_letter("tuple tag", "KON", got)),
    };
    let tag = if old.is_some() { r.u8("tuple tag")? } else { tag };
    match tag {
        b'N' => {
            let new = last_tuple(r)?;
            Ok(Change::Update { relation, old, new })
        }
        got => Err(r.unknown_letter("tuple tag", "N", got)),
    }
}

#[inline(always)]
fn delete<'a>(mut r: Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let relation = r.relation_id()?;
    let old = match r.u8("tuple tag")? {
        b'K' => OldTuple::Key(last_tuple(r)?),
        b'O' => OldTuple::Full(last_tuple(r)?),
        got => return Err(r.unknown_letter("tuple tag", "KO", got)),
    };
    Ok(Change::Delete { relation, old })
}

/// The row that ends the message.
#[inline(always)]
fn last_tuple<'a>(mut r: Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    let tuple = Tuple::read(&mut r)?;
    r.finish()?;
    Ok(tuple)
}

fn truncate<'a>(r: &mut Reader<'a>) -> Result<Change<'a>, DecodeError> {
    let count = r.length("relation count")?;
    let flags = r.flags("truncate options", 3)?;
    let mut relations = Vec::with_capacity(count.min(r.rest().len() / 4));
    for _ in 0..count {
        relations.push(r.relation_id()?);
    }
    let options = TruncateOptions { cascade: flags & 1 != 0, restart_identity: flags & 2 != 0 };
    Ok(Change::Truncate { relations, options })
}

fn stream_start<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let xid = r.xid("xid")?;
    Ok(Message::StreamStart { xid, first: r.flags("first segment", 1)? != 0 })
}

fn stream_commit<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let xid = r.xid("xid")?;
    no_flags(r)?;
    let commit_lsn = r.lsn("commit lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    Ok(Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time: r.timestamp("commit time")? })
}

fn stream_abort<'a>(r: &mut Reader<'a>, context: Context) -> Result<Message<'a>, DecodeError> {
    let xid = r.xid("xid")?;
    let subxid = r.xid("subtransaction xid")?;
    if !context.parallel {
        return Ok(Message::StreamAbort { xid, subxid, abort_lsn: None, abort_time: None });
    }
    let abort_lsn = r.optional_lsn("abort lsn")?;
    Ok(Message::StreamAbort { xid, subxid, abort_lsn, abort_time: Some(r.timestamp("abort time")?) })
}

fn begin_prepare<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let prepare_lsn = r.lsn("prepare lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    let prepare_time = r.timestamp("prepare time")?;
    let xid = r.xid("xid")?;
    Ok(Message::BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid: r.string("gid")? })
}

fn prepare<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    no_flags(r)?;
    let prepare_lsn = r.lsn("prepare lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    let prepare_time = r.timestamp("prepare time")?;
    let xid = r.xid("xid")?;
    Ok(Message::Prepare { prepare_lsn, end_lsn, prepare_time, xid, gid: r.string("gid")? })
}

fn commit_prepared<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    no_flags(r)?;
    let commit_lsn = r.lsn("commit lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    let commit_time = r.timestamp("commit time")?;
    let xid = r.xid("xid")?;
    Ok(Message::CommitPrepared { commit_lsn, end_lsn, commit_time, xid, gid: r.string("gid")? })
}

fn rollback_prepared<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    no_flags(r)?;
    let prepare_end_lsn = r.lsn("prepare end lsn")?;
    let rollback_end_lsn = r.lsn("rollback end lsn")?;
    let prepare_time = r.timestamp("prepare time")?;
    let rollback_time = r.timestamp("rollback time")?;
    let xid = r.xid("xid")?;
    let gid = r.string("gid")?;
    Ok(Message::RollbackPrepared { prepare_end_lsn, rollback_end_lsn, prepare_time, rollback_time, xid, gid })
}

fn stream_prepare<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    no_flags(r)?;
    let prepare_lsn = r.lsn("prepare lsn")?;
    let end_lsn = r.lsn("end lsn")?;
    let prepare_time = r.timestamp("prepare time")?;
    let xid = r.xid("xid")?;
    Ok(Message::StreamPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid: r.string("gid")? })
}
