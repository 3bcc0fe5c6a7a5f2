//! Messages of a real source, applied to a real target: afterwards `pg_dump -s` says the same of both.
//!
//! Both are databases of one cluster, which is made for each version that `WALCAST_TEST_PG` names.

mod blind;
mod corpus;
mod coverage;
mod dump;
mod forms;
mod local;
mod looks;
mod pair;
mod partial;
mod random;
mod rows;
#[path = "../shared/session.rs"]
mod session;
mod skipped;
mod table_driven;
mod versions;
