//! Sizes and times as people write them: `64MiB`, `10ms`, `0`.

use std::time::Duration;

use crate::Problem;

const SIZES: [(&str, u64); 6] =
    [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const TIMES_US: [(&str, u64); 5] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];

/// Reads a size such as `64MiB` or `0`; the units are powers of 1024.
///
/// # Errors
/// A text that is not digits and one of the units, or a size beyond 2^64 bytes.
pub fn parse_size(text: &str) -> Result<u64, Problem> {
    let hint = "write digits and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\"";
    scaled(text, &SIZES).ok_or_else(|| Problem::new(format!("\"{text}\" is not a size"), hint))
}

/// Reads a time such as `10ms` or `5s`; `0` needs no unit.
///
/// # Errors
/// A text that is not digits and one of the units.
pub fn parse_duration(text: &str) -> Result<Duration, Problem> {
    let hint = "write digits and one of us, ms, s, m, h, such as \"10ms\"";
    let micros = if text.trim() == "0" { Some(0) } else { scaled(text, &TIMES_US) };
    micros.map(Duration::from_micros).ok_or_else(|| Problem::new(format!("\"{text}\" is not a time"), hint))
}

/// The whole number in front of the unit, times the unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [("0", 0), ("12", 12), ("7B", 7), ("1KiB", 1024), ("64MiB", 64 << 20), ("4 GiB", 4 << 30)];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "64MB", "64mib", "1e3", "99999999999TiB", "18446744073709551616"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units_except_zero() {
        let cases = [("0", 0), ("10ms", 10_000), ("5s", 5_000_000), ("2m", 120_000_000), ("250us", 250)];
        for (text, micros) in cases {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_micros(micros), "{text}");
        }
        for text in ["", "10", "ms", "-1s", "1.5s", "5 minutes"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
