//! A system identifier of its own for a copied cluster.
//!
//! `initdb` gives every cluster an identifier by which consumers tell clusters apart, so a plain copy would pass for the
//! original. It stands at the start of the control file, which ends in a CRC-32C, and at offset 24 of the first page of
//! every WAL file, in all versions supported.

#![expect(
    clippy::host_endian_bytes,
    reason = "a server writes its control file in the byte order of its machine, which is ours"
)]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Error;

const IDENTIFIER_LEN: usize = 8;
const CHECKSUM_LEN: usize = 4;
const WAL_IDENTIFIER_OFFSET: u64 = 24;

/// Gives the cluster in `data_dir`, which was shut down cleanly or never started, a new random identifier.
pub(crate) fn renew(data_dir: &Path) -> Result<(), Error> {
    let identifier = RandomState::new().hash_one(data_dir).to_ne_bytes();
    renew_control_file(&data_dir.join("global/pg_control"), identifier)?;
    renew_wal(&data_dir.join("pg_wal"), identifier)
}

fn renew_control_file(path: &Path, identifier: [u8; IDENTIFIER_LEN]) -> Result<(), Error> {
    let mut control = fs::read(path).map_err(Error::file("read", path))?;
    replace_identifier(&mut control, identifier).ok_or_else(|| Error::ControlFile { path: path.to_path_buf() })?;
    fs::write(path, control).map_err(Error::file("write", path))
}

/// Puts `identifier` at the start of `control` and corrects the checksum, whose place depends on the version.
fn replace_identifier(control: &mut [u8], identifier: [u8; IDENTIFIER_LEN]) -> Option<()> {
    let checksum_at = find_checksum(control)?;
    control.get_mut(..IDENTIFIER_LEN)?.copy_from_slice(&identifier);
    let checksum = crc32c::crc32c(control.get(..checksum_at)?).to_ne_bytes();
    control.get_mut(checksum_at..checksum_at + CHECKSUM_LEN)?.copy_from_slice(&checksum);
    Some(())
}

/// Where the checksum of all that is before it stands.
fn find_checksum(control: &[u8]) -> Option<usize> {
    let mut places = (IDENTIFIER_LEN..control.len().saturating_sub(CHECKSUM_LEN)).step_by(CHECKSUM_LEN);
    places.find(|&at| {
        let before = control.get(..at).map(crc32c::crc32c).map(u32::to_ne_bytes);
        before.is_some_and(|checksum| control.get(at..at + CHECKSUM_LEN) == Some(&checksum))
    })
}

fn renew_wal(wal_dir: &Path, identifier: [u8; IDENTIFIER_LEN]) -> Result<(), Error> {
    for entry in fs::read_dir(wal_dir).map_err(Error::file("read", wal_dir))? {
        let path = entry.map_err(Error::file("read", wal_dir))?.path();
        if path.is_file() {
            let file = fs::OpenOptions::new().write(true).open(&path).map_err(Error::file("open", &path))?;
            file.write_all_at(&identifier, WAL_IDENTIFIER_OFFSET).map_err(Error::file("write", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_found_and_corrected() {
        let mut control: Vec<u8> = (0..=255).collect();
        let checksum = crc32c::crc32c(&control).to_ne_bytes();
        control.extend(checksum);
        control.resize(8192, 0);
        assert_eq!(find_checksum(&control), Some(256));
        replace_identifier(&mut control, [7; 8]).unwrap();
        assert_eq!(control[..8], [7; 8]);
        assert_eq!(find_checksum(&control), Some(256));
    }

    #[test]
    fn bytes_without_a_checksum_are_refused() {
        assert_eq!(replace_identifier(&mut [1; 64], [7; 8]), None);
    }
}
