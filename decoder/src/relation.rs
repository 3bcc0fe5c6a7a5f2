//! What a Relation message says of a table.

use crate::lsn::{RelationId, TypeOid};

/// Which old values the source sends for UPDATE and DELETE (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// `d`: the primary key.
    Default,
    /// `n`: nothing; such a table can only be inserted into and truncated.
    Nothing,
    /// `f`: the whole old row.
    Full,
    /// `i`: a chosen unique index.
    Index,
}

/// One column as the source publishes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Part of the replica identity.
    pub is_key: bool,
    /// Its name, unquoted.
    pub name: String,
    /// The source's OID of its type.
    pub type_oid: TypeOid,
    /// `atttypmod`; -1 for none.
    pub type_modifier: i32,
}

/// A table as the source publishes it: the columns of its row messages, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The number that row messages refer to.
    pub id: RelationId,
    /// Schema, unquoted; the wire's empty string (pg_catalog) is already spelt out.
    pub namespace: String,
    /// Table, unquoted.
    pub name: String,
    /// Which old values arrive.
    pub replica_identity: ReplicaIdentity,
    /// The published columns in wire order.
    pub columns: Vec<Column>,
}
