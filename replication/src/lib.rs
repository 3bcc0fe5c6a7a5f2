//! From the walsender's socket to the segment log: stream, transaction assembly, acknowledgement.
