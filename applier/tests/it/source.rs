//! A source whose DDL is captured, beside the target on the same server: what it commits goes into the log as the stream
//! would have put it there.

use std::collections::HashSet;

use decoder::{Change, Context, Lsn, Message, RelationId};

use crate::rig::Rig;

/// The protocol that a slot's functions speak: whole transactions.
const CONTEXT: Context = Context { protocol_version: 1, in_stream: false, parallel: false };

/// The source's database.
pub(crate) struct Source {
    database: String,
    /// Relations of walcast's own.
    own: HashSet<RelationId>,
}

impl Source {
    /// With the schema that the target has got, the capture, and a slot from here on.
    pub(crate) fn new(rig: &Rig, schema: &str) -> Source {
        let database = format!("{}_source", rig.database);
        rig.cluster.create_database(&database).expect("a database");
        let source = Source { database, own: HashSet::new() };
        let capture = capture::ddl::install_sql(&capture::ddl::Capture::default());
        source.sql(rig, schema);
        source.sql(rig, &format!("CREATE SCHEMA walcast; BEGIN; {capture}; COMMIT"));
        source.sql(rig, "CREATE PUBLICATION walcast FOR ALL TABLES");
        source.sql(rig, &format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", source.database));
        source
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    pub(crate) fn sql(&self, rig: &Rig, script: &str) -> String {
        rig.cluster.sql(&self.database, script).expect("SQL that works")
    }

    /// Has the service's ticker look.
    pub(crate) fn tick(&self, rig: &Rig) {
        self.sql(rig, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT walcast.tick(true); COMMIT");
    }

    /// Puts what was committed since into the log; the end of the last transaction that has anything.
    pub(crate) fn stream(&mut self, rig: &mut Rig) -> Lsn {
        let changes = format!(
            "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('{}', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'walcast', 'messages', 'true')",
            self.database
        );
        let (mut end, mut changed) = (Lsn::ZERO, Vec::new());
        for line in self.sql(rig, &changes).lines() {
            let payload = bytes(line);
            match decoder::decode(&payload, CONTEXT).expect("decodable") {
                Message::Change { change, .. } if self.is_kept(&change) => changed.push(payload),
                Message::Commit { .. } if !changed.is_empty() => end = transaction(rig, &std::mem::take(&mut changed)),
                _ => {}
            }
        }
        end
    }

    /// The newest message in the stream, which stays there.
    pub(crate) fn last_message(&self, rig: &Rig) -> Vec<u8> {
        let peeked = format!(
            "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('{}', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'walcast', 'messages', 'true')",
            self.database
        );
        let messages = self.sql(rig, &peeked);
        messages.lines().map(bytes).rfind(|payload| payload.first() == Some(&b'M')).expect("a message")
    }

    fn is_kept(&mut self, change: &Change<'_>) -> bool {
        match change {
            Change::Relation(relation) if relation.namespace == "walcast" => {
                self.own.insert(relation.id);
                false
            }
            Change::Message { prefix, .. } => *prefix == "walcast",
            Change::Type { .. } => false,
            change => change.relation().is_none_or(|relation| !self.own.contains(&relation)),
        }
    }
}

fn transaction(rig: &mut Rig, changes: &[Vec<u8>]) -> Lsn {
    let info = rig.begin();
    changes.iter().for_each(|change| rig.push(change));
    rig.commit();
    rig.append();
    info.end_lsn
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}
