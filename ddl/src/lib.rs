//! Makes a target's schema, roles and privileges what the source's messages say.
//!
//! ```text
//!  message ─▶ Message ─▶ change by change:  locate + describe on the target ─▶ plan ─▶ statements
//!             (state before, state after)    (the functions that the source has)        in the caller's transaction
//! ```
//!
//! Messages carry catalog state (`capture/sql/README.md`), never text of a client. [`apply`] asks the target for its own
//! state of the same object, and runs only what leads from there to the wanted one: what is as wanted already costs no
//! statement, a message that comes twice does nothing the second time, and what only the target has (a column, an index
//! that neither `before` nor `after` knows) stays.
//!
//! # A timeline
//!
//! The source ran `ALTER TABLE t RENAME a TO b`. The message has `t` with column 1 called `a` before, and `b` after. The
//! target's `t` has `a`, and a local column `note`. The plan is `ALTER TABLE "public"."t" RENAME COLUMN "a" TO "b"`:
//! columns are paired by name with `before`, and by number from `before` to `after`.
//!
//! # Not here
//!
//! No connection and no retry: a [`Session`] runs statements in a transaction that is the caller's, before and after it
//! come the rows of the stream. What happens to a table whose rows the stream lacks ([`Outcome::recopy`]) is the caller's
//! to do, and to wait for locks as well (`lock_timeout`).

mod apply;
mod attempt;
mod converge;
mod error;
mod kinds;
mod known;
mod message;
mod names;
mod opaque;
mod options;
mod order;
mod outcome;
mod pending;
mod privileges;
mod quote;
mod roles;
mod sequence;
mod session;
mod state;
mod statement;
mod table;
mod turn;
mod types;
mod values;
mod version;
mod view;

pub use apply::{apply, retry};
pub use error::{Failure, ParseError};
pub use message::{Change, Message, SequenceValue};
pub use options::{Options, Rights, RoleOptions, Selected, Token};
pub use outcome::{Done, Outcome, Skipped, Table, Verb};
pub use pending::LACKING;
pub use privileges::{WAITING, Waiting, waiting};
pub use session::{Row, Session};
pub use state::{Acl, Column, Constraint, Grant, Index, Membership, OwnedBy, RowSecurity, Setting, State};
