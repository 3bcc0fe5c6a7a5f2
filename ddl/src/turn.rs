//! What a plan for one object is made from.

use crate::message::Message;
use crate::quote;
use crate::state::{Column, State};
use crate::statement::Statement;

/// An object that exists on the target and is to become `after`.
///
/// Every plan compares three states. The target differs from `after` in a property, and so did `before`: it is changed.
/// `before` was as `after` already: the source did not touch it, so a difference is the target's own, or only one of
/// how versions write the same thing, and stays.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// The target's own state, at this moment.
    pub(crate) now: &'a State,
    /// None: the source made it just now.
    pub(crate) before: Option<&'a State>,
    pub(crate) after: &'a State,
    /// The message that it comes in.
    pub(crate) message: &'a Message,
    /// The target's.
    pub(crate) server_version: u32,
    /// SQLSTATEs with which a foreign key waits for its table.
    pub(crate) key_waits: &'static [&'static str],
    /// Rows were written anew, with values that the stream lacks.
    pub(crate) rewritten: bool,
    /// Whose rights the statements need.
    pub(crate) role: Option<&'a str>,
    /// Whether everything that the object may refer to is there: not while tables of the message are still to be made.
    pub(crate) references: bool,
}

impl<'a> Turn<'a> {
    /// Whether a property is to be changed.
    pub(crate) fn changed<T: PartialEq>(&self, of: impl Fn(&'a State) -> T) -> bool {
        wanted(&of(self.now), self.before.map(&of).as_ref(), &of(self.after))
    }

    /// `ALTER <the object as it is called now>` and what follows.
    pub(crate) fn alter(&self, what: &str) -> Statement {
        self.statement(format!("ALTER {} {what}", self.now.object))
    }

    /// `ALTER TABLE <name now>` and what follows, for relations that rows can be stored in.
    pub(crate) fn alter_table(&self, what: &str) -> Statement {
        self.statement(format!("ALTER TABLE {} {what}", self.now.sql_name()))
    }

    /// The same without descendants: each of those has a change of its own.
    pub(crate) fn alter_only(&self, what: &str) -> Statement {
        self.statement(format!("ALTER TABLE ONLY {} {what}", self.now.sql_name()))
    }

    /// Without descendants where that can be said: each of those has a change of its own, in which it may have kept what
    /// this one loses or gets. A partitioned table has nothing that its partitions lack.
    pub(crate) fn alter_without_children(&self, what: &str) -> Statement {
        if self.now.partition_key.is_some() { self.alter_table(what) } else { self.alter_only(what) }
    }

    /// `ALTER TABLE … DROP` of a column or constraint. With `ONLY` where the source said so: what children had from their
    /// parent is their own from then on, a column with all its values. `find` gives the part's number or OID in a state, and
    /// whether it is that table's own.
    pub(crate) fn drop_part<K: PartialEq>(&self, part: &str, find: impl Fn(&State) -> Option<(K, bool)>) -> Statement {
        let is_left = |(before, after): (&State, &State)| match (find(before), find(after)) {
            (Some((was, false)), Some((is, true))) => was == is,
            _ => false,
        };
        let drop = format!("DROP {part}");
        if self.changed_children().any(is_left) { self.alter_only(&drop) } else { self.alter_table(&drop) }
    }

    /// The tables that inherit from this one as they were and as they are, as far as the source changed them.
    fn changed_children(&self) -> impl Iterator<Item = (&'a State, &'a State)> {
        let parent = &self.after.identity;
        let both = self.message.changes.iter().filter_map(|change| change.before.as_ref().zip(change.after.as_ref()));
        both.filter(move |(_, after)| after.inherits.contains(parent))
    }

    /// A statement with the rights of the object's owner.
    pub(crate) fn statement(&self, sql: String) -> Statement {
        Statement::new(sql).with_rights_of(self.role)
    }

    /// The column of `before` that one of `after` was.
    pub(crate) fn column_before(&self, after: &Column) -> Option<&'a Column> {
        self.before?.columns.iter().find(|column| column.num == after.num)
    }

    /// `COMMENT ON`, if the comment is another.
    pub(crate) fn comment(&self) -> Option<Statement> {
        let changed = self.changed(|state| &state.comment);
        changed.then(|| self.comment_on(&self.now.object, self.after.comment.as_deref()))
    }

    /// `DEPENDS ON EXTENSION`, where the extensions that it is dropped with are others.
    pub(crate) fn dependence(&self) -> Vec<Statement> {
        let changed = self.changed(|state| &state.depends);
        let clauses = if changed { dependences(&self.now.depends, &self.after.depends) } else { Vec::new() };
        clauses.iter().map(|what| self.alter(what)).collect()
    }

    /// A comment on this object or a part of it.
    pub(crate) fn comment_on(&self, object: &str, comment: Option<&str>) -> Statement {
        let text = comment.map_or_else(|| "NULL".to_owned(), quote::literal);
        self.statement(format!("COMMENT ON {object} IS {text}"))
    }
}

/// `SET SCHEMA` and `RENAME TO`, by which most kinds of objects move: the first phase of every kind.
pub(crate) fn renames(turn: &Turn<'_>) -> Vec<Statement> {
    let (now, after) = (turn.now, turn.after);
    let mut statements = Vec::new();
    if let (Some(from), Some(to)) = (&now.schema, &after.schema)
        && from != to
    {
        statements.push(turn.alter(&format!("SET SCHEMA {}", quote::identifier(to))));
    }
    if let (Some(from), Some(to)) = (&now.name, &after.name)
        && from != to
    {
        let moved = now.object_in(after.schema.as_deref());
        statements.push(turn.statement(format!("ALTER {moved} RENAME TO {}", quote::identifier(to))));
    }
    statements
}

/// What leads from these extensions, which something is dropped with, to those.
pub(crate) fn dependences(now: &[String], after: &[String]) -> Vec<String> {
    let gone = now.iter().filter(|extension| !after.contains(extension));
    let new = after.iter().filter(|extension| !now.contains(extension));
    let clause = |word: &str, extension: &String| format!("{word} ON EXTENSION {}", quote::identifier(extension));
    gone.map(|extension| clause("NO DEPENDS", extension)).chain(new.map(|e| clause("DEPENDS", e))).collect()
}

/// Whether a property is to be changed: see [`Turn`].
pub(crate) fn wanted<T: PartialEq>(now: &T, before: Option<&T>, after: &T) -> bool {
    now != after && before != Some(after)
}

/// An order in which names can change when some of the new ones are still in use: through names that nobody has.
pub(crate) fn rename_order(taken: &[&str], renames: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut taken: Vec<String> = taken.iter().map(|name| (*name).to_owned()).collect();
    let mut left = renames;
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let free = left.iter().position(|(_, to)| !taken.contains(to));
        // Taken by what keeps its name: the server is to say so.
        let clash = || left.iter().position(|(_, to)| !left.iter().any(|(from, _)| from == to));
        let step = match free.or_else(clash) {
            Some(at) => left.remove(at),
            None => {
                let aside = format!("walcast_renamed_{}", ordered.len());
                let from = std::mem::replace(&mut left[0].0, aside.clone());
                (from, aside)
            }
        };
        taken.retain(|name| *name != step.0);
        taken.push(step.1.clone());
        ordered.push(step);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(taken: &[&str], renames: &[(&str, &str)]) -> String {
        let renames = renames.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        rename_order(taken, renames).iter().map(|(from, to)| format!("{from}>{to} ")).collect()
    }

    #[test]
    fn names_that_are_in_use_are_freed_first() {
        assert_eq!(order(&["a", "b"], &[("a", "b"), ("b", "c")]), "b>c a>b ");
        assert_eq!(order(&["a", "b"], &[("a", "b"), ("b", "a")]), "a>walcast_renamed_0 b>a walcast_renamed_0>b ");
        assert_eq!(order(&["a", "b"], &[("a", "b")]), "a>b ");
    }

    #[test]
    fn only_what_the_source_changed_is_changed() {
        assert!(wanted(&1, Some(&1), &2) && wanted(&3, Some(&1), &2) && wanted(&1, None, &2));
        assert!(!wanted(&2, Some(&1), &2), "as wanted already");
        assert!(!wanted(&3, Some(&2), &2), "the target's own");
    }
}
