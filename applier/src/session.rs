//! A session to a target: pinned settings, queries that wait, and pipelined windows that do not.

use bytes::BytesMut;
use connection::{Conninfo, PINNED_SETTINGS, ServerError, TextRow, Wire, WireError, data_row};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::failpoint::{self, Failpoint};
use crate::pipeline::{Expect, Failed, Pipeline};

/// Bytes after which a window is ended. The target reads one window while the next is being written.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;
/// Windows sent and not answered.
const WINDOWS_MAX: usize = 2;

/// Besides [`PINNED_SETTINGS`]: nothing may time out under a batch that waits for a lock, prepared statements keep
/// one plan, COMMIT does not wait for the disk (the checkpoint says what is flushed), and a dead peer is noticed.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    // Rows are found by an index, whatever the planner thought of the table's size when it made the plan that is kept.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("array_nulls", "on"),
    ("xmloption", "content"),
    ("client_min_messages", "warning"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// A statement that every batch uses: its name, its text, and its parameters' types.
pub(crate) type Fixed = (&'static str, &'static str, &'static [u32]);

const BEGIN: Fixed = ("wb", "BEGIN", &[]);
const COMMIT: Fixed = ("wc", "COMMIT", &[]);

/// A session of its own on the target.
pub(crate) struct Session {
    wire: Wire,
    pipeline: Pipeline,
    /// Where a transaction begins that goes out as one window: bytes written, and answers waited for, before it.
    whole: Option<(usize, usize)>,
}

impl Session {
    /// Opens one and makes it a replica session: triggers and foreign keys stay silent, as in logical replication.
    pub(crate) async fn connect(conninfo: &Conninfo, name: &str) -> Result<Session, Error> {
        let mut session = Session::connect_reading(conninfo, name).await?;
        session.become_replica().await?;
        Ok(session)
    }

    /// Opens one that only reads; the target may be a standby then.
    pub(crate) async fn connect_reading(conninfo: &Conninfo, name: &str) -> Result<Session, Error> {
        let name = format!("walcast {name}");
        let own = [("application_name", name.as_str())];
        let settings: Vec<_> = PINNED_SETTINGS.iter().chain(SETTINGS).chain(&own).copied().collect();
        let wire = Wire::connect(conninfo, &settings).await?;
        Ok(Session { wire, pipeline: Pipeline::default(), whole: None })
    }

    async fn become_replica(&mut self) -> Result<(), Error> {
        let state = "SELECT pg_is_in_recovery(), current_setting('session_replication_role')";
        let rows = self.wire.simple_query(state).await?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at)?.as_deref());
        if field(0) != Some("f") {
            return Err(Error::InRecovery);
        }
        // A role that may not set it can have it by ALTER ROLE.
        if field(1) != Some("replica") {
            self.wire.simple_query("SET session_replication_role = replica").await?;
        }
        Ok(())
    }

    /// The server's version, 150020 for 15.20.
    pub(crate) fn server_version(&self) -> u32 {
        self.wire.server_version()
    }

    /// Runs SQL without parameters and waits. Nothing else may be outstanding.
    pub(crate) async fn simple(&mut self, sql: &str) -> Result<Vec<TextRow>, Error> {
        assert!(self.pipeline.windows() == 0 && !self.is_whole(), "a query among pipelined statements");
        Ok(self.wire.simple_query(sql).await?)
    }

    /// Runs one statement with text parameters and waits. Nothing else may be outstanding.
    pub(crate) async fn query(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<TextRow>, Error> {
        let parameters = parameters.iter().copied().map(Some).collect::<Vec<_>>();
        self.query_optional(sql, &parameters).await
    }

    /// The same with parameters that may be NULL.
    pub(crate) async fn query_optional(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<TextRow>, Error> {
        assert!(self.pipeline.windows() == 0 && !self.is_whole(), "a query among pipelined statements");
        self.send_query(sql, parameters).map_err(|error| Error::Wire(WireError::Encode(error)))?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let message = match self.wire.next_message().await {
                Ok(message) => message,
                Err(error) => return Err(refused.map_or(Error::Wire(error), Error::Refused)),
            };
            match message.tag {
                b'D' => rows.push(text_row(message.body)),
                b'E' => refused = Some(Box::new(ServerError::parse(message.body))),
                b'Z' => return refused.map_or(Ok(rows), |error| Err(Error::Refused(error))),
                b'1' | b'2' | b'C' | b'n' => {}
                _ => return Err(Error::Answer("a message that no query asked for")),
            }
        }
    }

    fn send_query(&mut self, sql: &str, parameters: &[Option<&str>]) -> std::io::Result<()> {
        let out = self.wire.out();
        frontend::parse("", sql, [], out)?;
        let put = |value: &Option<&str>, buffer: &mut BytesMut| {
            buffer.extend_from_slice(value.unwrap_or_default().as_bytes());
            Ok(if value.is_some() { IsNull::No } else { IsNull::Yes })
        };
        frontend::bind("", "", [], parameters, put, [], out).map_err(|error| match error {
            frontend::BindError::Serialization(error) => error,
            frontend::BindError::Conversion(error) => std::io::Error::other(error),
        })?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        Ok(())
    }

    /// Prepares the statements that every batch uses.
    pub(crate) async fn prepare_fixed(&mut self, others: &[Fixed]) -> Result<(), Error> {
        let out = self.wire.out();
        [BEGIN, COMMIT]
            .iter()
            .chain(others)
            .try_for_each(|(name, sql, types)| frontend::parse(name, sql, types.iter().copied(), out))
            .map_err(|error| Error::Wire(WireError::Encode(error)))?;
        self.send_window().await?;
        self.settle().await?;
        self.take_failed().map_or(Ok(()), |_| Err(Error::Answer("BEGIN or COMMIT was not understood")))
    }

    /// Writes BEGIN.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        self.bind(BEGIN.0, &[], &[], Expect::Control)
    }

    /// Begins a transaction without BEGIN and COMMIT: what is written until [`Session::commit_whole`] is one window, and a
    /// window outside of a transaction is one. Until then nothing may be sent, so that there is never half of it to end by a
    /// Sync; what could not be written to its end is dropped by [`Session::give_up`].
    ///
    /// Each of the two statements that this saves costs the target's process about a tenth of a small transaction.
    pub(crate) fn begin_whole(&mut self) {
        self.whole = Some((self.wire.out().len(), self.pipeline.len()));
    }

    /// Nothing may be sent now.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Ends the window that is a transaction; [`Session::send`] sends it.
    pub(crate) fn commit_whole(&mut self) {
        self.whole = None;
        self.end_window(Expect::WindowCommitted);
    }

    /// Drops the beginning of a transaction that was to go out as one window.
    pub(crate) fn give_up(&mut self) {
        if let Some((bytes, answers)) = self.whole.take() {
            self.wire.out().truncate(bytes);
            self.pipeline.truncate(answers);
        }
    }

    /// Ends the window that is being written, if there is one.
    pub(crate) fn end_open_window(&mut self) {
        if self.pipeline.has_open_window() {
            self.end_window(Expect::WindowEnd);
        }
    }

    fn end_window(&mut self, end: Expect) {
        frontend::sync(self.wire.out());
        self.pipeline.expect(end);
    }

    /// Writes COMMIT.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        self.bind(COMMIT.0, &[], &[], Expect::Committed)
    }

    /// Writes a statement without parameters that is used once.
    pub(crate) fn once(&mut self, sql: &str, expect: Expect) -> Result<(), Error> {
        let encode = |error| Error::Wire(WireError::Encode(error));
        frontend::parse("", sql, [], self.wire.out()).map_err(encode)?;
        self.bind("", &[], &[], expect)
    }

    /// Writes Bind and Execute of a prepared statement.
    pub(crate) fn bind(&mut self, name: &str, formats: &[i16], values: &[&[u8]], expect: Expect) -> Result<(), Error> {
        self.write_bind(name, formats, values)?;
        self.pipeline.expect(expect);
        Ok(())
    }

    /// The same, of the statement that takes a worker's turn.
    pub(crate) fn bind_turn(
        &mut self,
        name: &str,
        formats: &[i16],
        values: &[&[u8]],
        next: oneshot::Sender<u64>,
    ) -> Result<(), Error> {
        self.write_bind(name, formats, values)?;
        self.pipeline.expect_turn(next);
        Ok(())
    }

    fn write_bind(&mut self, name: &str, formats: &[i16], values: &[&[u8]]) -> Result<(), Error> {
        let out = self.wire.out();
        let put = |value: &&[u8], buffer: &mut BytesMut| {
            buffer.extend_from_slice(value);
            Ok(IsNull::No)
        };
        let bound = frontend::bind("", name, formats.iter().copied(), values, put, [], out);
        bound.map_err(|_| Error::Answer("a checkpoint that does not fit into a message"))?;
        frontend::execute("", 0, out).map_err(|error| Error::Wire(WireError::Encode(error)))
    }

    /// Where statements are written, and where their answers are announced.
    pub(crate) fn writing(&mut self) -> (&mut BytesMut, &mut Pipeline) {
        (self.wire.out(), &mut self.pipeline)
    }

    /// The window has grown to its size.
    pub(crate) fn is_window_full(&mut self) -> bool {
        self.wire.out().len() >= WINDOW_BYTES
    }

    /// How many transactions were committed since this was last asked for.
    pub(crate) fn take_committed(&mut self) -> usize {
        self.pipeline.take_committed()
    }

    /// Ends the window and sends it; waits only while too many are unanswered. Answers are read meanwhile.
    pub(crate) async fn send_window(&mut self) -> Result<(), Error> {
        if self.is_whole() {
            return Err(Error::Answer("half a transaction, which must not be sent"));
        }
        self.end_window(Expect::WindowEnd);
        self.send().await
    }

    /// Sends the windows that are written; waits only while too many are unanswered. Answers are read meanwhile.
    pub(crate) async fn send(&mut self) -> Result<(), Error> {
        loop {
            self.wire.drive().await?;
            while let Some(message) = self.wire.try_next()? {
                self.pipeline.accept(message)?;
            }
            let sent = self.wire.out().is_empty();
            if sent && self.pipeline.windows() <= WINDOWS_MAX {
                break;
            }
            if sent {
                self.accept_one().await?;
            }
        }
        if failpoint::is_due(Failpoint::AfterNthRow) {
            self.die().await?;
        }
        Ok(())
    }

    /// Sends what is written and waits for all answers.
    ///
    /// # Errors
    /// Only of the session; a failed statement is [`Session::take_failed`].
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.pipeline.has_open_window() {
            self.send_window().await?;
        }
        while self.pipeline.windows() > 0 {
            self.accept_one().await?;
        }
        Ok(())
    }

    /// Waits for the answer to [`Pipeline::expect_turn`], or until something has failed.
    pub(crate) async fn wait_for_turn(&mut self) -> Result<(), Error> {
        while self.pipeline.awaits_turn() && !self.pipeline.has_failed() {
            self.accept_some().await?;
        }
        Ok(())
    }

    /// Waits for answers to what was sent; takes all that have come. Cancel-safe.
    pub(crate) async fn accept_some(&mut self) -> Result<(), Error> {
        if self.pipeline.windows() == 0 {
            return Err(Error::Answer("all answers, and no COMMIT among them"));
        }
        self.accept_one().await?;
        while let Some(message) = self.wire.try_next()? {
            self.pipeline.accept(message)?;
        }
        Ok(())
    }

    async fn accept_one(&mut self) -> Result<(), Error> {
        let message = self.wire.next_message().await?;
        self.pipeline.accept(message)
    }

    /// The first failure, once.
    pub(crate) fn take_failed(&mut self) -> Option<Failed> {
        self.pipeline.take_failed()
    }

    /// Something was committed or failed and was not asked for yet.
    pub(crate) fn has_news(&self) -> bool {
        self.pipeline.has_news()
    }

    /// Something failed, so that the rest need not be sent.
    pub(crate) fn has_failed(&self) -> bool {
        self.pipeline.has_failed()
    }

    /// Forgets all prepared statements.
    pub(crate) async fn deallocate(&mut self) -> Result<(), Error> {
        self.simple("DEALLOCATE ALL").await.map(drop)
    }

    /// Leaves a failed transaction, and forgets all prepared statements. Nothing may be outstanding.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Error> {
        self.simple("ROLLBACK").await?;
        self.pipeline.begin_anew();
        self.deallocate().await
    }

    /// A failpoint: everything written so far reaches the target, then the process ends.
    pub(crate) async fn die(&mut self) -> Result<(), Error> {
        self.wire.flush().await?;
        std::process::abort()
    }

    /// Ends the session in good order.
    pub(crate) async fn close(self) {
        self.wire.close().await;
    }
}

fn text_row(body: &[u8]) -> TextRow {
    data_row(body).map(|field| field.map(|bytes| String::from_utf8_lossy(bytes).into_owned())).collect()
}
