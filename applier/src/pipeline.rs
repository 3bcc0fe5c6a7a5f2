//! What the target still has to answer, in the order in which it was asked.
//!
//! Statements travel in *windows*, each ended by a Sync. The target skips the rest of a window after an error, and
//! refuses those after it because the transaction has failed; only the first error counts. A batch that is one window needs
//! neither BEGIN nor COMMIT: outside of a transaction a window is one. A batch can be sent while the one before it is not
//! answered: after one that failed, its BEGIN is refused in the failed transaction, or its checkpoint does not find the
//! position that it names (`checkpoint.rs`).

use std::collections::VecDeque;

use connection::{Backend, ServerError, command_tag_rows, data_row};
use tokio::sync::oneshot;

use crate::error::Error;

/// Transactions of a batch, by their place in it, that a statement carries changes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Transactions {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// The answer to one statement, or the end of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Success.
    Done(Transactions),
    /// Success, and exactly one row.
    OneRow(Transactions),
    /// Success, and exactly so many rows.
    Rows(u64, Transactions),
    /// Success of a statement that carries no change.
    Control,
    /// The same, of the one that moves the checkpoint.
    Advance,
    /// The same, of the one that takes a worker's turn: a row whose last field is the transaction's id.
    Turn,
    /// The same, of COMMIT: the last one of its window.
    Committed,
    /// ReadyForQuery.
    WindowEnd,
    /// The same, of a window that is a transaction by itself: if nothing failed, that is committed.
    WindowCommitted,
}

impl Expect {
    fn ends_window(self) -> bool {
        matches!(self, Expect::WindowEnd | Expect::WindowCommitted)
    }
}

/// Why a batch failed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The target refused a statement.
    Refused(Box<ServerError>),
    /// A statement hit this many rows instead of the one (or the set of several) that it should.
    Rows(u64),
}

/// The first failure of a batch.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What.
    pub(crate) problem: Problem,
    /// Which transactions the statement was for; `None` for BEGIN, checkpoint and COMMIT.
    pub(crate) transactions: Option<Transactions>,
    /// It was the one that moves the checkpoint.
    pub(crate) is_advance: bool,
}

/// Outstanding answers.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    waiting: VecDeque<Expect>,
    windows: usize,
    failed: Option<Failed>,
    has_failed: bool,
    /// In the window that is being answered.
    commits: usize,
    committed: usize,
    /// Whoever waits to hear which transaction has taken a worker's turn.
    turn: Option<oneshot::Sender<u64>>,
}

impl Pipeline {
    /// A statement was written.
    pub(crate) fn expect(&mut self, expect: Expect) {
        self.windows += usize::from(expect.ends_window());
        self.waiting.push_back(expect);
    }

    /// How many answers are waited for.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Waits for the first so many of them only: what the others were to answer was never sent.
    pub(crate) fn truncate(&mut self, len: usize) {
        debug_assert!(self.waiting.iter().skip(len).all(|expect| !expect.ends_window()), "a window that was not sent");
        self.waiting.truncate(len);
    }

    /// Windows whose end was not seen yet.
    pub(crate) fn windows(&self) -> usize {
        self.windows
    }

    /// Statements are written that no Sync follows yet.
    pub(crate) fn has_open_window(&self) -> bool {
        self.waiting.back().is_some_and(|last| !last.ends_window())
    }

    /// The first failure, taken out. What fails after it does so because of it, until [`Pipeline::begin_anew`].
    pub(crate) fn take_failed(&mut self) -> Option<Failed> {
        self.failed.take()
    }

    /// Something failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// There is something to take.
    pub(crate) fn has_news(&self) -> bool {
        self.committed > 0 || self.failed.is_some()
    }

    /// The failed transaction was left.
    pub(crate) fn begin_anew(&mut self) {
        (self.failed, self.has_failed, self.turn) = (None, false, None);
    }

    /// How many transactions were committed since this was last asked for.
    pub(crate) fn take_committed(&mut self) -> usize {
        std::mem::take(&mut self.committed)
    }

    /// The statement that takes a worker's turn was written. `next` hears which transaction it is as soon as the answer is
    /// read, whatever waits for answers then; nothing, if it fails.
    pub(crate) fn expect_turn(&mut self, next: oneshot::Sender<u64>) {
        self.turn = Some(next);
        self.expect(Expect::Turn);
    }

    /// The turn is not answered yet.
    pub(crate) fn awaits_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Takes one message of the target.
    pub(crate) fn accept(&mut self, message: Backend<'_>) -> Result<(), Error> {
        match message.tag {
            b'C' | b'I' => self.complete(message.body)?,
            b'E' => self.refuse(message.body)?,
            b'Z' => self.end_window()?,
            b'D' if self.waiting.front() == Some(&Expect::Turn) => self.hear_turn(message.body)?,
            b'1' | b'2' | b'3' | b'n' | b't' | b'T' | b'D' | b'G' => {}
            _ => return Err(Error::Answer("a message that no statement asked for")),
        }
        Ok(())
    }

    fn hear_turn(&mut self, row: &[u8]) -> Result<(), Error> {
        let xid = last_number(row).ok_or(Error::Answer("a turn without a transaction"))?;
        // Who would hear of it may have given up.
        self.turn.take().map(|next| next.send(xid).ok());
        Ok(())
    }

    fn complete(&mut self, tag: &[u8]) -> Result<(), Error> {
        match self.waiting.pop_front() {
            Some(Expect::OneRow(transactions)) => self.check_rows(tag, 1, transactions),
            Some(Expect::Rows(expected, transactions)) => self.check_rows(tag, expected, transactions),
            Some(Expect::Done(_) | Expect::Control | Expect::Advance | Expect::Turn) => {}
            // Of a transaction that has failed it is a ROLLBACK.
            Some(Expect::Committed) if tag == b"COMMIT\0" => self.commits += 1,
            Some(Expect::Committed) => return Err(Error::Answer("a transaction was not committed")),
            _ => return Err(Error::Answer("more statements were completed than sent")),
        }
        Ok(())
    }

    fn check_rows(&mut self, tag: &[u8], expected: u64, transactions: Transactions) {
        let rows = command_tag_rows(tag);
        if rows != expected {
            self.fail(Failed { problem: Problem::Rows(rows), transactions: Some(transactions), is_advance: false });
        }
    }

    fn refuse(&mut self, body: &[u8]) -> Result<(), Error> {
        let error = Box::new(ServerError::parse(body));
        if error.severity != "ERROR" && !self.has_failed() {
            return Err(Error::Refused(error)); // the session is over
        }
        let at = self.waiting.front();
        let transactions = match at {
            Some(Expect::Done(transactions) | Expect::OneRow(transactions) | Expect::Rows(_, transactions)) => {
                Some(*transactions)
            }
            _ => None,
        };
        let is_advance = at == Some(&Expect::Advance);
        self.fail(Failed { problem: Problem::Refused(error), transactions, is_advance });
        Ok(())
    }

    fn fail(&mut self, failed: Failed) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.failed = Some(failed);
        }
    }

    /// What an error skipped is never answered.
    fn end_window(&mut self) -> Result<(), Error> {
        let skipped = self.waiting.iter().enumerate().find(|(_, expect)| expect.ends_window());
        let (at, end) = skipped.ok_or(Error::Answer("ready for a query without Sync"))?;
        self.commits += usize::from(*end == Expect::WindowCommitted && !self.has_failed());
        if at > 0 && !self.has_failed() {
            return Err(Error::Answer("a statement was not answered"));
        }
        self.waiting.drain(..=at);
        self.windows -= 1;
        // Only now: who is told of the last one must find nothing outstanding.
        self.committed += std::mem::take(&mut self.commits);
        Ok(())
    }
}

/// The last field of a row, where that is a number.
fn last_number(row: &[u8]) -> Option<u64> {
    std::str::from_utf8(data_row(row).last()??).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stream may be cut anywhere.
    #[test]
    fn a_commit_counts_once_nothing_of_its_window_is_outstanding() {
        let mut pipeline = Pipeline::default();
        pipeline.expect(Expect::Advance);
        pipeline.expect(Expect::Committed);
        pipeline.expect(Expect::WindowEnd);
        let complete = |tag| Backend { tag: b'C', body: tag };
        pipeline.accept(complete(b"SELECT 1\0")).unwrap();
        pipeline.accept(complete(b"COMMIT\0")).unwrap();
        assert_eq!((pipeline.take_committed(), pipeline.windows()), (0, 1));
        pipeline.accept(Backend { tag: b'Z', body: b"I" }).unwrap();
        assert_eq!((pipeline.take_committed(), pipeline.windows()), (1, 0));
    }

    #[test]
    fn a_window_that_is_a_transaction_is_committed_unless_something_in_it_failed() {
        let ready = Backend { tag: b'Z', body: b"I" };
        for (answer, committed) in [(b'C', 1), (b'E', 0)] {
            let mut pipeline = Pipeline::default();
            pipeline.expect(Expect::Advance);
            pipeline.expect(Expect::WindowCommitted);
            pipeline.expect(Expect::Advance);
            pipeline.expect(Expect::WindowCommitted);
            let body: &[u8] = if answer == b'C' { b"SELECT 1\0" } else { b"SERROR\0VERROR\0C23505\0Mno\0\0" };
            pipeline.accept(Backend { tag: answer, body }).unwrap();
            assert_eq!(pipeline.take_committed(), 0);
            pipeline.accept(ready).unwrap();
            assert_eq!((pipeline.take_committed(), pipeline.windows()), (committed, 1));
        }
    }

    #[test]
    fn what_ends_a_failed_transaction_is_no_commit() {
        let mut pipeline = Pipeline::default();
        pipeline.expect(Expect::Committed);
        assert!(pipeline.accept(Backend { tag: b'C', body: b"ROLLBACK\0" }).is_err());
        assert_eq!(pipeline.take_committed(), 0);
    }
}
