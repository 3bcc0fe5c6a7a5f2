//! What `status` and `/status` show: the contract's shape, and the same for people.

use std::fmt::Write;

use decoder::Lsn;
use serde::{Deserialize, Serialize};

/// The word for source and targets while the service is down.
pub(crate) const OFFLINE: &str = "offline";

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The source.
    pub source: Source,
    /// The log; `None` while there is none.
    pub log: Option<Log>,
    /// The targets, in the order of the configuration.
    pub targets: Vec<Target>,
}

/// The source.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Source {
    /// `connecting`, `streaming`, `retrying`, `stopped` or `offline`.
    pub state: String,
    /// Read from the slot up to here.
    pub received_lsn: Option<String>,
    /// The slot, as last seen.
    pub slot: Option<Slot>,
    /// Why it is not streaming.
    pub last_error: Option<String>,
    /// What is wrong with the capture of DDL, roles and grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_error: Option<String>,
}

/// The slot, as in `pg_replication_slots`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Acknowledged up to here.
    pub confirmed_flush_lsn: Option<String>,
    /// WAL is kept from here.
    pub restart_lsn: Option<String>,
    /// WAL kept for it.
    pub retained_bytes: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

/// The segment log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    /// It begins after this position.
    pub first_lsn: String,
    /// It is fsynced up to here.
    pub durable_lsn: String,
    /// Of all segment files.
    pub bytes: u64,
    /// Number of segment files.
    pub segments: u64,
}

/// A target.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Its name.
    pub name: String,
    /// One of the contract's states, or `offline`.
    pub state: String,
    /// Committed there up to here.
    pub applied_lsn: Option<String>,
    /// Flushed to disk there up to here.
    pub checkpoint_lsn: Option<String>,
    /// From there to the source's end.
    pub lag_bytes: Option<u64>,
    /// Age of the oldest transaction that is not applied.
    pub lag_seconds: Option<f64>,
    /// Why it is stopped, or what it is retrying after.
    pub last_error: Option<String>,
    /// Tables that get no changes until they are copied again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<String>,
    /// Privileges that wait for roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_grants: Vec<PendingGrant>,
    /// Objects that wait for what the target lacks, because not all tables are replicated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_objects: Vec<PendingObject>,
    /// While it is copied, as far as the copying command has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Progress>,
}

/// A privilege, or an owner, that waits for roles which the target lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PendingGrant {
    /// The object.
    pub object: String,
    /// The roles, separated by commas.
    pub missing: String,
}

/// An object that cannot be made on the target yet, or not be made what it is by now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PendingObject {
    /// The object.
    pub object: String,
    /// What the target said.
    pub why: String,
}

/// How far the copy of a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// So many bytes are there.
    pub copied_bytes: u64,
    /// So many there will be.
    pub expected_bytes: u64,
    /// So many tables are whole.
    pub tables_done: u64,
    /// Of so many.
    pub tables: u64,
    /// Bytes a second to which the copy is held back, because other targets get later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_to: Option<u64>,
}

impl Status {
    /// The target of this name.
    pub(crate) fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|t| t.name == name)
    }

    /// For people, in a few lines.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "source  {}", self.source.to_text());
        let _ = writeln!(text, "log     {}", self.log.as_ref().map_or("none yet".to_owned(), Log::to_text));
        let rows: Vec<[String; 6]> = self.targets.iter().map(Target::row).collect();
        text.push_str(&table(["target", "state", "applied", "checkpoint", "lag", "seconds"], &rows));
        for (name, progress) in self.targets.iter().filter_map(|t| Some((&t.name, t.bootstrap.as_ref()?))) {
            let _ = writeln!(text, "{name}: copied {}", progress.to_text());
        }
        for (name, pending) in self.targets.iter().flat_map(|t| t.pending_grants.iter().map(|p| (&t.name, p))) {
            let _ = writeln!(text, "{name}: {}: privileges wait for role {}", pending.object, pending.missing);
        }
        for target in self.targets.iter().filter(|t| !t.set_aside.is_empty()) {
            let tables = target.set_aside.join(", ");
            let _ = writeln!(text, "{}: no changes until they are copied again: {tables}", target.name);
        }
        for (name, pending) in self.targets.iter().flat_map(|t| t.pending_objects.iter().map(|p| (&t.name, p))) {
            let _ = writeln!(text, "{name}: {} waits: {}", pending.object, pending.why);
        }
        for target in self.targets.iter().filter(|t| t.last_error.is_some()) {
            let _ = writeln!(text, "{}: {}", target.name, target.last_error.as_deref().unwrap_or_default());
        }
        text
    }
}

impl Source {
    fn to_text(&self) -> String {
        let mut text = format!("{}  received {}", self.state, shown(self.received_lsn.as_ref()));
        if let Some(slot) = &self.slot {
            let retained = slot.retained_bytes.map_or("-".to_owned(), bytes);
            let confirmed = shown(slot.confirmed_flush_lsn.as_ref());
            let wal_status = shown(slot.wal_status.as_ref());
            let _ = write!(text, "  confirmed {confirmed}  retained {retained} ({wal_status})");
        }
        if let Some(error) = &self.last_error {
            let _ = write!(text, "  {error}");
        }
        if let Some(error) = &self.capture_error {
            let _ = write!(text, "\n        {error}");
        }
        text
    }
}

impl Log {
    fn to_text(&self) -> String {
        let files = if self.segments == 1 { "segment" } else { "segments" };
        format!("{} to {}  {} in {} {files}", self.first_lsn, self.durable_lsn, bytes(self.bytes), self.segments)
    }
}

impl Progress {
    fn to_text(self) -> String {
        let (copied, expected) = (bytes(self.copied_bytes), bytes(self.expected_bytes));
        let held_back = self.held_back_to.map_or_else(String::new, |rate| format!(", held back to {}/s", bytes(rate)));
        format!("{copied} of {expected}, {} of {} tables{held_back}", self.tables_done, self.tables)
    }
}

impl Target {
    fn row(&self) -> [String; 6] {
        [
            self.name.clone(),
            self.state.clone(),
            shown(self.applied_lsn.as_ref()),
            shown(self.checkpoint_lsn.as_ref()),
            self.lag_bytes.map_or("-".to_owned(), bytes),
            self.lag_seconds.map_or("-".to_owned(), |s| format!("{s:.1}")),
        ]
    }
}

/// A position for JSON.
pub(crate) fn position(lsn: Lsn) -> String {
    lsn.to_string()
}

fn shown(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "-".to_owned())
}

/// `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = crate::metrics::gauge_value(count) / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0 && units.len() > 0 {
        value /= 1024.0;
        unit = units.next();
    }
    format!("{value:.1} {}", unit.unwrap_or(&""))
}

/// Left-aligned columns of equal width.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(head);
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        Status {
            source: Source { state: "streaming".into(), received_lsn: Some("0/10".into()), ..Source::default() },
            log: Some(Log { first_lsn: "0/1".into(), durable_lsn: "0/10".into(), bytes: 64 << 20, segments: 1 }),
            targets: vec![Target { name: "berlin".into(), state: "stopped".into(), ..Target::default() }],
        }
    }

    #[test]
    fn the_json_has_the_contracts_keys() {
        let json = serde_json::to_value(example()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&json), ["log", "source", "targets"]);
        assert_eq!(keys(&json["log"]), ["bytes", "durable_lsn", "first_lsn", "segments"]);
        let target = ["applied_lsn", "checkpoint_lsn", "lag_bytes", "lag_seconds", "last_error", "name", "state"];
        assert_eq!(keys(&json["targets"][0]), target);
        let slot = serde_json::to_value(Slot::default()).unwrap();
        assert_eq!(keys(&slot), ["confirmed_flush_lsn", "restart_lsn", "retained_bytes", "wal_status"]);
    }

    #[test]
    fn the_text_names_everything_and_errors_last() {
        let mut status = example();
        status.targets[0].last_error = Some("no such table".into());
        status.targets[0].set_aside = vec!["public.a".into(), "public.b".into()];
        let text = status.to_text();
        assert!(
            text.starts_with("source  streaming  received 0/10\nlog     0/1 to 0/10  64.0 MiB in 1 segment\n"),
            "{text}"
        );
        let last = "berlin: no changes until they are copied again: public.a, public.b\nberlin: no such table\n";
        assert!(text.ends_with(last), "{text}");
    }

    #[test]
    fn bytes_are_shown_in_the_next_smaller_unit() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 31, "2.0 GiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
