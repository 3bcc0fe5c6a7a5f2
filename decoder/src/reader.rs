//! A cursor over untrusted bytes: every read is checked, and every error says where it was.

use crate::error::DecodeError;
use crate::lsn::{Lsn, PgTimestamp, RelationId, TypeOid, Xid};

/// Reads a message's fields one after the other. Integers are big-endian.
///
/// The error constructors are out of line, so that the checks of the way without errors stay small; they take the
/// reader by value, so that it can live in registers. For the same reason what rows are read with is always inlined:
/// passed through memory, a row takes twice the time.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset of the first byte after `rest`, counted from the message's tag.
    end: usize,
    tag: u8,
}

impl<'a> Reader<'a> {
    /// Over `rest`, which begins `start` bytes into the message.
    #[inline(always)]
    pub(crate) fn new(tag: u8, rest: &'a [u8], start: usize) -> Reader<'a> {
        Reader { rest, end: start.saturating_add(rest.len()), tag }
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u8 {
        self.tag
    }

    #[inline(always)]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Goes on at `rest`, an end of the bytes that are left.
    #[inline(always)]
    pub(crate) fn set_rest(&mut self, rest: &'a [u8]) {
        self.rest = rest;
    }

    fn offset(self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(field, N));
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    #[inline(always)]
    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    #[inline(always)]
    fn u32_not_zero(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match self.array(field).map(u32::from_be_bytes)? {
            0 => Err(self.zero(field, 4)),
            number => Ok(number),
        }
    }

    #[inline(always)]
    pub(crate) fn xid(&mut self, field: &'static str) -> Result<Xid, DecodeError> {
        self.u32_not_zero(field).map(Xid)
    }

    #[inline(always)]
    pub(crate) fn relation_id(&mut self) -> Result<RelationId, DecodeError> {
        self.u32_not_zero("relation id").map(RelationId)
    }

    pub(crate) fn type_oid(&mut self) -> Result<TypeOid, DecodeError> {
        self.u32_not_zero("type id").map(TypeOid)
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Result<PgTimestamp, DecodeError> {
        self.array(field).map(i64::from_be_bytes).map(PgTimestamp)
    }

    /// A position that may be missing, which the wire writes as 0.
    pub(crate) fn optional_lsn(&mut self, field: &'static str) -> Result<Option<Lsn>, DecodeError> {
        let raw = u64::from_be_bytes(self.array(field)?);
        Ok(if raw == 0 { None } else { Some(Lsn::from_u64(raw)) })
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        let lsn = self.optional_lsn(field)?;
        lsn.ok_or_else(|| self.zero(field, 8))
    }

    /// A 16-bit count, which PostgreSQL writes as a signed number.
    #[inline(always)]
    pub(crate) fn count(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        let count = i16::from_be_bytes(self.array(field)?);
        u16::try_from(count).map_err(|_| self.negative(field, 2, i32::from(count)))
    }

    /// A 32-bit count or length, which PostgreSQL writes as a signed number.
    #[inline(always)]
    pub(crate) fn length(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let length = self.i32(field)?;
        usize::try_from(length).map_err(|_| self.negative(field, 4, length))
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.truncated(field, length));
        };
        self.rest = rest;
        Ok(head)
    }

    /// A NUL-terminated string in UTF-8.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let offset = self.offset();
        let nul = self.rest.iter().position(|&byte| byte == 0);
        let Some((head, [_nul, rest @ ..])) = nul.and_then(|at| self.rest.split_at_checked(at)) else {
            return Err(DecodeError::Unterminated { tag: self.tag, offset, field, got: self.rest.len() });
        };
        self.rest = rest;
        std::str::from_utf8(head).map_err(|e| DecodeError::NotUtf8 {
            tag: self.tag,
            offset: offset.saturating_add(e.valid_up_to()),
            field,
        })
    }

    /// A schema's name; the wire shortens pg_catalog to nothing.
    pub(crate) fn namespace(&mut self) -> Result<&'a str, DecodeError> {
        self.string("schema").map(|name| if name.is_empty() { "pg_catalog" } else { name })
    }

    /// A byte of flags, of which only the bits in `known` may be set.
    pub(crate) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, DecodeError> {
        let got = self.u8(field)?;
        if got & !known == 0 {
            return Ok(got);
        }
        Err(DecodeError::UnknownFlags { tag: self.tag, offset: self.before(1), field, known, got })
    }

    /// Ends the message.
    #[inline(always)]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.leftover()) }
    }

    /// The error for a letter that was just read.
    #[cold]
    #[inline(never)]
    pub(crate) fn unknown_letter(self, field: &'static str, expected: &'static str, got: u8) -> DecodeError {
        DecodeError::UnknownLetter { tag: self.tag, offset: self.before(1), field, expected, got }
    }

    /// The offset of a field of `width` bytes that was just read.
    fn before(self, width: usize) -> usize {
        self.offset().saturating_sub(width)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn truncated(self, field: &'static str, expected: usize) -> DecodeError {
        DecodeError::Truncated { tag: self.tag, offset: self.offset(), field, expected, got: self.rest.len() }
    }

    #[cold]
    #[inline(never)]
    fn zero(self, field: &'static str, width: usize) -> DecodeError {
        DecodeError::Zero { tag: self.tag, offset: self.before(width), field }
    }

    #[cold]
    #[inline(never)]
    fn negative(self, field: &'static str, width: usize, got: i32) -> DecodeError {
        DecodeError::Negative { tag: self.tag, offset: self.before(width), field, got }
    }

    #[cold]
    #[inline(never)]
    fn leftover(self) -> DecodeError {
        DecodeError::Leftover { tag: self.tag, offset: self.offset(), got: self.end }
    }
}
