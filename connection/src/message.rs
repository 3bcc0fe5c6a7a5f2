//! Backend messages as they lie in the read buffer.

/// The longest length that a message may declare: the server's limit of 1 GiB for one allocation, and some slack.
pub const LENGTH_MAX: u32 = (1 << 30) + (1 << 16);

/// Tag and length.
pub(crate) const HEADER: usize = 5;

/// A whole message: its tag, and the body without tag and length, a slice of the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend<'a> {
    /// `D`, `C`, `W` …, as in the manual's "Message Formats".
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
}

/// A length that no message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLength {
    /// The message's tag.
    pub tag: u8,
    /// What it declares.
    pub length: u32,
}

/// The bytes that the first message of `buffer` takes, header included, once all of them are there.
///
/// # Errors
/// A declared length below 4 or above [`LENGTH_MAX`].
pub fn first_message_len(buffer: &[u8]) -> Result<Option<usize>, BadLength> {
    let Some((&[tag, a, b, c, d], _)) = buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=LENGTH_MAX).contains(&length) {
        return Err(BadLength { tag, length });
    }
    let total = length as usize + 1;
    Ok((buffer.len() >= total).then_some(total))
}

/// The columns of a DataRow's body; `None` inside is NULL. Ends early where the body does.
pub fn data_row(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let (count, rest) = body.split_first_chunk().map_or((0, body), |(count, rest)| (u16::from_be_bytes(*count), rest));
    Columns { rest, left: count }
}

struct Columns<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = i32::from_be_bytes(*length);
        let (value, rest) = match usize::try_from(length) {
            Ok(length) => rest.split_at_checked(length).map(|(value, rest)| (Some(value), rest))?,
            Err(_) => (None, rest),
        };
        self.rest = rest;
        Some(value)
    }
}

/// The number of rows that a CommandComplete's body ends with; 0 for a command that counts none.
#[must_use]
pub fn command_tag_rows(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(&[0]).unwrap_or(body);
    let last = tag.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(last).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The string at the start of a body, up to its NUL, and what follows.
pub(crate) fn cstr(body: &[u8]) -> Option<(&str, &[u8])> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let (text, rest) = body.split_at(end);
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_whole_or_not_or_impossible() {
        let bad = |length| Err(BadLength { tag: b'D', length });
        for (bytes, expected) in [
            (&b""[..], Ok(None)),
            (b"D\0\0\0", Ok(None)),
            (b"D\0\0\0\x04", Ok(Some(5))),
            (b"D\0\0\0\x04more", Ok(Some(5))),
            (b"D\0\0\0\x06a", Ok(None)),
            (b"D\0\0\0\x06ab", Ok(Some(7))),
            (b"D\0\0\0\x03", bad(3)),
            (b"D\x40\x01\0\0", Ok(None)),
            (b"D\x40\x01\0\x01", bad(LENGTH_MAX + 1)),
            (b"D\xFF\xFF\xFF\xFF", bad(u32::MAX)),
        ] {
            assert_eq!(first_message_len(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_data_row_is_walked_and_ends_early_where_it_is_cut() {
        let body = b"\0\x03\0\0\0\x02ab\xFF\xFF\xFF\xFF\0\0\0\0";
        let expected = [Some(&b"ab"[..]), None, Some(&b""[..])];
        assert_eq!(data_row(body).collect::<Vec<_>>(), expected);
        for end in 0..body.len() {
            let columns: Vec<_> = data_row(&body[..end]).collect();
            assert!(columns.len() < 3 && columns == expected[..columns.len()], "{end}");
        }
    }

    #[test]
    fn a_command_tag_ends_with_its_rows() {
        for (tag, expected) in [
            (&b"INSERT 0 42\0"[..], 42),
            (b"UPDATE 7\0", 7),
            (b"COPY 18446744073709551615\0", u64::MAX),
            (b"BEGIN\0", 0),
            (b"CREATE TABLE\0", 0),
            (b"SELECT 99999999999999999999\0", 0),
            (b"", 0),
        ] {
            assert_eq!(command_tag_rows(tag), expected, "{tag:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (first_message_len(&bytes), data_row(&bytes).count(), command_tag_rows(&bytes), cstr(&bytes));
            let _ = crate::ServerError::parse(&bytes).to_string();
        }
    }
}
