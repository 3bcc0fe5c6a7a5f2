//! pgoutput messages to whole committed transactions in the log.
//!
//! The table of what each message does is in ARCHITECTURE.md ("Transactions in progress"). State between messages:
//! at most one transaction that arrives whole (`open`), any number of streamed ones (`streams`), what relations were
//! described as, and what the appender has not yet appended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decoder::{Change, Context, Lsn, Message, PgTimestamp, Relation, RelationId, Xid};
use hashbrown::HashMap;
use segment_log::{TransactionInfo, Writer};
use tokio_util::sync::CancellationToken;

use crate::appender::Appender;
use crate::chunk::{self, WalsenderMessage};
use crate::error::ReplicationError;
use crate::full_disk::is_full;
use crate::keeper::{Keeper, Reading};
use crate::names::{Name, Names};
use crate::run::blocking;
use crate::schema_names::SchemaNames;
use crate::signature;
use crate::spool::{Entry, Spool};
use crate::status::{KINDS, Status};
use crate::told::{Fate, Told};
use crate::types::binary_safe;

/// A transaction that arrives whole stays in memory up to this many bytes.
const OPEN_MEMORY_MAX: usize = 1 << 20;
/// Of each streamed transaction, at most this much is in memory.
const STREAM_MEMORY_MAX: usize = 64 << 10;
/// Descriptions of relations that one connection may bring, in bytes; then a new one begins, and everything of before is
/// forgotten. A hundred thousand tables of ten columns take about 30 MB.
const DESCRIPTIONS_MAX: usize = 64 << 20;

/// Number of published columns by relation; `None` for walcast's own tables, whose rows are kept out of the log: a
/// publication of all tables has them, and the key of the messages is in one.
type ColumnCounts = HashMap<RelationId, Option<usize>>;

/// Schema of walcast's own tables.
const OWN_SCHEMA: &str = "walcast";

/// A transaction between Begin and Commit.
struct Open {
    xid: Xid,
    commit_lsn: Lsn,
    commit_time: PgTimestamp,
}

/// A transaction in progress that is being streamed.
struct Stream {
    spool: Spool,
    /// Relations described inside this transaction; they count for others only from its commit on.
    relations: ColumnCounts,
    names: Names,
}

/// Turns messages into transactions and hands them to the appender.
pub(crate) struct Assembler {
    appender: Appender,
    context: Context,
    binary: bool,
    relations: ColumnCounts,
    names: Names,
    /// Descriptions whose change is still to come.
    undated: Vec<(RelationId, Name)>,
    schemas: SchemaNames,
    /// Bytes of descriptions since the connection began.
    described: usize,
    descriptions_max: usize,
    open: Option<Open>,
    open_spool: Spool,
    streams: HashMap<Xid, Stream>,
    in_stream: Option<Xid>,
    keeper: Keeper,
    spool_dir: PathBuf,
    status: Arc<Status>,
    /// How far into the source's WAL the messages have come.
    read: Lsn,
    /// When the last message was sent, by the source's clock.
    sent_at: PgTimestamp,
    /// The next transaction to end came to the source by replication.
    has_origin: bool,
    /// How long after its commit the last transaction was sent.
    lateness: Duration,
    decoded_bytes: u64,
    decoded_changes: [u64; KINDS.len()],
}

impl Assembler {
    pub(crate) fn new(
        writer: Writer,
        spool_dir: &Path,
        schemas: SchemaNames,
        keeper: Keeper,
        status: Arc<Status>,
        shutdown: CancellationToken,
    ) -> Assembler {
        Assembler {
            appender: Appender::new(writer, Arc::clone(&status), shutdown),
            context: Context { protocol_version: 1, in_stream: false, parallel: false },
            binary: false,
            relations: ColumnCounts::new(),
            names: Names::default(),
            undated: Vec::new(),
            schemas,
            described: 0,
            descriptions_max: DESCRIPTIONS_MAX,
            open: None,
            open_spool: Spool::new(spool_dir.join("open.spool"), OPEN_MEMORY_MAX),
            streams: HashMap::new(),
            in_stream: None,
            keeper,
            spool_dir: spool_dir.to_owned(),
            status,
            read: Lsn::ZERO,
            sent_at: PgTimestamp(0),
            has_origin: false,
            lateness: Duration::ZERO,
            decoded_bytes: 0,
            decoded_changes: [0; KINDS.len()],
        }
    }

    /// Forgets everything that is not in the log, for a new connection; returns where the stream shall begin. Nothing that
    /// comes is older than the slot's `restart_lsn`.
    pub(crate) fn restart(
        &mut self,
        context: Context,
        binary: bool,
        key: Reading,
        restart_lsn: Lsn,
    ) -> Result<Lsn, ReplicationError> {
        self.keeper.take(key);
        self.context = context;
        self.binary = binary;
        self.relations = ColumnCounts::new();
        self.names = Names::default();
        self.undated.clear();
        self.described = 0;
        self.open = None;
        self.open_spool.clear();
        self.streams.clear();
        self.in_stream = None;
        self.has_origin = false;
        self.lateness = Duration::ZERO;
        self.show_progress();
        self.appender.restart()?;
        let end = self.appender.end();
        self.keep_names(|schemas| schemas.restart(restart_lsn, end))?;
        Ok(end)
    }

    /// The socket has nothing more just now: what is complete goes to the log.
    pub(crate) fn settle(&mut self) -> Result<(), ReplicationError> {
        self.show_progress();
        self.appender.write()?;
        // Not before the transaction that brought them is in the log, or it would never get there.
        match (self.described, self.schemas.too_many()) {
            _ if self.open.is_some() => Ok(()),
            (bytes, _) if bytes > self.descriptions_max => Err(ReplicationError::ManyRelations { bytes }),
            (_, Some(count)) => Err(ReplicationError::ManyRenames { count }),
            _ => Ok(()),
        }
    }

    fn show_progress(&mut self) {
        self.status.add_decoded(std::mem::take(&mut self.decoded_bytes), std::mem::take(&mut self.decoded_changes));
        self.status.set_read(self.read);
    }

    /// How far behind the source's commits the stream is: from the last transaction's commit to its being sent, both by
    /// the source's clock. It includes the commit's own way to the source's disk, and on a standby the way there from the
    /// primary, whose clock dates commits. One that came to the source by replication says nothing: it is dated by where it
    /// first committed.
    pub(crate) fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Takes the payload of one CopyData message.
    pub(crate) fn take(&mut self, body: &[u8]) -> Result<(), ReplicationError> {
        let message =
            chunk::parse(body).map_err(|source| ReplicationError::Walsender { after: self.appender.end(), source })?;
        match message {
            WalsenderMessage::Data { start, sent_at, payload } => {
                self.read = self.read.max(start);
                self.sent_at = sent_at;
                self.pgoutput(start, payload)
            }
            WalsenderMessage::Keepalive { end, .. } => {
                self.read = self.read.max(end);
                self.offer_progress(end);
                Ok(())
            }
        }
    }

    fn pgoutput(&mut self, at: Lsn, payload: &[u8]) -> Result<(), ReplicationError> {
        self.decoded_bytes += payload.len() as u64;
        let message = decoder::decode(payload, self.context)
            .map_err(|source| ReplicationError::Decode { after: self.appender.end(), source })?;
        match message {
            Message::Change { change, .. } => self.change(at, &change, payload),
            Message::Begin { commit_lsn, commit_time, xid } => self.begin(Open { xid, commit_lsn, commit_time }),
            Message::Commit { end_lsn, .. } => self.commit(end_lsn),
            Message::StreamStart { xid, .. } => self.stream_start(xid),
            Message::StreamStop => self.stream_stop(),
            Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => {
                self.stream_commit(TransactionInfo { xid, commit_lsn, end_lsn, commit_time })
            }
            Message::StreamAbort { xid, subxid, .. } => {
                self.stream_abort(xid, subxid);
                Ok(())
            }
            // Where a transaction first committed: it will matter with several masters.
            Message::Origin { .. } => {
                self.has_origin = true;
                Ok(())
            }
            other => Err(self.sequence(format!("two-phase message {other:?}, which was not asked for"))),
        }
    }

    fn sequence(&self, what: String) -> ReplicationError {
        ReplicationError::Sequence { after: self.appender.end(), what }
    }

    // Transactions that arrive whole.

    fn begin(&mut self, open: Open) -> Result<(), ReplicationError> {
        if let Some(before) = self.open.replace(open) {
            return Err(self.sequence(format!("begin inside transaction {}", before.xid)));
        }
        Ok(())
    }

    fn commit(&mut self, end_lsn: Lsn) -> Result<(), ReplicationError> {
        let Some(Open { xid, commit_lsn, commit_time }) = self.open.take() else {
            return Err(self.sequence("commit without begin".to_owned()));
        };
        let mut spool = std::mem::replace(&mut self.open_spool, Spool::new(PathBuf::new(), OPEN_MEMORY_MAX));
        let appended = self.append(TransactionInfo { xid, commit_lsn, end_lsn, commit_time }, &mut spool);
        spool.clear();
        self.open_spool = spool;
        appended
    }

    // Transactions that are streamed while in progress.

    fn stream_start(&mut self, xid: Xid) -> Result<(), ReplicationError> {
        if let Some(before) = self.in_stream.replace(xid) {
            return Err(self.sequence(format!("stream start of {xid} inside the stream of {before}")));
        }
        self.context.in_stream = true;
        let path = self.spool_dir.join(format!("{xid}.spool"));
        self.streams.entry(xid).or_insert_with(|| Stream {
            spool: Spool::new(path, STREAM_MEMORY_MAX),
            relations: ColumnCounts::new(),
            names: Names::default(),
        });
        Ok(())
    }

    fn stream_stop(&mut self) -> Result<(), ReplicationError> {
        self.context.in_stream = false;
        self.status.set_spool_bytes(self.streams.values().map(|stream| stream.spool.file_bytes()).sum());
        match self.in_stream.take() {
            Some(_) => Ok(()),
            None => Err(self.sequence("stream stop without stream start".to_owned())),
        }
    }

    fn stream_commit(&mut self, info: TransactionInfo) -> Result<(), ReplicationError> {
        let Some(mut stream) = self.streams.remove(&info.xid) else {
            return Err(self.sequence(format!("commit of transaction {}, which was not streamed", info.xid)));
        };
        self.relations.extend(stream.relations.drain());
        self.names.take(stream.names);
        self.append(info, &mut stream.spool)
    }

    /// An unknown transaction is ignored: PostgreSQL 18 sends such messages for transactions it never streamed.
    fn stream_abort(&mut self, xid: Xid, subxid: Xid) {
        if xid == subxid {
            self.streams.remove(&xid);
        } else if let Some(stream) = self.streams.get_mut(&xid) {
            stream.spool.roll_back(subxid);
        }
    }

    // Changes.

    fn change(&mut self, at: Lsn, change: &Change<'_>, payload: &[u8]) -> Result<(), ReplicationError> {
        let Some(xid) = self.in_stream.or(self.open.as_ref().map(|open| open.xid)) else {
            // A non-transactional message is all that may stand outside of a transaction.
            let stray = !matches!(change, Change::Message { transactional: false, .. });
            return if stray { Err(self.sequence("change outside of a transaction".to_owned())) } else { Ok(()) };
        };
        if !self.undated.is_empty() && !matches!(change, Change::Relation(_) | Change::Type { .. }) {
            self.date_descriptions(at);
        }
        if !self.wanted(xid, change, payload)? {
            return Ok(());
        }
        let Ok(Some(parts)) = decoder::split_change(payload, self.context) else { return Ok(()) };
        let truncate = self.foreign_truncate(change);
        let rest = truncate.as_deref().unwrap_or(parts.body);
        let named = match (change, parts.xid) {
            (Change::Message { content, .. }, Some(_)) => signature::subtransaction(content),
            _ => None,
        };
        let xid = named.or(parts.xid).unwrap_or(xid);
        let entry = Entry { xid, relation: change.relation(), tag: parts.tag, rest };
        let spool = self.spool();
        spool.push(entry);
        if spool.is_full() { self.write_out() } else { Ok(()) }
    }

    /// Checks a change against its relation; says whether the log keeps it.
    fn wanted(&mut self, xid: Xid, change: &Change<'_>, payload: &[u8]) -> Result<bool, ReplicationError> {
        self.count(change);
        match change {
            Change::Relation(relation) => self.describe(relation, payload.len()),
            Change::Insert { relation, new } => self.check_row(xid, *relation, new.len()),
            Change::Update { relation, new, old } => {
                if let Some(old) = old {
                    self.check_row(xid, *relation, old.tuple().len())?;
                }
                self.check_row(xid, *relation, new.len())
            }
            Change::Delete { relation, old } => self.check_row(xid, *relation, old.tuple().len()),
            Change::Truncate { relations, .. } => match relations.iter().find(|id| self.is_outdated(**id)) {
                Some(&relation) => Err(ReplicationError::Renamed { after: self.appender.end(), relation }),
                None => Ok(!relations.iter().all(|relation| self.is_own(*relation))),
            },
            // Other programs' messages are none of ours; neither is one that its transaction's fate does not touch.
            Change::Message { transactional, prefix, .. } => Ok(*transactional && *prefix == "walcast"),
            // Targets resolve types by the names in their own catalogs.
            Change::Type { .. } => Ok(false),
        }
    }

    fn count(&mut self, change: &Change<'_>) {
        let tag = change.tag();
        for ((kind, _), count) in KINDS.iter().zip(&mut self.decoded_changes) {
            *count += u64::from(*kind == tag);
        }
    }

    /// The descriptions that came last were sent for this change.
    fn date_descriptions(&mut self, change: Lsn) {
        // A streamed transaction commits after all that is known.
        let commit_lsn = self.open.as_ref().map_or(Lsn::MAX, |open| open.commit_lsn);
        let stream = self.in_stream.and_then(|xid| self.streams.get_mut(&xid));
        let names = stream.map_or(&mut self.names, |stream| &mut stream.names);
        for (relation, (schema, name)) in self.undated.drain(..) {
            let schema = self.schemas.current(&schema, relation, change, commit_lsn).to_owned();
            names.describe(relation, (schema, name));
        }
        self.spool().date_descriptions(change);
    }

    fn spool(&mut self) -> &mut Spool {
        spool_of(&mut self.streams, self.in_stream, &mut self.open_spool)
    }

    /// Takes a description; says whether the log keeps it.
    fn describe(&mut self, relation: &Relation, bytes: usize) -> Result<bool, ReplicationError> {
        let own = relation.namespace == OWN_SCHEMA;
        let unsafe_column = relation.columns.iter().find(|column| !binary_safe(column.type_oid));
        if let (true, false, Some(column)) = (self.binary, own, unsafe_column) {
            let relation = format!("{}.{}", relation.namespace, relation.name);
            return Err(ReplicationError::NeedsText { relation, type_oid: column.type_oid.0 });
        }
        self.described += bytes;
        self.undated.push((relation.id, (relation.namespace.clone(), relation.name.clone())));
        let stream = self.in_stream.and_then(|xid| self.streams.get_mut(&xid));
        let relations = stream.map_or(&mut self.relations, |stream| &mut stream.relations);
        relations.insert(relation.id, (!own).then_some(relation.columns.len()));
        Ok(!own)
    }

    fn known(&self, relation: RelationId) -> Option<&Option<usize>> {
        let own = self.in_stream.and_then(|xid| self.streams.get(&xid)?.relations.get(&relation));
        own.or_else(|| self.relations.get(&relation))
    }

    /// Whether what the relation was last described as has gone to another one.
    fn is_outdated(&self, relation: RelationId) -> bool {
        let own = self.in_stream.and_then(|xid| self.streams.get(&xid)).map(|stream| &stream.names);
        own.filter(|names| names.knows(relation)).unwrap_or(&self.names).is_outdated(relation)
    }

    fn is_own(&self, relation: RelationId) -> bool {
        self.known(relation) == Some(&None)
    }

    /// The rest of a TRUNCATE message without walcast's own tables, if it names any.
    fn foreign_truncate(&self, change: &Change<'_>) -> Option<Vec<u8>> {
        let Change::Truncate { relations, options } = change else { return None };
        let foreign = relations.iter().filter(|relation| !self.is_own(**relation)).collect::<Vec<_>>();
        (foreign.len() < relations.len()).then(|| {
            let flags = u8::from(options.cascade) | u8::from(options.restart_identity) << 1;
            let mut rest = u32::try_from(foreign.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
            rest.push(flags);
            rest.extend(foreign.iter().flat_map(|relation| relation.0.to_be_bytes()));
            rest
        })
    }

    fn check_row(&self, xid: Xid, relation: RelationId, got: usize) -> Result<bool, ReplicationError> {
        let after = self.appender.end();
        if self.is_outdated(relation) {
            return Err(ReplicationError::Renamed { after, relation });
        }
        match self.known(relation) {
            Some(None) => Ok(false),
            Some(Some(expected)) if *expected == got => Ok(true),
            Some(&Some(expected)) => Err(ReplicationError::ColumnCount { after, relation, expected, got }),
            None => Err(ReplicationError::UnknownRelation { after, relation, xid }),
        }
    }

    // Into the log.

    /// Appends a committed transaction, unless the log has it already.
    fn append(&mut self, info: TransactionInfo, spool: &mut Spool) -> Result<(), ReplicationError> {
        self.status.set_received(info.end_lsn);
        let micros = self.sent_at.0.saturating_sub(info.commit_time.0);
        let is_own = !std::mem::take(&mut self.has_origin);
        self.lateness = Duration::from_micros(u64::try_from(micros).ok().filter(|_| is_own).unwrap_or_default());
        if info.end_lsn <= self.appender.end() {
            return Ok(());
        }
        if spool.is_empty() {
            self.offer_progress(info.end_lsn);
            return Ok(());
        }
        // Before anything of it is in the frame: the key may have to be read, and that may fail.
        let told = if spool.has_messages() { blocking(|| self.read_messages(&info, spool))? } else { Told::default() };
        if !told.renamed.is_empty() {
            self.keep_names(|schemas| schemas.add(info.commit_lsn, &told.renamed))?;
        }
        self.appender.begin(&info);
        if spool.file_bytes() > 0 {
            blocking(|| self.replay(&info, spool, &told))?
        } else {
            self.replay(&info, spool, &told)?
        }
        self.appender.commit(info.end_lsn)?;
        for renamed in &told.renamed {
            renamed.schemas.iter().for_each(|(old, _)| self.names.rename_schema(old));
            self.streams.values_mut().for_each(|stream| stream.names.follow(renamed));
        }
        Ok(())
    }

    fn read_messages(&mut self, info: &TransactionInfo, spool: &mut Spool) -> Result<Told, ReplicationError> {
        let renames_known = !self.schemas.is_empty();
        Told::read(&mut self.keeper, info, spool, renames_known, self.appender.end())
    }

    fn replay(&mut self, info: &TransactionInfo, spool: &mut Spool, told: &Told) -> Result<(), ReplicationError> {
        let Assembler { appender, schemas, .. } = self;
        let mut fates = told.fates.iter();
        // Most often no schema was renamed, and no description is to be looked at.
        let mut described = if schemas.is_empty() { Vec::new() } else { spool.described().to_vec() }.into_iter();
        spool.replay(|relation, message| match message.first() {
            Some(b'M') => match fates.next() {
                Some(Fate::Marker) => appender.push(relation, message),
                Some(Fate::Verified) => appender.push_message(message),
                Some(Fate::Dropped) | None => Ok(()),
            },
            Some(b'R') => {
                let at = described.next().filter(|_| relation.is_none_or(|relation| !told.made.contains(&relation)));
                let renamed = at.and_then(|at| schemas.brought_up_to_date(message, at, info.commit_lsn));
                appender.push(relation, renamed.as_deref().unwrap_or(message))
            }
            _ => appender.push(relation, message),
        })
    }

    /// Changes what is kept of renamed schemas.
    fn keep_names(
        &mut self,
        mut work: impl FnMut(&mut SchemaNames) -> std::io::Result<()>,
    ) -> Result<(), ReplicationError> {
        let Assembler { appender, schemas, .. } = self;
        let work = || {
            let done = blocking(|| work(schemas));
            done.map_err(|source| ReplicationError::SchemaNames { path: schemas.path().to_owned(), source })
        };
        let no_room = |error: &_| matches!(error, ReplicationError::SchemaNames { source, .. } if is_full(source));
        appender.disk.until_room(work, no_room)
    }

    /// Moves what the current transaction has in memory to its file.
    fn write_out(&mut self) -> Result<(), ReplicationError> {
        let Assembler { appender, streams, in_stream, open_spool, .. } = self;
        let spool = spool_of(streams, *in_stream, open_spool);
        appender.disk.until_room(|| spool.write_out(), |error| is_full(&error.source))
    }

    /// Everything that committed before `lsn` has been sent. It becomes the log's end only while nothing is under way.
    fn offer_progress(&mut self, lsn: Lsn) {
        if self.open.is_none() && self.streams.is_empty() {
            self.status.set_received(lsn);
            self.appender.offer_progress(lsn);
        }
    }
}

/// Where the current transaction's changes are kept.
fn spool_of<'a>(
    streams: &'a mut HashMap<Xid, Stream>,
    in_stream: Option<Xid>,
    open_spool: &'a mut Spool,
) -> &'a mut Spool {
    match in_stream.and_then(|xid| streams.get_mut(&xid)) {
        Some(stream) => &mut stream.spool,
        None => open_spool,
    }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
