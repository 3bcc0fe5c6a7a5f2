//! The load: pgbench's transaction at a steady rate, from a few clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::stage::Server;
use crate::failure::{Failure, Result};

const CLIENTS: u32 = 4;

/// Clients at work.
pub(crate) struct Load {
    committed: Arc<AtomicU64>,
    clients: JoinSet<Result<()>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts clients that make `rate` transactions per second together, or fewer when the source is slower.
    ///
    /// # Errors
    /// The source does not take them.
    pub(crate) async fn start(source: &Server, rate: u32) -> Result<Load> {
        let mut load = Load { committed: Arc::default(), clients: JoinSet::new(), stop: CancellationToken::new() };
        for number in 0..CLIENTS {
            let client = Teller::prepare(source.connect().await?, number).await?;
            let period = Duration::from_secs(1) * CLIENTS / rate;
            load.clients.spawn(client.work(period, Arc::clone(&load.committed), load.stop.clone()));
        }
        Ok(load)
    }

    /// Transactions so far.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Relaxed)
    }

    /// Ends the load; says how many transactions it was.
    ///
    /// # Errors
    /// A client failed.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.map_err(|e| Failure::because("a client of the load failed", &e))??;
        }
        Ok(self.committed())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One client.
struct Teller {
    client: Client,
    random: Random,
}

impl Teller {
    /// Prepares pgbench's "TPC-B (sort of)" transaction as one statement: one round trip, still one transaction.
    async fn prepare(client: Client, number: u32) -> Result<Teller> {
        let sql = "prepare transfer (int, int, int) as \
             with a as (update public.pgbench_accounts set abalance = abalance + $3 where aid = $1 returning aid), \
             t as (update public.pgbench_tellers set tbalance = tbalance + $3 where tid = $2 returning tid), \
             b as (update public.pgbench_branches set bbalance = bbalance + $3 where bid = 1 returning bid) \
             insert into public.pgbench_history (tid, bid, aid, delta, mtime) \
             select t.tid, b.bid, a.aid, $3, now() from a, t, b";
        client.batch_execute(sql).await.map_err(|e| failed(&e))?;
        Ok(Teller { client, random: Random(u64::from(number) + 1) })
    }

    async fn work(mut self, period: Duration, committed: Arc<AtomicU64>, stop: CancellationToken) -> Result<()> {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let (account, teller) = (self.random.below(100_000) + 1, self.random.below(10) + 1);
            let delta = i64::from(self.random.below(10_001)) - 5_000;
            let sql = format!("execute transfer ({account}, {teller}, {delta})");
            self.client.batch_execute(&sql).await.map_err(|e| failed(&e))?;
            committed.fetch_add(1, Relaxed);
        }
    }
}

fn failed(error: &tokio_postgres::Error) -> Failure {
    Failure::new(format!("the load failed: {}", capture::one_line(error)))
}

/// Numbers that look random enough for a load (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mixed = mixed ^ (mixed >> 31);
        u32::try_from(mixed % u64::from(limit)).expect("a remainder is less than its 32-bit divisor")
    }
}
