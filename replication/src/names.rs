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
//! A new connection describes every relation anew, by the catalog as it was at its next change.

use decoder::{Relation, RelationId};
use hashbrown::{HashMap, HashSet};

type Name = (String, String);

/// The descriptions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Names {
    of: HashMap<RelationId, Name>,
    holders: HashMap<Name, RelationId>,
    outdated: HashSet<RelationId>,
}

impl Names {
    /// Takes a description. Whoever had the name before has another by now.
    pub(crate) fn describe(&mut self, relation: &Relation) {
        let (id, name) = (relation.id, (relation.namespace.clone(), relation.name.clone()));
        if let Some(before) = self.of.insert(id, name.clone()).filter(|before| self.holders.get(before) == Some(&id)) {
            self.holders.remove(&before);
        }
        if let Some(holder) = self.holders.insert(name, id) {
            self.outdated.insert(holder);
        }
        self.outdated.remove(&id);
    }

    /// Whether the name it was described under has gone to another relation.
    pub(crate) fn is_outdated(&self, relation: RelationId) -> bool {
        !self.outdated.is_empty() && self.outdated.contains(&relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(descriptions: &[(u32, &str)]) -> Names {
        let mut names = Names::default();
        for (id, schema) in descriptions {
            let (namespace, name) = ((*schema).to_owned(), "t".to_owned());
            let replica_identity = decoder::ReplicaIdentity::Default;
            names.describe(&Relation { id: RelationId(*id), namespace, name, replica_identity, columns: Vec::new() });
        }
        names
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
