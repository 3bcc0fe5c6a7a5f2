//! Definitions: what the server's own functions say of tables and their schemas, side beside side.
//!
//! A target may have more columns and more indexes that are not unique than the source: those are its own. What else it
//! has beyond the source could refuse rows or let others in, and is a difference.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::report::{Difference, Kind};
use crate::session::{Session, text};
use crate::table::{TableName, names_json, one_line, shown};

const QUERY: &str = include_str!("schema.sql");

/// Kind, table, name.
type Place = (Word, String, String);

/// What the query calls a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Table,
    Column,
    Constraint,
    Index,
    PlainIndex,
    Owner,
    Acl,
    RowSecurity,
}

impl Word {
    fn parse(text: &str) -> Option<Word> {
        Some(match text {
            "table" => Word::Table,
            "column" => Word::Column,
            "constraint" => Word::Constraint,
            "index" => Word::Index,
            "plain_index" => Word::PlainIndex,
            "owner" => Word::Owner,
            "acl" => Word::Acl,
            "row_security" => Word::RowSecurity,
            _ => return None,
        })
    }

    fn kind(self) -> Kind {
        match self {
            Word::Table => Kind::Table,
            Word::Column => Kind::Column,
            Word::Constraint => Kind::Constraint,
            Word::Index | Word::PlainIndex => Kind::Index,
            Word::Owner => Kind::Owner,
            Word::Acl => Kind::Acl,
            Word::RowSecurity => Kind::RowSecurity,
        }
    }

    /// Beyond the source's ones it is the target's own affair.
    fn may_be_extra(self) -> bool {
        matches!(self, Word::Column | Word::PlainIndex)
    }
}

type Definitions = BTreeMap<Place, String>;

/// Compares the definitions of these tables and of their schemas.
pub(crate) async fn compare(
    source: &mut Session,
    target: &mut Session,
    tables: &[TableName],
) -> Result<Vec<Difference>, Error> {
    let names = names_json(tables.iter());
    let roles = serde_json::json!([own_role(source).await?, own_role(target).await?]).to_string();
    let (ours, theirs) = tokio::join!(load(source, &names, &roles), load(target, &names, &roles));
    let (ours, theirs) = (ours?, theirs?);
    Ok(differences(&ours, &theirs, Leniency::between(source.major(), target.major())))
}

/// The session's role if it is no superuser: it was granted what it needs, on each side something else.
async fn own_role(session: &mut Session) -> Result<Option<String>, Error> {
    let rows = session.simple("SELECT rolname FROM pg_roles WHERE rolname = current_user AND NOT rolsuper").await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
}

async fn load(session: &mut Session, names: &str, roles: &str) -> Result<Definitions, Error> {
    let side = session.side();
    let rows = session.query(QUERY, &[Some(names), Some(roles)]).await?;
    let read = |row| {
        let word = Word::parse(text(row, 0, side)?).ok_or(Error::Answer { side, what: "a kind of definition" })?;
        let place = (word, text(row, 1, side)?.to_owned(), text(row, 2, side)?.to_owned());
        Ok((place, text(row, 3, side)?.to_owned()))
    };
    rows.iter().map(read).collect()
}

/// What differs between major versions without meaning anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leniency {
    /// Expressions are written with other parentheses and spaces.
    rendering: bool,
    /// MAINTAIN is a privilege from 17 on, which owners have.
    maintain: bool,
    /// Schema public belongs to pg_database_owner, and nobody else may create there, from 15 on.
    public: bool,
}

impl Leniency {
    fn between(one: u32, other: u32) -> Leniency {
        let across = |version: u32| (one < version) != (other < version);
        Leniency { rendering: one != other, maintain: across(17), public: across(15) }
    }

    fn ignores(self, (word, table, _): &Place) -> bool {
        self.public && matches!(word, Word::Owner | Word::Acl) && table == "schema public"
    }

    /// The text by which definitions are compared.
    fn normal(self, word: Word, definition: &str) -> String {
        match word {
            Word::Acl if self.maintain => {
                definition.split(' ').filter(|p| p.trim_end_matches('*') != "MAINTAIN").collect::<Vec<_>>().join(" ")
            }
            _ if self.rendering => definition.chars().filter(|c| !matches!(c, '(' | ')' | ' ' | '\n')).collect(),
            _ => definition.to_owned(),
        }
    }
}

fn differences(ours: &Definitions, theirs: &Definitions, lenient: Leniency) -> Vec<Difference> {
    let differs = |place: &Place, our: Option<&String>, their: Option<&String>| {
        let normal = |text: Option<&String>| text.map(|text| lenient.normal(place.0, text));
        let absent = our.is_none() && (place.0.may_be_extra() || !has_table(ours, place));
        !absent && !lenient.ignores(place) && normal(our) != normal(their)
    };
    let of = |place: &Place, our: Option<&String>, their: Option<&String>| {
        differs(place, our, their).then(|| difference(place, our, their))
    };
    let here = ours.iter().filter(|(place, _)| has_table(theirs, place) || place.0 == Word::Table);
    let here = here.filter_map(|(place, our)| of(place, Some(our), theirs.get(place)));
    let only_there = theirs.iter().filter(|(place, _)| !ours.contains_key(*place));
    here.chain(only_there.filter_map(|(place, their)| of(place, None, Some(their)))).collect()
}

/// The table is there, or it is a schema. Of a table that is missing nothing more need be said.
fn has_table(definitions: &Definitions, (_, table, _): &Place) -> bool {
    table.starts_with("schema ") || definitions.contains_key(&(Word::Table, table.clone(), String::new()))
}

fn difference((word, table, name): &Place, our: Option<&String>, their: Option<&String>) -> Difference {
    let line = |text: Option<&String>| text.map(|text| one_line(text));
    let key = if *word == Word::Acl || name.is_empty() { one_line(name) } else { shown(name) };
    Difference { table: one_line(table), kind: word.kind(), key, source: line(our), target: line(their) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions(items: &[(Word, &str, &str)]) -> Definitions {
        let table = ((Word::Table, "public.t".to_owned(), String::new()), "table".to_owned());
        let item = |(word, name, text): &(Word, &str, &str)| {
            ((*word, "public.t".to_owned(), (*name).to_owned()), (*text).to_owned())
        };
        items.iter().map(item).chain([table]).collect()
    }

    fn found(ours: &[(Word, &str, &str)], theirs: &[(Word, &str, &str)], lenient: Leniency) -> Vec<String> {
        let differences = differences(&definitions(ours), &definitions(theirs), lenient);
        differences.iter().map(|d| format!("{} {}", d.kind.as_str(), d.key)).collect()
    }

    const SAME: Leniency = Leniency { rendering: false, maintain: false, public: false };

    #[test]
    fn a_targets_own_columns_and_plain_indexes_are_its_own_and_nothing_else_is() {
        let theirs = [
            (Word::Column, "extra", "integer"),
            (Word::PlainIndex, "i", "CREATE INDEX"),
            (Word::Index, "u", "CREATE UNIQUE INDEX"),
            (Word::Constraint, "c", "CHECK (a > 0)"),
            (Word::Acl, "bob", "SELECT"),
        ];
        assert_eq!(found(&[], &theirs, SAME), ["constraint c", "index u", "acl bob"]);
        assert_eq!(found(&theirs, &[], SAME).len(), 5);
    }

    #[test]
    fn a_missing_table_is_one_difference() {
        let ours = definitions(&[(Word::Column, "a", "integer"), (Word::Owner, "", "bob")]);
        let found = differences(&ours, &Definitions::new(), SAME);
        assert_eq!(found.iter().map(|d| (d.kind, d.target.clone())).collect::<Vec<_>>(), [(Kind::Table, None)]);
    }

    #[test]
    fn what_only_the_versions_make_differ_is_no_difference() {
        let ours = [(Word::Constraint, "c", "CHECK ((a > 0))"), (Word::Acl, "bob", "INSERT MAINTAIN SELECT")];
        let theirs = [(Word::Constraint, "c", "CHECK (a > 0)"), (Word::Acl, "bob", "INSERT SELECT")];
        assert_eq!(found(&ours, &theirs, Leniency::between(15, 15)), ["constraint c", "acl bob"]);
        assert_eq!(found(&ours, &theirs, Leniency::between(18, 15)), [] as [&str; 0]);
        assert_eq!(found(&ours, &theirs, Leniency::between(16, 15)), ["acl bob"]);
        assert!(Leniency::between(14, 15).public && !Leniency::between(16, 15).public);
    }
}
