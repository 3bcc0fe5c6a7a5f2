//! The few parts of an X.509 certificate that TLS libraries leave to the caller, read as DER.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, `[1]` … of a constructed type.
const CONTEXT: u8 = 0xA0;

/// A certificate, borrowed from its DER.
pub(crate) struct Certificate<'a> {
    der: &'a [u8],
    signature_algorithm: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    /// SubjectPublicKeyInfo with its own header.
    pub(crate) public_key_info: &'a [u8],
    extensions: &'a [u8],
}

/// A value: its tag, its contents, and its whole self with the header.
struct Value<'a> {
    tag: u8,
    contents: &'a [u8],
    whole: &'a [u8],
}

/// The value at the start of `input`, and what follows it.
fn value(input: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&[tag, first], after) = input.split_first_chunk::<2>()?;
    let (length, after) = match first {
        0..=0x7F => (usize::from(first), after),
        0x81..=0x84 => {
            let (bytes, after) = after.split_at_checked(usize::from(first & 0x7F))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), after)
        }
        // Indefinite lengths are not DER, and longer ones are no certificate.
        _ => return None,
    };
    let (contents, rest) = after.split_at_checked(length)?;
    let whole = input.get(..input.len() - rest.len())?;
    Some((Value { tag, contents, whole }, rest))
}

/// The values that `input` consists of, up to the first that is broken.
fn values(mut input: &[u8]) -> impl Iterator<Item = Value<'_>> {
    std::iter::from_fn(move || {
        let (value, rest) = value(input)?;
        input = rest;
        Some(value)
    })
}

/// The contents of the value at the start of `input` when it has this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (value, rest) = value(input)?;
    (value.tag == tag).then_some((value.contents, rest))
}

impl<'a> Certificate<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (to_be_signed, rest) = expect(certificate, SEQUENCE)?;
        let (signature_algorithm, _) = expect(rest, SEQUENCE)?;
        let mut fields = values(to_be_signed).peekable();
        // The version is left out by the first version.
        fields.next_if(|field| field.tag == CONTEXT);
        let [_serial, _algorithm, _issuer] = [fields.next()?, fields.next()?, fields.next()?];
        let [validity, subject, public_key_info] = [fields.next()?, fields.next()?, fields.next()?];
        let extensions = fields.find(|field| field.tag == CONTEXT + 3);
        Some(Certificate {
            der,
            signature_algorithm,
            validity: validity.contents,
            subject: subject.contents,
            public_key_info: public_key_info.whole,
            extensions: extensions.and_then(|field| expect(field.contents, SEQUENCE)).map_or(&[], |(list, _)| list),
        })
    }

    /// The `tls-server-end-point` of RFC 5929: the certificate's hash by the hash of its own signature, and by SHA-256
    /// where that is MD5 or SHA-1. None for signatures without a hash of their own, as Ed25519.
    pub(crate) fn server_end_point(&self) -> Option<Vec<u8>> {
        Some(match signature_hash(self.signature_algorithm)? {
            Hash::Sha224 => Sha224::digest(self.der).to_vec(),
            Hash::Sha256 => Sha256::digest(self.der).to_vec(),
            Hash::Sha384 => Sha384::digest(self.der).to_vec(),
            Hash::Sha512 => Sha512::digest(self.der).to_vec(),
        })
    }

    /// Is this moment, in seconds since 1970, within its validity?
    pub(crate) fn valid_at(&self, now: i64) -> bool {
        let mut times = values(self.validity).map(|time| seconds(&time));
        let (Some(Some(from)), Some(Some(to))) = (times.next(), times.next()) else { return false };
        (from..=to).contains(&now)
    }

    /// Does it name hosts or addresses in subjectAltName? Then its common name means nothing.
    pub(crate) fn has_alternative_names(&self) -> bool {
        let (dns, ip) = (0x82, 0x87);
        let names = self.extension("2.5.29.17").and_then(|names| expect(names, SEQUENCE));
        names.is_some_and(|(names, _)| values(names).any(|name| name.tag == dns || name.tag == ip))
    }

    /// The first common name of its subject.
    pub(crate) fn common_name(&self) -> Option<&'a str> {
        let sets = values(self.subject).filter(|name| name.tag == SET);
        let mut attributes = sets.flat_map(|set| values(set.contents));
        attributes.find_map(|attribute| {
            let (id, rest) = expect(attribute.contents, OBJECT_ID)?;
            let (text, _) = value(rest)?;
            (object_id(id) == "2.5.4.3").then_some(text.contents).and_then(|text| std::str::from_utf8(text).ok())
        })
    }

    fn extension(&self, wanted: &str) -> Option<&'a [u8]> {
        values(self.extensions).find_map(|extension| {
            let (id, _) = expect(extension.contents, OBJECT_ID)?;
            let octets = values(extension.contents).find(|part| part.tag == OCTET_STRING)?;
            (object_id(id) == wanted).then_some(octets.contents)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

fn signature_hash(algorithm: &[u8]) -> Option<Hash> {
    let (id, parameters) = expect(algorithm, OBJECT_ID)?;
    match object_id(id).as_str() {
        // MD5 and SHA-1 with RSA, DSA and ECDSA.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10040.4.3" | "1.2.840.10045.4.1" => {
            Some(Hash::Sha256)
        }
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.3.1" => Some(Hash::Sha224),
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" => Some(Hash::Sha256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.3.3" => Some(Hash::Sha384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.3.4" => Some(Hash::Sha512),
        "1.2.840.113549.1.1.10" => pss_hash(parameters),
        _ => None,
    }
}

/// RSASSA-PSS names its hash in its parameters; SHA-1 is the default there.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (parameters, _) = expect(parameters, SEQUENCE)?;
    let Some((algorithm, _)) = expect(parameters, CONTEXT) else { return Some(Hash::Sha256) };
    let (algorithm, _) = expect(algorithm, SEQUENCE)?;
    let (id, _) = expect(algorithm, OBJECT_ID)?;
    match object_id(id).as_str() {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Hash::Sha256),
        "2.16.840.1.101.3.4.2.2" => Some(Hash::Sha384),
        "2.16.840.1.101.3.4.2.3" => Some(Hash::Sha512),
        "2.16.840.1.101.3.4.2.4" => Some(Hash::Sha224),
        _ => None,
    }
}

/// The dotted form of an object identifier.
fn object_id(contents: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    for &byte in contents {
        arc = arc << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    // The first two arcs share one number.
    let (first, rest) = arcs.split_first().map_or((0, &[][..]), |(&first, rest)| (first, rest));
    let top = (first / 40).min(2);
    let head = [top, first - top * 40];
    head.iter().chain(rest).map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn seconds(time: &Value<'_>) -> Option<i64> {
    let digits = std::str::from_utf8(time.contents).ok()?.strip_suffix('Z')?;
    let (year, rest) = match time.tag {
        UTC_TIME => digits.split_at_checked(2).map(|(year, rest)| (year.parse::<i64>(), rest))?,
        GENERALIZED_TIME => digits.split_at_checked(4).map(|(year, rest)| (year.parse::<i64>(), rest))?,
        _ => return None,
    };
    let year = match year.ok()? {
        year @ 0..50 if time.tag == UTC_TIME => 2000 + year,
        year @ 50..100 if time.tag == UTC_TIME => 1900 + year,
        year => year,
    };
    let part = |index: usize| rest.get(index * 2..index * 2 + 2).and_then(|two| two.parse::<i64>().ok());
    let days = days_since_1970(year, part(0)?, part(1)?);
    Some(((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?)
}

/// Days of the Gregorian calendar; years begin in March, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<i64> {
        seconds(&Value { tag, contents: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "240229123456Z"), Some(1_709_210_096));
        assert_eq!(time(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(UTC_TIME, "2402291234Z"), None);
        assert_eq!(time(UTC_TIME, "ü0229123456Z"), None);
        assert_eq!(time(SET, "240229123456Z"), None);
    }

    #[test]
    fn object_identifiers_are_dotted() {
        assert_eq!(object_id(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B]), "1.2.840.113549.1.1.11");
        assert_eq!(object_id(&[0x55, 0x1D, 0x11]), "2.5.29.17");
        assert_eq!(object_id(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01]), "2.16.840.1.101.3.4.2.1");
    }

    #[test]
    fn a_pss_signature_hashes_as_its_parameters_say() {
        let id = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
        let with = |parameters: &[u8]| signature_hash(&[&id[..], parameters].concat());
        assert_eq!(with(&[0x30, 0x00]), Some(Hash::Sha256));
        let sha384 =
            [0x30, 0x0F, 0xA0, 0x0D, 0x30, 0x0B, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
        assert_eq!(with(&sha384), Some(Hash::Sha384));
        assert_eq!(with(&sha384[..16]), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, year: i64, contents in "[0-9]{0,20}Z?") {
            if let Some(certificate) = Certificate::parse(&bytes) {
                let _ = (certificate.server_end_point(), certificate.common_name(), certificate.has_alternative_names());
                certificate.valid_at(year);
            }
            let _ = (object_id(&bytes), signature_hash(&bytes), time(UTC_TIME, &contents), time(GENERALIZED_TIME, &contents));
        }
    }
}
