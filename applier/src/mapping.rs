//! A source's relation beside the target's table of the same name: columns by name.

use decoder::{Relation, ReplicaIdentity};

use crate::catalog::{Column, SourceColumn, Table, TargetColumn};
use crate::error::Error;
use crate::name::TableName;

/// Which column of the target each published column goes to. Extra columns of the target stay local.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The source's side.
    pub(crate) relation: Relation,
    /// The target's side.
    pub(crate) table: Table,
    /// Changes may be netted by key and applied as sets.
    pub(crate) sets: bool,
    targets: Vec<TargetColumn>,
}

/// The name under which a relation is looked for on the target.
pub(crate) fn table_name(relation: &Relation) -> TableName {
    TableName { schema: relation.namespace.clone(), table: relation.name.clone() }
}

impl Mapping {
    /// Pairs the columns.
    ///
    /// # Errors
    /// A published column that the target lacks.
    pub(crate) fn new(relation: Relation, table: Table) -> Result<Mapping, Error> {
        let missing = |name: &str| Error::MissingColumn { table: table.name.to_string(), column: name.to_owned() };
        let find = |column: &decoder::Column| table.column_named(&column.name).ok_or_else(|| missing(&column.name));
        let targets = relation.columns.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let mut mapping = Mapping { relation, table, sets: false, targets };
        mapping.sets = mapping.fits_sets();
        Ok(mapping)
    }

    /// The source's key is the target's unique key, and nothing must be written that SQL lets be written only by a
    /// form of the ordered tier.
    fn fits_sets(&self) -> bool {
        let by_key = matches!(self.relation.replica_identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        let fits = |column: SourceColumn| {
            let (source, target) = (self.source(column), self.target(column));
            source.is_key == target.unique && (source.is_key || !target.identity_always)
        };
        let keys = self.relation.columns.iter().filter(|column| column.is_key).count();
        let unique = self.table.columns.iter().filter(|column| column.unique).count();
        by_key && self.table.sets && !self.table.triggers && keys > 0 && keys == unique && self.columns().all(fits)
    }

    /// All published columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = SourceColumn> + use<> {
        (0..u16::try_from(self.targets.len()).unwrap_or(u16::MAX)).map(SourceColumn)
    }

    /// The source's description of a column.
    ///
    /// # Panics
    /// If the column is not one of this mapping's.
    pub(crate) fn source(&self, column: SourceColumn) -> &decoder::Column {
        &self.relation.columns[usize::from(column.0)]
    }

    /// The target's description of the column that it goes to.
    ///
    /// # Panics
    /// If the column is not one of this mapping's.
    pub(crate) fn target(&self, column: SourceColumn) -> &Column {
        let TargetColumn(at) = self.targets[usize::from(column.0)];
        &self.table.columns[usize::from(at)]
    }

    /// The published column that goes to the target's column at `at`, if one does.
    pub(crate) fn source_of(&self, at: TargetColumn) -> Option<SourceColumn> {
        let index = self.targets.iter().position(|target| *target == at)?;
        u16::try_from(index).ok().map(SourceColumn)
    }
}
