//! Rows of a table that is set aside are those of another time, until it is copied again. What they may break:
//!
//! | the server refuses | and says | what is done |
//! | --- | --- | --- |
//! | what an index or a constraint, also a domain's or a partition's, forbids | a table that is aside | its rows go |
//! | a conversion, an expression of an index or of a view's query | no table | the same with all that are aside |
//! | a foreign key that is added or validated | – | it waits until the copy is done (crate `ddl`) |
//! | a partition with a key to a table that is aside, another type in one | the table with the key | it is set aside, too |
//!
//! After what is done the message is applied anew. What is refused then, or for a table that is not aside, is an error: the
//! transaction is rolled back, and with it what was done here.

use ::ddl::{Message, Outcome};

use super::statements::Statements;
use crate::catalog::{flag, text};
use crate::copied;
use crate::error::Error;
use crate::name::TableName;
use crate::owner::Owner;
use crate::target::Target;

/// Classes of SQLSTATEs of what rows are the reason of: cardinality, data, constraints, limits, exceptions of PL/pgSQL.
const OF_ROWS: &[&str] = &["21", "22", "23", "54", "P0"];

const FOREIGN_KEY_VIOLATION: &str = "23503";
/// TRUNCATE of a table that foreign keys refer to.
const NOT_SUPPORTED: &str = "0A000";

impl Target {
    /// Applies a message in spite of rows that are of another time.
    pub(super) async fn apply_despite_stale_rows(
        &mut self,
        message: &Message,
        options: &::ddl::Options,
    ) -> Result<Outcome, Error> {
        let mut left = self.filter.aside();
        loop {
            if !left.is_empty() {
                self.session.simple("SAVEPOINT walcast_aside").await?;
            }
            let mut statements = Statements(&mut self.session);
            let applied = ::ddl::apply(&mut statements, message, options).await.map_err(Error::ddl);
            let Err(error) = applied else { return applied };
            let Some(blamed) = Blamed::by(&error, &left) else { return Err(error) };
            self.session.simple("ROLLBACK TO SAVEPOINT walcast_aside").await?;
            match blamed {
                Blamed::Aside(tables) => {
                    left.retain(|table| !tables.contains(table));
                    for (schema, table) in tables {
                        self.empty(&TableName { schema, table }).await?;
                    }
                }
                Blamed::Key(table) => {
                    if !self.refers_to_aside(message, &table).await? {
                        return Err(error);
                    }
                    self.empty(&table).await?;
                    copied::copy_again(&mut self.session, &self.options.identity, &table).await?;
                    self.filter.set_aside(table);
                }
            }
        }
    }

    /// Whether a foreign key of the table, or of what it is to be a partition of, refers to one that is aside, or to what that
    /// is a partition of.
    async fn refers_to_aside(&mut self, message: &Message, table: &TableName) -> Result<bool, Error> {
        const REFERS: &str = "\
            WITH of (oid) AS (SELECT pg_catalog.to_regclass(r) FROM pg_catalog.unnest($2::pg_catalog.text[]) r \
                 UNION SELECT a.relid FROM pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass($2[1])) a), \
             keys (oid) AS (SELECT pg_catalog.to_regclass(r) FROM pg_catalog.unnest($1::pg_catalog.text[]) r \
                 UNION SELECT k.confrelid FROM pg_catalog.pg_constraint k JOIN of ON k.conrelid = of.oid WHERE k.contype = 'f') \
            SELECT EXISTS (SELECT FROM keys k, LATERAL (SELECT k.oid UNION \
                 SELECT t.relid FROM pg_catalog.pg_partition_tree(k.oid) t) t (oid) \
             WHERE t.oid = ANY ($3::pg_catalog.regclass[]))";
        let (keys, parent) =
            (message.referenced_by(&table.schema, &table.table), message.parent_of(&table.schema, &table.table));
        let of: Vec<String> = parent.map(str::to_owned).into_iter().chain([table.quoted()]).collect();
        let aside = self.filter.aside().into_iter().map(|(schema, table)| TableName { schema, table }.quoted());
        let (keys, of, aside) = (array(keys), array(of), array(aside.collect::<Vec<_>>()));
        let rows = self.session.query(REFERS, &[&keys, &of, &aside]).await?;
        rows.first().map_or(Ok(false), |row| flag(row, 0))
    }

    async fn empty(&mut self, table: &TableName) -> Result<(), Error> {
        let name = table.quoted();
        self.session.simple("SAVEPOINT walcast_empty").await?;
        // Indexes are not built on rows that are gone for good; those of DELETE are still looked at.
        match self.as_owner(table, &format!("TRUNCATE ONLY {name}")).await {
            Err(error) if error.sqlstate() == Some(NOT_SUPPORTED) => {
                self.session.simple("ROLLBACK TO SAVEPOINT walcast_empty").await?;
                self.as_owner(table, &format!("DELETE FROM ONLY {name}")).await
            }
            emptied => emptied,
        }
    }

    /// Writes a table with the rights that it takes.
    async fn as_owner(&mut self, table: &TableName, statement: &str) -> Result<(), Error> {
        let oid = self.session.query("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[&table.quoted()]).await?;
        let oid = oid.first().map_or(Err(Error::Answer("no table")), |row| text(row, 0))?;
        let token = self.token.as_ref();
        match Owner::find(&mut self.session, token, &table.schema, oid).await? {
            Some(owner) => self.session.query(&owner.wrapped(statement, 0), &[owner.token.as_str()]).await.map(drop),
            None => self.session.simple(statement).await.map(drop),
        }
    }
}

/// Whose rows are in the way.
#[derive(Debug, PartialEq, Eq)]
enum Blamed {
    /// Those of tables that are aside.
    Aside(Vec<(String, String)>),
    /// Those of a table that is not, as a foreign key of its says.
    Key(TableName),
}

impl Blamed {
    /// None: what was refused has other reasons.
    fn by(error: &Error, aside: &[(String, String)]) -> Option<Blamed> {
        let server = error.server().filter(|_| !aside.is_empty())?;
        if !OF_ROWS.contains(&server.sqlstate.get(..2)?) {
            return None;
        }
        let Some((schema, table)) = server.schema.clone().zip(server.table.clone()) else {
            return Some(Blamed::Aside(aside.to_vec()));
        };
        let named = (schema, table);
        if aside.contains(&named) {
            return Some(Blamed::Aside(vec![named]));
        }
        let (schema, table) = named;
        (server.sqlstate == FOREIGN_KEY_VIOLATION).then_some(Blamed::Key(TableName { schema, table }))
    }
}

/// An array of texts as the server reads it.
fn array<T: AsRef<str>>(items: Vec<T>) -> String {
    let quoted = |item: &T| format!("\"{}\"", item.as_ref().replace('\\', "\\\\").replace('"', "\\\""));
    format!("{{{}}}", items.iter().map(quoted).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use connection::{ServerError, WireError};

    use super::*;

    fn error(sqlstate: &str, table: Option<&str>) -> Error {
        let place = table.map_or_else(String::new, |table| format!("spublic\0t{table}\0"));
        let body = format!("SERROR\0VERROR\0C{sqlstate}\0Mx\0{place}\0");
        Error::Wire(WireError::Server(Box::new(ServerError::parse(body.as_bytes()))))
    }

    #[test]
    fn only_what_rows_may_be_the_reason_of_is_blamed_on_them() {
        let table = |name: &str| ("public".to_owned(), name.to_owned());
        let aside = [table("a"), table("b")];
        let by = |sqlstate: &str, table: Option<&str>| Blamed::by(&error(sqlstate, table), &aside);
        assert_eq!(by("23505", Some("b")), Some(Blamed::Aside(vec![table("b")])));
        assert_eq!(by("22012", None), Some(Blamed::Aside(aside.to_vec())));
        assert_eq!(by("23505", Some("other")), None, "the target's own rows");
        assert_eq!(by("42703", None), None);
        assert_eq!(by("55P03", None), None);
        let other = TableName { schema: "public".to_owned(), table: "other".to_owned() };
        assert_eq!(by("23503", Some("other")), Some(Blamed::Key(other)));
        assert_eq!(Blamed::by(&error("23505", Some("a")), &[]), None);
    }

    #[test]
    fn names_stay_names_in_an_array() {
        assert_eq!(array(vec![r#""a\b".c"#, "d"]), r#"{"\"a\\b\".c","d"}"#);
    }
}
