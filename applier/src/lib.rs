//! From the segment log to one target, transaction by transaction.
