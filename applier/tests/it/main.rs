//! The applier against real servers, fed from a log with hand-made pgoutput messages.

mod identity;
mod mapping;
mod messages;
mod rig;

