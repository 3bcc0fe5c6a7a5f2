//! Which relation was last described under a name.
//!
//! Before PostgreSQL 16 a walsender does not describe a table anew when its schema was renamed. When another table is
//! then made under the old name, rows of both would go to the one that has the name now. Two relations never have one
//! name at one time, so the second description says that the first one is out of date:
//!
//! ```text
//! Relation 7 "a.t"   Insert 7   ALTER SCHEMA a RENAME TO b   CREATE TABLE a.t   Relation 9 "a.t"   Insert 7 ← what is 7 called?
//! ```
//!
//! Where the capture tells of the new name (a verified message, which is known at its transaction's commit), all relations
//! that were described in that schema are out of date from there on, whether or not another one gets their name. In the
//! transaction itself the applier gives them the new one.
//!
//! A new connection describes every relation anew, by the catalog as it was at its next change. Where that change is older
//! than the new name, `schema_names` has it.

use decoder::RelationId;
use hashbrown::{HashMap, HashSet};
use serde::Deserialize;

use crate::schema_names::Renamed;

/// The catalog of schemas.
const SCHEMA: &str = "pg_namespace";

/// Schema and name.
pub(crate) type Name = (String, String);

/// The descriptions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Names {
    of: HashMap<RelationId, Name>,
    holders: HashMap<Name, RelationId>,
    outdated: HashSet<RelationId>,
}

impl Names {
    /// Takes a description. Whoever had the name before has another by now.
    pub(crate) fn describe(&mut self, id: RelationId, name: Name) {
        if let Some(before) = self.of.insert(id, name.clone()).filter(|before| self.holders.get(before) == Some(&id)) {
            self.holders.remove(&before);
        }
        if let Some(holder) = self.holders.insert(name, id) {
            self.outdated.insert(holder);
        }
        self.outdated.remove(&id);
    }

    /// Whether it describes this relation.
    pub(crate) fn knows(&self, relation: RelationId) -> bool {
        self.of.contains_key(&relation)
    }

    /// Takes the descriptions of a transaction that has committed.
    pub(crate) fn take(&mut self, others: Names) {
        for (id, name) in others.of {
            self.describe(id, name);
        }
    }

    /// What is described here is in schemas that have other names now.
    pub(crate) fn follow(&mut self, renamed: &Renamed) {
        self.holders.clear();
        for (id, (schema, name)) in &mut self.of {
            if let Some((_, new)) = renamed.schemas.iter().find(|(old, _)| old == schema) {
                new.clone_into(schema);
            }
            self.holders.insert((schema.clone(), name.clone()), *id);
        }
    }

    /// The schema has another name now; what was described in it is out of date.
    pub(crate) fn rename_schema(&mut self, old: &str) {
        self.outdated.extend(self.of.iter().filter(|(_, (schema, _))| schema == old).map(|(id, _)| *id));
    }

    /// Whether the name it was described under has gone to another relation.
    #[inline]
    pub(crate) fn is_outdated(&self, relation: RelationId) -> bool {
        !self.outdated.is_empty() && self.outdated.contains(&relation)
    }
}

/// Whether a message of the capture may rename a schema.
pub(crate) fn may_rename(message: &[u8]) -> bool {
    message.windows(SCHEMA.len()).any(|window| window == SCHEMA.as_bytes())
}

/// Which schemas a message of the capture (its JSON) renames, and which relations it tells of as new. What cannot be read
/// the applier will name.
pub(crate) fn renamed_schemas(message: &[u8]) -> Renamed {
    #[derive(Deserialize, Default)]
    struct Message {
        #[serde(default)]
        changes: Vec<Change>,
    }
    #[derive(Deserialize)]
    struct Change {
        class: String,
        #[serde(default)]
        oid: u32,
        before: Option<State>,
        after: Option<State>,
    }
    #[derive(Deserialize)]
    struct State {
        name: Option<String>,
    }
    let mut renamed = Renamed::default();
    for change in serde_json::from_slice::<Message>(message).unwrap_or_default().changes {
        match (change.class.as_str(), change.before, change.after) {
            (SCHEMA, Some(State { name: Some(old) }), Some(State { name: Some(new) })) if old != new => {
                renamed.schemas.push((old, new));
            }
            ("pg_class", None, Some(_)) => renamed.made.push(change.oid),
            _ => {}
        }
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_which_schemas_have_another_name() {
        let schema = |before: &str, after: &str| {
            format!(r#"{{"class":"pg_namespace","oid":1,"before":{before},"after":{after}}}"#)
        };
        let (a, b) = (r#"{"name":"a","comment":null}"#, r#"{"name":"b"}"#);
        let changes = [schema(a, b), schema(a, a), schema("null", a), schema(b, "null"), schema(b, a)].join(",");
        let message =
            format!(r#"{{"v":1,"changes":[{{"class":"pg_class","oid":5,"before":null,"after":{b}}},{changes}]}}"#);
        let pairs = [("a", "b"), ("b", "a")].map(|(old, new)| (old.to_owned(), new.to_owned()));
        assert!(may_rename(message.as_bytes()) && !may_rename(b"{}"));
        let expected = Renamed { schemas: pairs.to_vec(), made: vec![5] };
        assert_eq!(renamed_schemas(message.as_bytes()), expected);
        assert_eq!(renamed_schemas(b"pg_namespace, and no JSON"), Renamed::default());
    }

    #[test]
    fn what_was_described_in_a_renamed_schema_is_outdated_until_described_anew() {
        let mut names = described(&[(7, "a"), (9, "b")]);
        names.rename_schema("a");
        assert!(names.is_outdated(RelationId(7)) && !names.is_outdated(RelationId(9)));
        names.describe(RelationId(7), name("c"));
        names.rename_schema("a");
        assert!(!names.is_outdated(RelationId(7)));
    }

    fn described(descriptions: &[(u32, &str)]) -> Names {
        let mut names = Names::default();
        for (id, schema) in descriptions {
            names.describe(RelationId(*id), name(schema));
        }
        names
    }

    fn name(schema: &str) -> Name {
        (schema.to_owned(), "t".to_owned())
    }

    #[test]
    fn descriptions_of_an_open_transaction_follow_and_count_for_others_from_its_commit_on() {
        let renamed =
            |old: &str, new: &str| Renamed { schemas: vec![(old.to_owned(), new.to_owned())], made: Vec::new() };
        let mut stream = described(&[(7, "a")]);
        stream.follow(&renamed("a", "b"));
        assert!(stream.knows(RelationId(7)) && !stream.is_outdated(RelationId(7)));
        let mut names = described(&[(7, "a"), (9, "c")]);
        names.rename_schema("a");
        assert!(names.is_outdated(RelationId(7)));
        names.take(stream);
        assert!(!names.is_outdated(RelationId(7)));
        names.rename_schema("b");
        assert!(names.is_outdated(RelationId(7)) && !names.is_outdated(RelationId(9)));
    }

    #[test]
    fn b6_a_name_that_went_to_another_relation_is_outdated_until_described_anew() {
        let outdated = |names: &Names| [7, 9].map(|id| names.is_outdated(RelationId(id)));
        assert_eq!(outdated(&described(&[(7, "a"), (9, "b"), (7, "a")])), [false, false]);
        assert_eq!(outdated(&described(&[(7, "a"), (9, "a")])), [true, false]);
        assert_eq!(outdated(&described(&[(7, "a"), (9, "a"), (7, "b")])), [false, false]);
        let swapped = [(7, "a"), (9, "b"), (7, "b"), (9, "a")];
        assert_eq!(outdated(&described(&swapped)), [false, false]);
        assert_eq!(outdated(&described(&swapped[..3])), [false, true]);
    }
}
