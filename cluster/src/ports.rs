//! Free ports on the loopback interface.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, TcpListener};

/// Below the ports that systems hand out to outgoing connections: a client that retries while its server is down
/// would else take the server's port away, or even connect to itself.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that nobody listens on now. Somebody may by the time it is used; then choose again.
pub(crate) fn free_port() -> std::io::Result<u16> {
    let start = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
    let mut last = None;
    for step in 0..u64::from(COUNT) {
        let offset = u16::try_from((start + step) % u64::from(COUNT)).unwrap_or(0);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST + offset)) {
            Ok(_) => return Ok(FIRST + offset),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}
