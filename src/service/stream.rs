//! The stream from the source into the log: the seam to `replication` and `segment_log`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decoder::Lsn;
use metrics::histogram;
use replication::{ReplicationError, Slot, SourceIdentity, State};
use segment_log::{Identity, Log, Overview, Writer};

use super::Service;
use super::marks::Origin;
use super::target::{Head, Target};
use crate::failure::{Failure, Result, with_causes};
use crate::metrics::LOG_FSYNC_DURATION_SECONDS;
use crate::status::{self, position};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// A log that was looked into without opening it.
pub(super) struct Inspected {
    pub(super) identity: Identity,
    pub(super) overview: Overview,
}

/// Looks into the log in a directory; `None` when there is none.
pub(super) fn inspect(dir: &Path) -> Result<Option<Inspected>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    Ok(segment_log::overview(dir)?.map(|(identity, overview)| Inspected { identity, overview }))
}

/// Opens the log. A log that is there says itself whose it is, so that targets get what it holds while the source is
/// away; whether it fits the source is looked at before anything is streamed. For a new one the source is waited for.
/// `None` when the service is stopped meanwhile.
pub(super) async fn open_log(service: &Service) -> Result<Option<(Writer, Log)>> {
    let found = inspect(&service.config().log.dir)?;
    let is_new = found.is_none();
    let options = match found {
        Some(found) => options(service, found.identity, found.overview.first_lsn),
        None => match probe(service).await? {
            Some((source, slot)) => options(service, identity_of(service, source), slot.confirmed_flush_lsn),
            None => return Ok(None),
        },
    };
    let origin = Origin { lsn: options.start, system_id: options.identity.system_id };
    let opened = tokio::task::spawn_blocking(|| segment_log::open(options)).await;
    let (writer, log) = opened.map_err(|e| Failure::because("opening the log failed", &e))??;
    let positions = log.positions();
    // A mark that outlived the log before says nothing of this one.
    if is_new || positions.first_lsn == positions.appended_lsn && service.marks.origin().is_none() {
        service.marks.set_origin(origin)?;
    }
    tracing::info!(first_lsn = %positions.first_lsn, durable_lsn = %positions.durable.lsn(), "log is open");
    Ok(Some((writer, log)))
}

/// Asks the source until it answers.
async fn probe(service: &Service) -> Result<Option<(SourceIdentity, Slot)>> {
    let config = service.config();
    let source = &config.source;
    let mut pause = RETRY_FIRST;
    loop {
        let probed = tokio::select! {
            probed = replication::probe(&source.conninfo, &source.slot) => probed,
            () = service.shutdown.cancelled() => return Ok(None),
        };
        match probed {
            Ok(probed) => return Ok(Some(probed)),
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => service.wait_for_source(&error, pause),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.shutdown.cancelled() => return Ok(None),
        }
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

fn identity_of(service: &Service, source: SourceIdentity) -> Identity {
    Identity {
        system_id: source.system_id,
        timeline: source.timeline,
        database: source.database,
        slot: service.config().source.slot.clone(),
        publication: service.config().source.publication.clone(),
    }
}

/// The slot and publication of the configuration are what a log is checked against.
fn options(service: &Service, identity: Identity, start: Lsn) -> segment_log::Options {
    let fsync = histogram!(LOG_FSYNC_DURATION_SECONDS);
    let config = service.config();
    let (log, source) = (&config.log, &config.source);
    segment_log::Options {
        dir: log.dir.clone(),
        segment_size: log.segment_size,
        retain_min: log.retain_min,
        identity: Identity { slot: source.slot.clone(), publication: source.publication.clone(), ..identity },
        start,
        on_sync: Arc::new(move |duration| fsync.record(duration.as_secs_f64())),
    }
}

/// Streams until the shutdown.
///
/// A definite error before anything was streamed is a matter of configuration: it ends the service. So does a log that
/// failed, because nobody knows what is on disk. After any other error the targets still get what the log holds, and so
/// they do, before the service ends, when it is the slot that is lost.
pub(super) async fn run(service: &Service, writer: Writer, log: Log) -> Result<()> {
    let config = service.config();
    let options =
        replication::Options { conninfo: config.source.conninfo.clone(), dir: config.log.dir.clone(), binary: true };
    let stream = replication::run(options, writer, log.clone(), Arc::clone(&service.stream), service.shutdown.clone());
    // On a worker, so that the appliers it wakes run there next: the main thread would have to wake another one.
    let result = tokio::spawn(stream).await.map_err(|e| Failure::because("the stream failed", &e))?;
    match result {
        Ok(()) => Ok(()),
        Err(error) if log.positions().failed => Err(error.into()),
        Err(error) if service.stream.has_streamed() => {
            report(&error);
            service.shutdown.cancelled().await;
            Ok(())
        }
        Err(error) if error.is_slot_lost() => {
            report(&error);
            tokio::select! {
                () = service.until_level(log.positions().appended_lsn) => {}
                () = service.shutdown.cancelled() => {}
            }
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn report(error: &ReplicationError) {
    let hint = error.hint().unwrap_or_default();
    tracing::error!(error = with_causes(error), hint, "the stream stopped; targets are still given what the log holds");
}

impl Service {
    /// Waits until every target has what the log holds, except those that will not get it without a person's help.
    async fn until_level(&self, end: Lsn) {
        let resting = |state| {
            matches!(
                state,
                applier::State::New | applier::State::Paused | applier::State::Stopped | applier::State::Desync
            )
        };
        let statuses: Vec<_> = self.targets().values().map(Target::watch).collect();
        for mut status in statuses {
            // An applier that has ended gets no further either.
            let _ = status.wait_for(|s| s.applied_lsn >= Some(end) || resting(s.state)).await;
        }
    }

    fn wait_for_source(&self, error: &ReplicationError, pause: Duration) {
        let error = with_causes(error);
        tracing::warn!(error, retry_in_ms = pause.as_millis(), "cannot reach the source");
        *self.waiting_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
    }

    /// For status and metrics.
    pub(super) fn source_view(&self) -> status::Source {
        let state = self.stream.state().borrow().clone();
        let waiting = match self.log() {
            None => self.waiting_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
            Some(_) => None,
        };
        let slot = self.source.borrow().slot.clone();
        status::Source {
            state: if waiting.is_some() { "retrying" } else { state.name() }.to_owned(),
            received_lsn: self.stream.received_lsn().map(position),
            slot: slot.map(slot_view),
            last_error: waiting.or_else(|| state.error().map(str::to_owned)),
            capture_error: self.complaint.borrow().clone(),
        }
    }

    /// What lags are measured against.
    pub(super) fn head(&self) -> Head {
        let seen = self.source.borrow().ends.end();
        let streaming = *self.stream.state().borrow() == State::Streaming;
        // A source that was never heard of has been away since the start.
        let away = || self.stream.silence().unwrap_or_else(|| self.started.elapsed());
        let silence = if streaming { Duration::ZERO } else { away() };
        let appended = self.log().map(|log| log.positions().appended_lsn);
        Head { lsn: seen.max(self.stream.read_lsn()).max(appended), silence, unread: self.age(self.stream.read_lsn()) }
    }

    /// For how long the source has had WAL beyond a position.
    pub(super) fn age(&self, lsn: Option<Lsn>) -> Duration {
        lsn.map_or(Duration::ZERO, |lsn| self.source.borrow().ends.age(lsn, Instant::now()))
    }
}

pub(super) fn slot_view(slot: capture::Slot) -> status::Slot {
    status::Slot {
        confirmed_flush_lsn: slot.confirmed_flush_lsn.map(position),
        restart_lsn: slot.restart_lsn.map(position),
        retained_bytes: slot.retained_bytes,
        wal_status: slot.wal_status,
    }
}

/// The log for the status.
pub(super) fn log_view(log: &Log) -> status::Log {
    let positions = log.positions();
    status::Log {
        first_lsn: position(positions.first_lsn),
        durable_lsn: position(positions.durable.lsn()),
        bytes: positions.bytes,
        segments: positions.segments,
    }
}

/// The same from outside.
pub(super) fn overview_view(overview: &Overview) -> status::Log {
    status::Log {
        first_lsn: position(overview.first_lsn),
        durable_lsn: position(overview.end_lsn),
        bytes: overview.bytes,
        segments: overview.segments,
    }
}
