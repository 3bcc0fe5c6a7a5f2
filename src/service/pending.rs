//! Privileges that targets could not give yet, because roles are missing: looked at now and then, for the status only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::connect;
use crate::failure::{Failure, Result};
use crate::status::{self, PendingGrant};

const INTERVAL: Duration = Duration::from_secs(5);
/// A target that does not answer is not waited for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// As last seen, by target.
#[derive(Default)]
pub(super) struct Pending {
    grants: Mutex<BTreeMap<String, Vec<PendingGrant>>>,
}

impl Pending {
    fn grants(&self) -> MutexGuard<'_, BTreeMap<String, Vec<PendingGrant>>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at a target until the shutdown.
pub(super) async fn run(service: Arc<Service>, name: String, shutdown: CancellationToken) {
    let looking = async {
        loop {
            if let Err(error) = watch_target(&service, &name).await {
                tracing::debug!(target = name, %error, "cannot look for privileges that wait");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = shutdown.cancelled() => {}
    }
}

/// Looks for as long as the connection lasts.
async fn watch_target(service: &Service, name: &str) -> Result<()> {
    let client = connect::target(service.configured(name)?).await?;
    loop {
        let looked = tokio::time::timeout(ANSWER_TIMEOUT, look(&client)).await;
        let grants = looked.map_err(|_| Failure::new("the target does not answer"))??;
        service.pending.grants().insert(name.to_owned(), grants);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What waits on a target now.
pub(super) async fn look(client: &Client) -> Result<Vec<PendingGrant>> {
    let failed = |e: tokio_postgres::Error| {
        Failure::new(format!("could not look for privileges that wait: {}", capture::one_line(&e)))
    };
    let is_there = "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n \
                    on n.oid = c.relnamespace and n.nspname = 'walcast' where c.relname = 'pending_grant' \
                    and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select'))";
    let row = client.query_one(is_there, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>(0).map_err(failed)? {
        return Ok(Vec::new());
    }
    let rows = client.query(ddl::WAITING, &[]).await;
    let read = |row: &tokio_postgres::Row| Ok(PendingGrant { object: row.try_get(0)?, missing: row.try_get(1)? });
    rows.map_err(failed)?.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}

impl Service {
    /// For the status.
    pub(super) fn show_pending(&self, view: &mut status::Target) {
        view.pending_grants = self.pending.grants().get(&view.name).cloned().unwrap_or_default();
    }
}
