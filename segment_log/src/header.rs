//! The first 4096 bytes of a segment.
//!
//! ```text
//!   0 magic           8 bytes "walcast\n"       40 seq             u64  number of the segment, consecutive
//!   8 format          u32                       48 first_lsn       u64  see `Header::first_lsn`
//!  12 min_reader      u32                       56 open_end_lsn    u64  0: begins between transactions
//!  16 archive_format  u32                       64 first_frame_no  u64
//!  20 crc             u32                       72 synced          u64  as in a frame
//!  24 salt            u32                       80 created         i64  µs since 1970
//!  28 timeline        u32                       88 size            u64  of the file
//!  32 system_id       u64                       96 prev_crc        u32  `crc` of the frame before
//!                                              100 database, slot, publication: u16 length and bytes each; then zeros
//! ```
//!
//! `crc` is the crc32c of the other 4092 bytes. Magic, format, min_reader and crc keep their places in every version.

use decoder::Lsn;

use crate::log::Identity;

/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: usize = 4096;
/// What is written.
pub(crate) const FORMAT_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"walcast\n";
/// rkyv 0.8, little-endian, aligned, 32-bit offsets.
const ARCHIVE_FORMAT: u32 = 0x0008_0001;
const CRC_AT: usize = 20;
const NAMES_AT: usize = 100;

/// A header whose checksum and version were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: Identity,
    /// Random; seeds the checksums of this life of the file.
    pub(crate) salt: u32,
    pub(crate) seq: u64,
    /// Every transaction with `end_lsn > first_lsn` begins in this segment or later.
    pub(crate) first_lsn: Lsn,
    /// End of the transaction in whose middle the segment begins; then `first_lsn` is the same.
    pub(crate) open: Option<Lsn>,
    pub(crate) first_frame_no: u64,
    pub(crate) prev_crc: u32,
    pub(crate) synced: u64,
    pub(crate) created_unix_micros: i64,
    pub(crate) size: u64,
}

/// What is wrong with the first bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Shorter than a header.
    Short { bytes: usize },
    /// Never written.
    Zero,
    /// Not a segment, or changed since.
    Damaged(&'static str),
    /// Written by another version.
    Version { found: u32 },
}

/// The names don't fit; the number of bytes that they have.
#[derive(Debug)]
pub(crate) struct NamesTooLong(pub(crate) usize);

impl Header {
    pub(crate) fn encode(&self) -> Result<Box<[u8; HEADER_BYTES]>, NamesTooLong> {
        let names = [&self.identity.database, &self.identity.slot, &self.identity.publication];
        let mut fields = Vec::with_capacity(HEADER_BYTES);
        fields.extend_from_slice(MAGIC);
        for number in [FORMAT_VERSION, FORMAT_VERSION, ARCHIVE_FORMAT, 0, self.salt, self.identity.timeline] {
            fields.extend_from_slice(&number.to_le_bytes());
        }
        let open = self.open.unwrap_or_default().as_u64();
        let created = self.created_unix_micros as u64;
        let first_lsn = self.first_lsn.as_u64();
        let wide =
            [self.identity.system_id, self.seq, first_lsn, open, self.first_frame_no, self.synced, created, self.size];
        wide.iter().for_each(|number| fields.extend_from_slice(&number.to_le_bytes()));
        fields.extend_from_slice(&self.prev_crc.to_le_bytes());
        for name in names {
            fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
            fields.extend_from_slice(name.as_bytes());
        }
        let mut bytes = Box::new([0; HEADER_BYTES]);
        bytes.get_mut(..fields.len()).ok_or(NamesTooLong(fields.len()))?.copy_from_slice(&fields);
        let crc = header_crc(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Short { bytes: bytes.len() })?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(HeaderError::Zero);
        }
        let mut fields = Fields { bytes, at: 0 };
        if fields.take(8) != Some(MAGIC) {
            return Err(HeaderError::Damaged("not a walcast log segment"));
        }
        let (format, min_reader, archive, crc) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
        if crc != header_crc(bytes) {
            return Err(HeaderError::Damaged("checksum of the header does not match"));
        }
        if format < FORMAT_VERSION || min_reader > FORMAT_VERSION || archive != ARCHIVE_FORMAT {
            return Err(HeaderError::Version { found: format });
        }
        Header::decode_fields(fields).ok_or(HeaderError::Damaged("names in the header are not readable"))
    }

    fn decode_fields(mut fields: Fields<'_>) -> Option<Header> {
        let (salt, timeline, system_id, seq) = (fields.u32(), fields.u32(), fields.u64(), fields.u64());
        let (first_lsn, open) = (Lsn::from_u64(fields.u64()), Lsn::from_u64(fields.u64()));
        let (first_frame_no, synced, created, size) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
        let prev_crc = fields.u32();
        let (database, slot, publication) = (fields.name()?, fields.name()?, fields.name()?);
        Some(Header {
            identity: Identity { system_id, timeline, database, slot, publication },
            salt,
            seq,
            first_lsn,
            open: (open != Lsn::ZERO).then_some(open),
            first_frame_no,
            prev_crc,
            synced,
            created_unix_micros: created as i64,
            size,
        })
    }

    /// The file's name.
    pub(crate) fn file_name(&self) -> String {
        format!("{:016x}-{:016X}.seg", self.seq, self.first_lsn.as_u64())
    }
}

/// Sequence number and first position from a segment's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<(u64, Lsn)> {
    let (seq, first_lsn) = name.strip_suffix(".seg")?.split_once('-')?;
    let hex = |digits: &str| {
        let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if plain { u64::from_str_radix(digits, 16).ok() } else { None }
    };
    Some((hex(seq)?, Lsn::from_u64(hex(first_lsn)?)))
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}

/// Reads one field after the other.
struct Fields<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + len)?;
        self.at += len;
        Some(taken)
    }

    fn u32(&mut self) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(self.take(4).unwrap_or(&[0; 4]));
        u32::from_le_bytes(raw)
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    fn name(&mut self) -> Option<String> {
        let len = self.take(2)?;
        let len = usize::from(*len.first()?) | usize::from(*len.get(1)?) << 8;
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }
}

const _: () = assert!(NAMES_AT == 8 + 6 * 4 + 8 * 8 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let (database, slot, publication) = ("app".to_owned(), "walcast".to_owned(), "p\"ü".to_owned());
        Header {
            identity: Identity { system_id: 7_000_000_000_000_000_000, timeline: 3, database, slot, publication },
            salt: 0xDEAD_BEEF,
            seq: 12,
            first_lsn: Lsn::from_u64(0x16_B374_D848),
            open: Some(Lsn::from_u64(0x16_B374_D848)),
            first_frame_no: 1234,
            prev_crc: 99,
            synced: 1200,
            created_unix_micros: -5,
            size: 64 << 20,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_and_its_name_says_where_it_begins() {
        let bytes = header().encode().unwrap();
        assert_eq!(Header::decode(&bytes[..]).unwrap(), header());
        assert_eq!(header().file_name(), "000000000000000c-00000016B374D848.seg");
        assert_eq!(parse_file_name(&header().file_name()), Some((12, header().first_lsn)));
        assert_eq!(parse_file_name("000000000000000c-+0000016B374D848.seg"), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let bytes = header().encode().unwrap();
        for bit in 0..HEADER_BYTES * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            Header::decode(&changed[..]).unwrap_err();
        }
    }

    #[test]
    fn a_short_or_empty_header_is_told_from_a_damaged_one() {
        let bytes = header().encode().unwrap();
        assert_eq!(Header::decode(&bytes[..4095]), Err(HeaderError::Short { bytes: 4095 }));
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), Err(HeaderError::Zero));
    }

    #[test]
    fn another_format_version_is_named() {
        for version in [0u32, 2] {
            let mut bytes = header().encode().unwrap();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            bytes[12..16].copy_from_slice(&version.to_le_bytes());
            let crc = header_crc(&bytes);
            bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Header::decode(&bytes[..]), Err(HeaderError::Version { found: version }));
        }
    }

    #[test]
    fn names_that_do_not_fit_are_an_error() {
        let mut long = header();
        long.identity.publication = "x".repeat(4000);
        assert_eq!(long.encode().unwrap_err().0, 4000 + 3 + 7 + 6 + NAMES_AT);
    }
}
