//! walcast: feeds many PostgreSQL databases from one logical replication slot.

fn main() {}
