//! Sessions with real servers.

mod pipeline;
mod session;
mod support;
mod tls;
