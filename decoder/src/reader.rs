//! A cursor over untrusted bytes: every read is checked.
