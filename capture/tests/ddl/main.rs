//! The capture of DDL on real servers: what is done to the source, and the messages that it leaves in the stream.

mod cases;
mod fixes;
mod source;
mod states;
