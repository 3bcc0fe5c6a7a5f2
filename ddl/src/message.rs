//! A message of the capture.

use std::fmt;

use serde::Deserialize;

use crate::error::ParseError;
use crate::state::State;

/// The version of messages that is understood.
const VERSION: u32 = 1;

/// What one command, or one tick, changed on the source. Fields as in `capture/sql/README.md`.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    v: u32,
    /// The top-level transaction that it is of, in decimal.
    pub xid: String,
    /// The command's tag, or `tick`.
    #[serde(default)]
    pub tag: String,
    /// In the order in which they are to be applied.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Materialized views that were refreshed, as SQL calls them.
    #[serde(default)]
    pub refresh: Vec<String>,
    /// Values of sequences.
    #[serde(default)]
    pub sequences: Vec<SequenceValue>,
    /// What the command did that is not captured.
    #[serde(default)]
    pub unsupported: Vec<String>,
}

/// What became of an object.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// The catalog that its row is in.
    pub class: String,
    /// Its OID on the source.
    pub oid: u32,
    /// What the source had said of it last; None: it is new.
    pub before: Option<State>,
    /// What it is now; None: it is gone.
    pub after: Option<State>,
    /// The table's rows were written anew, and the stream has not the values.
    #[serde(default)]
    pub rewritten: bool,
    /// It is gone only because what it belonged to is.
    #[serde(default)]
    pub auto: bool,
    /// It is not gone: it became a part of this extension.
    pub member_of: Option<String>,
    /// It could not be described; the SQLSTATE and text of why.
    pub failed: Option<String>,
}

/// A sequence's value.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct SequenceValue {
    /// The sequence as SQL calls it.
    pub identity: String,
    /// In decimal.
    pub last_value: String,
    /// Whether that value was given out.
    pub is_called: bool,
}

impl Message {
    /// It says where sequences are, and nothing else.
    #[must_use]
    pub fn has_only_values(&self) -> bool {
        self.changes.is_empty() && self.refresh.is_empty() && self.unsupported.is_empty()
    }

    /// Reads the JSON behind the signature. Its size is the caller's to bound; nesting is bounded here.
    ///
    /// # Errors
    /// It is malformed, or of a version that is not understood.
    pub fn parse(json: &[u8]) -> Result<Message, ParseError> {
        let message: Message = serde_json::from_slice(json).map_err(ParseError::Malformed)?;
        match message.v == VERSION {
            true => Ok(message),
            false => Err(ParseError::Version { found: message.v, expected: VERSION }),
        }
    }

    /// A message of one change.
    pub(crate) fn of(change: &Change) -> Message {
        let (xid, tag, changes) = (String::new(), String::new(), vec![change.clone()]);
        Message { v: VERSION, xid, tag, changes, refresh: Vec::new(), sequences: Vec::new(), unsupported: Vec::new() }
    }

    /// Whether no command's event told of it: the ticker found it.
    pub(crate) fn is_tick(&self) -> bool {
        self.tag == "tick"
    }

    /// Whether a relation with this OID on the source comes into being by it. Rows of it may precede the message in its
    /// transaction (`CREATE TABLE … AS`).
    pub fn creates(&self, oid: u32) -> bool {
        let is_new = |change: &Change| change.before.is_none() && change.after.is_some();
        self.changes.iter().any(|change| change.oid == oid && change.class == "pg_class" && is_new(change))
    }
}

impl Message {
    /// The relations that foreign keys of a table refer to, as SQL calls them.
    pub fn referenced_by(&self, schema: &str, table: &str) -> Vec<&str> {
        self.states_of(schema, table).flat_map(|state| &state.constraints).filter_map(|key| key.references()).collect()
    }

    /// What a table is a partition of by then, as SQL calls it.
    pub fn parent_of(&self, schema: &str, table: &str) -> Option<&str> {
        self.states_of(schema, table).find_map(|state| state.parent.as_deref())
    }

    fn states_of(&self, schema: &str, table: &str) -> impl Iterator<Item = &State> {
        let states = self.changes.iter().filter(|change| change.class == "pg_class").filter_map(|c| c.after.as_ref());
        states.filter(move |state| (state.schema.as_deref(), state.name.as_deref()) == (Some(schema), Some(table)))
    }
}

impl Change {
    /// What leads from one state to another.
    pub(crate) fn between(class: &str, oid: u32, before: Option<State>, after: Option<State>) -> Change {
        let class = class.to_owned();
        Change { class, oid, before, after, rewritten: false, auto: false, member_of: None, failed: None }
    }

    /// The newest state: what it is, or what it was.
    pub fn state(&self) -> Option<&State> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// The object as SQL calls it.
    pub fn object(&self) -> String {
        self.state().map_or_else(|| format!("{} {}", self.class, self.oid), |state| state.object.clone())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match (&self.before, &self.after) {
            _ if self.failed.is_some() => "not described",
            _ if self.member_of.is_some() => "became part of an extension",
            (None, Some(_)) => "create",
            (Some(_), Some(_)) => "alter",
            (_, None) => "drop",
        };
        write!(f, "{verb} {}", self.object())?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if before.object != after.object => write!(f, " (was {})", before.object)?,
            _ => {}
        }
        f.write_str(if self.rewritten { " (rewritten)" } else { "" })
    }
}

/// One line: what was done to which objects. No definitions, so no secrets.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = self.changes.iter().map(Change::to_string);
        let refreshed = self.refresh.iter().map(|view| format!("refresh {view}"));
        let value = |s: &SequenceValue| format!("sequence {} at {}", s.identity, s.last_value);
        let sequences = self.sequences.iter().map(value);
        let unsupported = self.unsupported.iter().map(|what| format!("not captured: {what}"));
        let parts: Vec<String> = changes.chain(refreshed).chain(sequences).chain(unsupported).collect();
        let line = format!("{}: {}", self.tag, parts.join(", "));
        f.write_str(&line.replace(char::is_control, " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = r#"{"v": 1, "xid": "4711", "tag": "CREATE TABLE", "changes": [{"class": "pg_class", "oid": 16390,
        "before": null, "after": {"type": "table", "identity": "public.t", "object": "TABLE public.t", "schema": "public",
        "name": "t", "owner": "app", "columns": [{"num": 1, "name": "id", "type": "integer", "not_null": true}]}}]}"#;

    #[test]
    fn a_message_says_what_it_creates() {
        let message = Message::parse(CREATE.as_bytes()).unwrap();
        assert!(message.creates(16390) && !message.creates(16391));
        assert_eq!(message.to_string(), "CREATE TABLE: create TABLE public.t");
    }

    #[test]
    fn every_proper_prefix_is_an_error() {
        for end in 0..CREATE.len() {
            assert!(Message::parse(&CREATE.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn another_version_and_deep_nesting_are_errors() {
        let other = Message::parse(br#"{"v": 2, "xid": "1"}"#).unwrap_err();
        assert_eq!(other.to_string(), "a message of the capture has version 2, expected 1");
        let deep = format!(r#"{{"v": 1, "xid": "1", "x": {}1"#, "[".repeat(100_000));
        assert!(Message::parse(deep.as_bytes()).is_err());
    }
}
