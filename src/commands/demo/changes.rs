//! DDL and grants at the source while the load runs, and when each target shows them.

use std::time::{Duration, Instant};

use super::stage::{Server, Stage};
use crate::failure::{Failure, Result};

/// How often targets are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a change may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// What is done at the source, and the query that is true where it has arrived.
struct Change {
    sql: &'static str,
    arrived: &'static str,
}

const CHANGES: [Change; 4] = [
    Change {
        sql: "create role auditor; grant select on public.pgbench_accounts to auditor",
        arrived: "select exists (select from pg_catalog.pg_class c, aclexplode(c.relacl) a \
                  where c.oid = 'public.pgbench_accounts'::regclass and a.grantee::regrole::text = 'auditor')",
    },
    Change {
        sql: "alter table public.pgbench_history add noted_at timestamptz default now()",
        arrived: "select exists (select from pg_catalog.pg_attribute \
                  where attrelid = 'public.pgbench_history'::regclass and attname = 'noted_at')",
    },
    Change {
        sql: "create table public.pgbench_richest as select aid, abalance, random() as luck from public.pgbench_accounts \
              order by abalance desc limit 1000",
        arrived: "select to_regclass('public.pgbench_richest') is not null",
    },
    Change {
        sql: "create index on public.pgbench_accounts (abalance); create view public.pgbench_poorest as \
              select aid, abalance from public.pgbench_accounts where abalance < 0",
        arrived: "select to_regclass('public.pgbench_poorest') is not null",
    },
];

/// The changes that are still to be made, at even distances within the time that the load runs.
pub(crate) struct Changes {
    made: usize,
    every: Duration,
}

impl Changes {
    /// For a load of this time.
    pub(crate) fn within(time: Duration) -> Changes {
        Changes { made: 0, every: time / (u32::try_from(CHANGES.len()).unwrap_or(1) + 1) }
    }

    /// Makes the next change if it is its time, waits until every target shows it, and tells how long that took.
    ///
    /// # Errors
    /// The source refuses it, or a target does not show it.
    pub(crate) async fn make_due(&mut self, stage: &Stage, elapsed: Duration) -> Result<Option<String>> {
        let Some(change) = CHANGES.get(self.made) else { return Ok(None) };
        let due = self.every * (u32::try_from(self.made).unwrap_or(u32::MAX) + 1);
        if elapsed < due {
            return Ok(None);
        }
        self.made += 1;
        make(stage, change).await.map(Some)
    }
}

async fn make(stage: &Stage, change: &Change) -> Result<String> {
    stage.source().execute(change.sql).await?;
    let began = Instant::now();
    let mut arrivals = Vec::new();
    for target in stage.targets() {
        arrive(target, change).await?;
        arrivals.push(format!("{} after {} ms", target.name(), began.elapsed().as_millis()));
    }
    Ok(format!("{}\n    arrived on {}\n", change.sql, arrivals.join(", ")))
}

async fn arrive(target: &Server, change: &Change) -> Result<()> {
    let client = target.connect().await?;
    let deadline = Instant::now() + ARRIVAL;
    loop {
        let row = client.query_one(change.arrived, &[]).await;
        let arrived = row.and_then(|row| row.try_get::<_, bool>(0));
        match arrived.map_err(|e| Failure::new(format!("{}: {}", target.name(), capture::one_line(&e))))? {
            true => return Ok(()),
            false if Instant::now() > deadline => {
                return Err(Failure::new(format!("{} did not get: {}", target.name(), change.sql)));
            }
            false => tokio::time::sleep(LOOK).await,
        }
    }
}
