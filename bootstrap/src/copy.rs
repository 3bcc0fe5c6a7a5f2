//! Rows from one COPY to another, as bytes.

use bytes::{BufMut, BytesMut};
use connection::{Wire, command_tag_rows};
use postgres_protocol::message::frontend;

use crate::blanks::Blanks;
use crate::error::{Error, Whom};
use crate::failpoint::{self, Failpoint};
use crate::pace::Pace;
use crate::progress::Meter;

/// Rows are sent on in messages of about this size: the server takes one with less effort than its rows one by one.
const MESSAGE_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this for one large row is given back.
const KEPT_BYTES: usize = 4 << 20;

/// Two sessions and what flows between them.
pub(crate) struct Relay<'a> {
    pub(crate) source: &'a mut Wire,
    pub(crate) target: &'a mut Wire,
    pub(crate) meter: &'a Meter,
    pub(crate) pace: &'a Pace,
    /// For messages.
    pub(crate) table: &'a str,
    pub(crate) format: &'a Format,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary(Blanks),
}

impl Relay<'_> {
    /// Copies what `from` gives to what `to` takes. Memory is bounded by the largest row: what the target does not take is
    /// not asked for.
    pub(crate) async fn run(&mut self, from: &str, to: &str) -> Result<(), Error> {
        start(self.target, to, b'G', Whom::Target, self.table).await?;
        start(self.source, from, b'H', Whom::Source, self.table).await?;
        // In binary the end has a message of its own, as if it were a row.
        let mut uncounted = u64::from(*self.format != Format::Text);
        loop {
            let (bytes, ended) = self.gather(&mut uncounted).await?;
            self.send().await?;
            self.pace.after(bytes).await;
            if ended {
                break;
            }
        }
        finish(self.source, Whom::Source, self.table).await?;
        frontend::copy_done(self.target.out());
        finish(self.target, Whom::Target, self.table).await.map(drop)
    }

    /// Takes rows into one message until it is large enough. Their bytes, and whether they ended.
    ///
    /// Sending on what is at hand would wake the target for every few rows: the source's server writes 8 KiB at a time.
    async fn gather(&mut self, uncounted: &mut u64) -> Result<(u64, bool), Error> {
        let (mut bytes, mut rows) = (0, 0_u64);
        let out = self.target.out();
        let start = begin_message(out);
        let ended = loop {
            // Only what fails has its text made: this is done for every row.
            let message = self.source.next_message().await;
            let message = message.map_err(|error| Whom::Source.wire(reading(self.table))(error))?;
            match message.tag {
                b'd' => {
                    match self.format {
                        Format::Text => out.put_slice(message.body),
                        Format::Binary(blanks) => {
                            blanks.put(message.body, out).ok_or_else(|| Whom::Source.strange(reading(self.table)))?
                        }
                    }
                    bytes += message.body.len();
                    rows += 1;
                }
                b'c' => break true,
                b'E' => return Err(Error::refused(Whom::Source, reading(self.table), message.body)),
                _ => return Err(Whom::Source.strange(reading(self.table))),
            }
            if bytes >= MESSAGE_BYTES {
                break false;
            }
        };
        end_message(out, start)?;
        let left_out = rows.min(std::mem::take(uncounted));
        self.meter.add(bytes as u64, rows - left_out);
        Ok((bytes as u64, ended))
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.target.flush().await.map_err(Whom::Target.wire(writing(self.table)))?;
        if self.target.out().capacity() > KEPT_BYTES {
            *self.target.out() = BytesMut::new();
        }
        failpoint::reach(Failpoint::DuringCopy);
        match self.target.try_next().map_err(Whom::Target.wire(writing(self.table)))? {
            Some(message) if message.tag == b'E' => {
                Err(Error::refused(Whom::Target, writing(self.table), message.body))
            }
            Some(_) => Err(Whom::Target.strange(writing(self.table))),
            None => Ok(()),
        }
    }
}

fn reading(table: &str) -> String {
    format!("read table {table}")
}

fn writing(table: &str) -> String {
    format!("write table {table}")
}

fn doing(whom: Whom, table: &str) -> String {
    if whom == Whom::Source { reading(table) } else { writing(table) }
}

fn begin_message(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_slice(b"d\0\0\0\0");
    start
}

/// Writes the length of the message that began at `start`; one without rows is taken back.
fn end_message(out: &mut BytesMut, start: usize) -> Result<(), Error> {
    let length = out.len() - start - 1;
    if length <= 4 {
        out.truncate(start);
        return Ok(());
    }
    // A message of the source is never longer than fits, and few rows come with it.
    let length = u32::try_from(length).map_err(|_| Whom::Source.strange("send a row on"))?;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Sends a COPY statement and waits until the server is ready for it: `G` to take rows, `H` to give them.
async fn start(wire: &mut Wire, sql: &str, ready: u8, whom: Whom, table: &str) -> Result<(), Error> {
    let encoded = frontend::query(sql, wire.out()).map_err(connection::WireError::Encode);
    encoded.map_err(whom.wire(doing(whom, table)))?;
    let message = wire.next_message().await.map_err(whom.wire(doing(whom, table)))?;
    match message.tag {
        tag if tag == ready => Ok(()),
        b'E' => Err(Error::refused(whom, doing(whom, table), message.body)),
        _ => Err(whom.strange(doing(whom, table))),
    }
}

/// Waits until the server is ready for another statement; how many rows it counted.
async fn finish(wire: &mut Wire, whom: Whom, table: &str) -> Result<u64, Error> {
    let mut rows = 0;
    loop {
        let message = wire.next_message().await.map_err(whom.wire(doing(whom, table)))?;
        match message.tag {
            b'C' => rows = command_tag_rows(message.body),
            b'Z' => return Ok(rows),
            b'E' => return Err(Error::refused(whom, doing(whom, table), message.body)),
            _ => return Err(whom.strange(doing(whom, table))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_one_message_and_no_rows_none() {
        let mut out = BytesMut::from(&b"before"[..]);
        let start = begin_message(&mut out);
        end_message(&mut out, start).unwrap();
        assert_eq!(&out[..], b"before");
        let start = begin_message(&mut out);
        out.put_slice(b"row\nrow\n");
        end_message(&mut out, start).unwrap();
        assert_eq!(&out[..], b"befored\0\0\0\x0crow\nrow\n");
    }
}
