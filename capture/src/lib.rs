//! What walcast installs on the source, and what has to be true there and on the targets.
//!
//! ```text
//! setup:      schema walcast ─▶ publication ─▶ capture ─▶ slot      in this order: a slot decodes with the catalog as it
//! teardown:   slot ─▶ capture ─▶ publication ─▶ schema              was, so the publication has to be older than the slot
//! preflight:  reads only; one finding per requirement
//! ```
//!
//! All of it is SQL over an ordinary connection. Every identifier is quoted, every value is a parameter where PostgreSQL
//! takes one and a quoted literal where it does not (utility commands).
//!
//! The capture of DDL, roles and grants is [`ddl`]: event triggers and a ticker in schema `walcast`, which write
//! transactional logical messages. [`tick`] is one look of the ticker.
//!
//! Non-goals: streaming (`replication`), what is selected (`config::Selection` decides).

use config::Selection;

pub mod ddl;
mod error;
pub mod preflight;
mod quote;
mod setup;
mod source;
pub mod target;
mod teardown;
mod tick;

pub use error::{Error, one_line};
pub use quote::{quote_identifier, quote_literal, shown_table};
pub use setup::{pending_sql, setup};
pub use source::{PublishedTable, Slot, current_lsn, oldest_writer, passable_lsn, published_tables, slot};
pub use teardown::teardown;
pub use tick::{Tick, tick};

/// What is to be installed on the source.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Name of the slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// Which tables are published.
    pub selection: Selection,
    /// Whether role passwords, and secret options of foreign data objects, are captured.
    pub passwords: bool,
}

/// One thing that [`setup`] or [`teardown`] dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The thing, such as `slot "walcast"`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was made or changed.
    Done,
    /// It was as wanted already.
    Unchanged,
    /// It was left alone, for this reason.
    Kept(&'static str),
}
