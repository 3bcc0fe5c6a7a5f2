//! Connections to PostgreSQL: conninfo as in libpq, TLS, and a raw protocol session.

mod certificate;
mod client;
mod connect;
mod conninfo;
mod environment;
mod error;
mod halves;
mod keyvalue;
mod keyword;
mod message;
mod passfile;
mod server_error;
mod service;
mod settings;
mod startup;
mod stream;
mod tls;
mod uri;
mod verifier;
mod wire;

pub use client::connect_client;
pub use conninfo::{Conninfo, ConninfoError};
pub use error::{Class, ConnectError, Endpoint, WireError};
pub use halves::{ReadHalf, WriteHalf};
pub use message::{Backend, BadLength, LENGTH_MAX, command_tag_rows, data_row, first_message_len};
pub use server_error::ServerError;
pub use wire::{TextRow, Wire};

/// What every session to a source or a target is set to, so that values mean the same whatever the server's, the
/// database's or the role's own settings are. They are startup parameters; a walsender takes them too.
pub const PINNED_SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("client_encoding", "UTF8"),
    ("search_path", ""),
    ("standard_conforming_strings", "on"),
    // An error instead of rows that a policy hides.
    ("row_security", "off"),
];
