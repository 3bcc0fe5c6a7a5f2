//! Roles, owners and privileges of a real source on a real target: two clusters, because roles are a cluster's.
//!
//! Everything runs twice for each version that `WALCAST_TEST_PG` names: with a login that is a superuser, and with one that
//! has what `capture::target::setup_sql` gives it.

mod across;
mod attacks;
mod grants;
mod pending;
mod role;
mod servers;
#[path = "../shared/session.rs"]
mod session;
