//! Connections to PostgreSQL: conninfo as in libpq, TLS, and a raw protocol session.
//!
//! ```text
//! text ─▶ Conninfo ─▶ settings ──▶ connect: hosts, addresses, sslmode ──▶ socket ──┬─▶ Wire (messages in place)
//!          parsed     + service file                   │                           │     └─▶ ReadHalf, WriteHalf
//!          once       + PG* variables                  └─ tls, verifier            └─▶ connect_client: tokio-postgres
//!                     + password file, at each connect
//! ```
//!
//! One reconnect, of a service whose role's password changes while it runs:
//!
//! | time | what happens |
//! | --- | --- |
//! | 0 s | [`Conninfo::parse`] reads `postgresql://walcast@a,b/app?sslmode=verify-full`; nothing else is looked at |
//! | 1 s | [`Wire::connect`]: the password comes from `~/.pgpass`; host a answers, its certificate names it, SCRAM is bound to it |
//! | 60 s | host a goes down: [`WireError::Closed`], which is [`Class::Transient`] |
//! | 61 s | [`Wire::connect`] with the same [`Conninfo`]: a refuses, so b is tried; the password file is read anew |
//!
//! Where it differs from libpq: a wrong password under TLS is not tried again without TLS (`sslmode=prefer`), a
//! `sslrootcert` or `sslcert` that is given and missing is an error, and what is not supported (GSSAPI, encrypted keys,
//! `require_auth`, `sslnegotiation=direct`, `load_balance_hosts=random`) is an error instead of being passed over.
//!
//! Errors are one line, where and as whom; the cause is their `source`, and no message holds a password.
//!
//! Not here: what is asked of a server, when to try again, and pools of sessions.

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
