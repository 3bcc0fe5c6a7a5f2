//! The applier against real servers, fed from a log with hand-made pgoutput messages.

mod checkpoint;
mod failing;
mod identity;
mod mapping;
mod measure;
mod messages;
mod rig;
mod volume;
