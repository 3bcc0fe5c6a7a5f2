//! Foreign keys that wait for tables to be whole (`walcast.pending_object`), where all tables are replicated.
//!
//! They are tried again when a table is not set aside any more, and when a session begins.

use crate::catalog::flag;
use crate::error::Error;
use crate::session::Session;
use crate::status::Identity;

/// Whether something waits, as far as this session knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing does.
    Not,
    /// There is no reason to try it again by now.
    ForTables,
    /// It is to be tried again.
    Due,
}

impl Waiting {
    /// Whether anything is left of an earlier session.
    pub(crate) async fn look(session: &mut Session, identity: &Identity) -> Result<Waiting, Error> {
        const MAY_LOOK: &str = "\
            SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'walcast' AND c.relname = 'pending_object' \
               AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))";
        const LOOK: &str = "SELECT EXISTS (SELECT FROM walcast.pending_object WHERE origin = $1)";
        let may_look = session.simple(MAY_LOOK).await?;
        if !may_look.first().map_or(Ok(false), |row| flag(row, 0))? {
            return Ok(Waiting::Not);
        }
        let rows = session.query(LOOK, &[&origin(identity)]).await?;
        Ok(if rows.first().map_or(Ok(false), |row| flag(row, 0))? { Waiting::Due } else { Waiting::Not })
    }

    /// What a message, or trying again, came to.
    pub(crate) fn found(&mut self, waits: bool) {
        *self = match (waits, *self) {
            (false, _) => Waiting::Not,
            (true, Waiting::Due) => Waiting::Due,
            (true, _) => Waiting::ForTables,
        };
    }

    /// Tables may be whole now.
    pub(crate) fn try_again(&mut self) {
        if *self == Waiting::ForTables {
            *self = Waiting::Due;
        }
    }
}

/// What tells the source's OIDs from those of others.
pub(super) fn origin(identity: &Identity) -> String {
    format!("{} {}", identity.system_id, identity.slot)
}
