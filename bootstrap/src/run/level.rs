//! After a copy that was gone on with: tables are as of different positions until the applier has passed the largest of
//! them. What is about several tables is made only then: foreign keys, and the contents of materialized views.

use super::{Bootstrap, Error};
use crate::error::Whom;
use crate::progress::{Progress, Stage};
use crate::schema::{self, Dump, Restore};
use crate::{catalog, finish, session};

/// The applier and what locks two tables may be in each other's way.
const ATTEMPTS: u32 = 5;

impl Bootstrap {
    /// Makes what needs all tables to show the same moment, which they do by now: while the log is being applied, no
    /// other moment than one of the source can be seen.
    ///
    /// # Errors
    /// A server cannot be reached, or refuses. It may be called again.
    pub async fn level(&self, progress: &Progress) -> Result<(), Error> {
        let (Some(programs), options) = (self.programs.clone(), &self.options) else {
            return self.ledger.finish().await;
        };
        progress.enter(Stage::Rest);
        let source = session::client(Whom::Source, &options.source).await?;
        let tables = catalog::published(&source, &options.publication).await?;
        let mut excluded = schema::own_objects(&source, &options.publication).await?;
        excluded.extend(schema::unmet_foreign_keys(&source, &tables, progress).await?);
        let dump = Dump::take(programs, options, None, &excluded).await?;
        let mut attempts = 1;
        while let Err(error) = self.foreign_keys(&source, &dump).await {
            if attempts == ATTEMPTS || !is_deadlock(&error) {
                return Err(error);
            }
            attempts += 1;
        }
        finish::refresh(&source, &self.ledger.client).await?;
        self.ledger.finish().await
    }

    async fn foreign_keys(&self, source: &tokio_postgres::Client, dump: &Dump) -> Result<(), Error> {
        let ours = schema::foreign_keys(source, Whom::Source).await?;
        let theirs = schema::foreign_keys(&self.ledger.client, Whom::Target).await?;
        let is_missing = |oid: u32| ours.get(&oid).is_some_and(|name| !theirs.values().any(|theirs| theirs == name));
        let missing = dump.post_data().filter(|entry| entry.is_foreign_key() && is_missing(entry.object.1));
        let ids: Vec<u32> = missing.map(|entry| entry.id).collect();
        dump.restore_parallel(&ids, self.options.builders(), Restore::New).await
    }
}

fn is_deadlock(error: &Error) -> bool {
    matches!(error, Error::Program { message, .. } if message.contains("deadlock detected"))
}
