//! The applier against real servers, fed from a log with hand-made pgoutput messages.

mod checkpoint;
mod copied;
mod ddl;
mod failing;
mod history;
mod identity;
mod mapping;
mod measure;
mod messages;
mod netting;
mod owners;
mod parallel;
mod rig;
mod source;
mod stale;
mod volume;
