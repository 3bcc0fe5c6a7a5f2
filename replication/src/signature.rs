//! Which logical messages are walcast's.
//!
//! Everybody who can connect to the source may write messages with any prefix. Those of the capture begin with 64
//! hexadecimal digits: the HMAC-SHA256, by a key that only the capture and the service know, of the JSON that follows.
//! That JSON names its transaction, so that what was signed once cannot be written again:
//!
//! | content | of a transaction with its xid | is |
//! | --- | --- | --- |
//! | empty | any | a marker, which does nothing |
//! | right digits | yes | walcast's |
//! | right digits | no | copied from another transaction: dropped |
//! | anything else | any | forged, or of a key that is not known yet: see [`crate::keeper`] |

use decoder::Xid;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Bytes of each form of the key.
const BLOCK: usize = 64;
/// Hexadecimal digits before the JSON.
pub(crate) const DIGITS: usize = 64;

/// The key of the messages. It is never shown.
#[derive(Clone)]
pub(crate) struct Key {
    /// The hash after the padded key.
    inner: Sha256,
    outer: Sha256,
}

impl Key {
    /// From the padded forms of `walcast.secret`; `None` if they have not the length of a block.
    pub(crate) fn from_padded(inner: &[u8], outer: &[u8]) -> Option<Key> {
        let begun = |padded: &[u8]| (padded.len() == BLOCK).then(|| Sha256::new().chain_update(padded));
        Some(Key { inner: begun(inner)?, outer: begun(outer)? })
    }

    fn sign(&self, text: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(text).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }

    /// Whether the capture wrote this content in the transaction `xid`.
    pub(crate) fn verify(&self, content: &[u8], xid: Xid) -> Result<(), Unverified> {
        let (digits, json) = content.split_at_checked(DIGITS).ok_or(Unverified::Unsigned)?;
        let claimed = from_hex(digits).ok_or(Unverified::Unsigned)?;
        if !same(&claimed, &self.sign(json)) {
            return Err(Unverified::Signature);
        }
        let named = serde_json::from_slice::<Envelope>(json).map_err(|_| Unverified::Transaction)?;
        if named.xid.parse() == Ok(xid.0) { Ok(()) } else { Err(Unverified::Transaction) }
    }
}

/// Why a message is not walcast's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// No key is known.
    NoKey,
    /// It does not begin with a signature.
    Unsigned,
    /// The signature is another one.
    Signature,
    /// It was signed for another transaction.
    Transaction,
}

impl Unverified {
    /// In words.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Unverified::NoKey => "the capture is not installed",
            Unverified::Unsigned => "it has no signature",
            Unverified::Signature => "its signature is wrong",
            Unverified::Transaction => "it was signed for another transaction",
        }
    }

    /// Whether a key that is read anew may verify it.
    pub(crate) fn depends_on_key(self) -> bool {
        matches!(self, Unverified::NoKey | Unverified::Signature)
    }
}

/// What has to be known of the JSON here.
#[derive(Deserialize)]
struct Envelope {
    xid: String,
    subxid: Option<String>,
}

/// The subtransaction that a message says it is of. Rows of a stream are told with theirs, messages with the transaction's
/// (`pgoutput_message`), so they would stay when theirs is rolled back. What is not signed goes at the commit, whatever
/// it says.
pub(crate) fn subtransaction(content: &[u8]) -> Option<Xid> {
    let (_, json) = content.split_at_checked(DIGITS)?;
    serde_json::from_slice::<Envelope>(json).ok()?.subxid?.parse().ok().map(Xid)
}

/// Takes the same time wherever the two differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0
}

fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    (digits.len() == DIGITS).then_some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As the capture pads a key.
    pub(crate) fn padded(key: [u8; 32], with: u8) -> Vec<u8> {
        (0..BLOCK).map(|at| key.get(at).unwrap_or(&0) ^ with).collect()
    }

    pub(crate) fn key(byte: u8) -> Key {
        Key::from_padded(&padded([byte; 32], 0x36), &padded([byte; 32], 0x5c)).expect("a block each")
    }

    /// The content of a message that the key has signed.
    pub(crate) fn signed(key: &Key, json: &str) -> Vec<u8> {
        let digits = key.sign(json.as_bytes()).map(|byte| format!("{byte:02x}")).concat();
        [digits.as_bytes(), json.as_bytes()].concat()
    }

    /// RFC 4231, test case 2 (a key shorter than a block is padded with zeros).
    #[test]
    fn it_is_hmac_sha256() {
        let mut short = [0; 32];
        short[..4].copy_from_slice(b"Jefe");
        let key = Key::from_padded(&padded(short, 0x36), &padded(short, 0x5c)).expect("a block each");
        let digits = key.sign(b"what do ya want for nothing?").map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(digits, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn x08_only_what_the_key_signed_for_this_transaction_is_walcasts() {
        let (key, other) = (key(7), key(8));
        let json = r#"{"v": 1, "xid": "4711", "tag": "ALTER TABLE", "changes": [{"xid": "12"}]}"#;
        let content = signed(&key, json);
        let verify = |content: &[u8], xid| key.verify(content, Xid(xid));
        assert_eq!(verify(&content, 4711), Ok(()));
        assert_eq!(verify(&content, 12), Err(Unverified::Transaction), "a copy in another transaction");
        assert_eq!(verify(&signed(&other, json), 4711), Err(Unverified::Signature));
        assert_eq!(verify(&signed(&key, "{}"), 4711), Err(Unverified::Transaction));
        assert_eq!(verify(&signed(&key, "no json"), 4711), Err(Unverified::Transaction));
        for at in 0..content.len() {
            let mut altered = content.clone();
            altered[at] ^= 1;
            assert!(verify(&altered, 4711).is_err(), "byte {at}");
            assert!(verify(&content[..at], 4711).is_err(), "the first {at} bytes");
        }
    }

    #[test]
    fn a_message_names_its_subtransaction() {
        let named = |json: &str| subtransaction(&signed(&key(7), json));
        assert_eq!(named(r#"{"xid": "4711", "subxid": "4713", "tag": "x"}"#), Some(Xid(4713)));
        for json in [r#"{"xid": "4711"}"#, r#"{"xid": "4711", "subxid": "-1"}"#, "no json", ""] {
            assert_eq!(named(json), None, "{json}");
        }
        assert_eq!(subtransaction(b"short"), None);
    }

    #[test]
    fn a_key_of_another_length_is_none() {
        assert!(Key::from_padded(&[0; 64], &[0; 63]).is_none());
        assert!(Key::from_padded(&[], &[0; 64]).is_none());
    }
}
