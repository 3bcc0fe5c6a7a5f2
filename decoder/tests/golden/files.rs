//! The committed recordings.

use super::format::{Recorded, Session, parse};

const FILES: [(&str, &str); 5] = [
    ("14", include_str!("14.txt")),
    ("15", include_str!("15.txt")),
    ("16", include_str!("16.txt")),
    ("17", include_str!("17.txt")),
    ("18", include_str!("18.txt")),
];

/// Every session with the major version that sent it.
pub(crate) fn sessions() -> impl Iterator<Item = (&'static str, Session)> {
    FILES.into_iter().flat_map(|(version, file)| parse(file).into_iter().map(move |session| (version, session)))
}

/// Every message of every version.
pub(crate) fn messages() -> Vec<Recorded> {
    sessions().flat_map(|(_, session)| session.messages).collect()
}
