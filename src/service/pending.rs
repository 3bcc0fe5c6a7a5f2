//! What waits on targets, privileges for roles and objects for others: looked at now and then, for the status only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::connect;
use crate::failure::{Failure, Result};
use crate::status::{self, PendingGrant, PendingObject};

const INTERVAL: Duration = Duration::from_secs(5);
/// A target that does not answer is not waited for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// As last seen, by target.
#[derive(Default)]
pub(super) struct Pending {
    targets: Mutex<BTreeMap<String, Waiting>>,
}

/// What waits on one target.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    pub(super) grants: Vec<PendingGrant>,
    pub(super) objects: Vec<PendingObject>,
}

impl Pending {
    fn targets(&self) -> MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, target: &str) {
        self.targets().remove(target);
    }
}

/// Looks at a target until the shutdown.
pub(super) async fn run(service: Arc<Service>, name: String, shutdown: CancellationToken) {
    let looking = async {
        loop {
            if let Err(error) = watch_target(&service, &name).await {
                tracing::debug!(target = name, %error, "cannot look for what waits");
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
    let client = connect::target(&service.configured(name)?).await?;
    loop {
        let looked = tokio::time::timeout(ANSWER_TIMEOUT, look(&client)).await;
        let waiting = looked.map_err(|_| Failure::new("the target does not answer"))??;
        service.pending.targets().insert(name.to_owned(), waiting);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What waits on a target now.
pub(super) async fn look(client: &Client) -> Result<Waiting> {
    let grants = pairs(client, "pending_grant", ddl::WAITING).await?;
    let objects = pairs(client, "pending_object", ddl::LACKING).await?;
    Ok(Waiting {
        grants: grants.into_iter().map(|(object, missing)| PendingGrant { object, missing }).collect(),
        objects: objects.into_iter().map(|(object, why)| PendingObject { object, why }).collect(),
    })
}

/// The rows of a query about a table of schema `walcast`; none where the table is not there, or not the login's to read.
async fn pairs(client: &Client, table: &str, query: &str) -> Result<Vec<(String, String)>> {
    const IS_THERE: &str = "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n \
         on n.oid = c.relnamespace and n.nspname = 'walcast' where c.relname = $1 \
         and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select'))";
    let failed =
        |e: tokio_postgres::Error| Failure::new(format!("could not look for what waits: {}", capture::one_line(&e)));
    let row = client.query_one(IS_THERE, &[&table]).await.map_err(failed)?;
    if !row.try_get::<_, bool>(0).map_err(failed)? {
        return Ok(Vec::new());
    }
    let rows = client.query(query, &[]).await.map_err(failed)?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}

impl Service {
    /// For the status.
    pub(super) fn show_pending(&self, view: &mut status::Target) {
        let Waiting { grants, objects } = self.pending.targets().get(&view.name).cloned().unwrap_or_default();
        (view.pending_grants, view.pending_objects) = (grants, objects);
    }
}
