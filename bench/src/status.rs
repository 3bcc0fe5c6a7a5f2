//! What `/status` of walcast says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio_postgres::types::PgLsn;

/// How long connecting and an answer may take.
pub(crate) const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The smallest position of the targets of these names; `None` when one has none yet.
pub(crate) fn applied_by_all(status: &Value, names: &[String]) -> anyhow::Result<Option<PgLsn>> {
    let targets = status["targets"].as_array().context("walcast's status has no targets")?;
    let named = targets.iter().filter(|target| names.iter().any(|name| target["name"] == **name));
    let positions = named.map(applied_by).collect::<anyhow::Result<Vec<_>>>()?;
    // `None` is smaller than any position.
    Ok(positions.into_iter().min().flatten())
}

fn applied_by(target: &Value) -> anyhow::Result<Option<PgLsn>> {
    if ["stopped", "desync"].contains(&target["state"].as_str().unwrap_or_default()) {
        bail!("walcast stopped target {}: {}", target["name"], target["last_error"]);
    }
    position(target, "/applied_lsn")
}

/// The position at `pointer`; `None` when it is null.
pub(crate) fn position(status: &Value, pointer: &str) -> anyhow::Result<Option<PgLsn>> {
    match status.pointer(pointer) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(lsn) => Ok(Some(lsn)),
            Err(_) => bail!("{pointer} of walcast's status is {text:?}, not an LSN"),
        },
        other => bail!("{pointer} of walcast's status is {other:?}, not an LSN"),
    }
}

pub(crate) fn get(mut stream: TcpStream) -> anyhow::Result<Value> {
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: walcast\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse_answer(&answer)
}

/// The JSON body of an HTTP answer that was read to its end.
fn parse_answer(answer: &[u8]) -> anyhow::Result<Value> {
    let text = std::str::from_utf8(answer).context("walcast's status is not UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").context("walcast's status has no end of header")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("walcast's status is {:?}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).context("walcast's status is not JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_from_a_status() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\
            {\"log\":{\"durable_lsn\":\"1/A0\"},\"targets\":[{\"applied_lsn\":null}]}";
        let status = parse_answer(answer).unwrap();
        assert_eq!(position(&status, "/log/durable_lsn").unwrap(), Some(PgLsn::from(0x1_0000_00A0)));
        assert_eq!(position(&status, "/targets/0/applied_lsn").unwrap(), None);
        assert!(position(&status, "/targets/1/applied_lsn").is_err());
    }

    #[test]
    fn the_slowest_of_the_named_targets_counts() {
        let target = |name: &str, applied: Option<&str>| serde_json::json!({"name": name, "applied_lsn": applied});
        let status = |first| serde_json::json!({"targets": [target("a", first), target("b", Some("0/B0"))]});
        let both = ["a", "b"].map(String::from);
        assert_eq!(applied_by_all(&status(Some("0/A0")), &both).unwrap(), Some(PgLsn::from(0xA0)));
        assert_eq!(applied_by_all(&status(None), &both).unwrap(), None);
        assert_eq!(applied_by_all(&status(None), &both[1..]).unwrap(), Some(PgLsn::from(0xB0)));
        let stopped = serde_json::json!({"targets": [{"name": "a", "state": "stopped", "last_error": "no row"}]});
        assert!(applied_by_all(&stopped, &both).is_err());
    }

    #[test]
    fn answers_that_are_no_status_are_errors() {
        for answer in ["", "HTTP/1.1 503 Busy\r\n\r\n{}", "HTTP/1.1 200 OK\r\n\r\n{", "HTTP/1.1 200 OK\r\n{}"] {
            assert!(parse_answer(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }
}
