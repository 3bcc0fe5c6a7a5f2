//! Positions, transaction ids and object ids: numbers that must not be mixed up.

use std::fmt;
use std::str::FromStr;

/// A position in the source's write-ahead log, in bytes from its beginning; prints as PostgreSQL does (`16/B374D848`).
///
/// There is no arithmetic on purpose: two positions can only be compared or subtracted ([`Lsn::bytes_since`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The invalid position `0/0`; before every real one.
    pub const ZERO: Lsn = Lsn(0);
    /// After every real position.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// From the 64-bit number that the wire and the log carry.
    pub const fn from_u64(raw: u64) -> Lsn {
        Lsn(raw)
    }

    /// The 64-bit number for the wire and the log.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The bytes from `earlier` to `self`; `None` when `earlier` is the later one.
    pub fn bytes_since(self, earlier: Lsn) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a position of the form `16/B374D848`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a position of the form 16/B374D848")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Lsn, ParseLsnError> {
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u32::from_str_radix(digits, 16).ok() } else { None }
        };
        let parsed = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = parsed.ok_or_else(|| ParseLsnError(text.to_owned()))?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

/// A 32-bit transaction id. It wraps around, so it has no order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Xid(pub u32);

/// The source's OID of a table, as pgoutput's Relation message gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelationId(pub u32);

/// The source's OID of a data type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeOid(pub u32);

/// Microseconds since 2000-01-01 00:00 UTC, by the source's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// Microseconds from 1970-01-01 to 2000-01-01 (`POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE` days in timestamp.h).
    const UNIX_EPOCH_OFFSET_US: i64 = 946_684_800_000_000;

    /// Microseconds since 1970-01-01 00:00 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(Self::UNIX_EPOCH_OFFSET_US)
    }

    /// From microseconds since 1970-01-01 00:00 UTC.
    pub fn from_unix_micros(micros: i64) -> PgTimestamp {
        PgTimestamp(micros.saturating_sub(Self::UNIX_EPOCH_OFFSET_US))
    }
}

macro_rules! plain_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
plain_number!(Xid, RelationId, TypeOid, PgTimestamp);

#[cfg(test)]
mod tests {
    use super::{Lsn, PgTimestamp};

    #[test]
    fn a_position_is_printed_as_it_is_parsed() {
        for text in ["0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().map(|lsn| lsn.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("16/b374d848".parse(), Ok(Lsn::from_u64(0x16_B374_D848)));
        assert_eq!("0/00000001".parse(), Ok(Lsn::from_u64(1)));
    }

    #[test]
    fn what_is_no_position_is_not_parsed() {
        for text in ["", "/", "1", "1/", "/1", "+1/1", "1/ 1", "0x1/1", "1/1/1", "100000000/0", "0/100000000"] {
            let error = text.parse::<Lsn>().expect_err(text);
            assert_eq!(error.to_string(), format!("\"{text}\" is not a position of the form 16/B374D848"));
        }
    }

    #[test]
    fn the_distance_to_a_later_position_is_none() {
        let (early, late) = (Lsn::from_u64(10), Lsn::from_u64(25));
        assert_eq!(late.bytes_since(early), Some(15));
        assert_eq!(early.bytes_since(early), Some(0));
        assert_eq!(early.bytes_since(late), None);
    }

    #[test]
    fn the_source_counts_its_time_from_the_year_2000() {
        assert_eq!(PgTimestamp(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(PgTimestamp::from_unix_micros(0), PgTimestamp(-946_684_800_000_000));
        assert_eq!(PgTimestamp(i64::MAX).unix_micros(), i64::MAX);
    }
}
