//! What the applier must know of a target's table, and the two queries that ask for it.
//!
//! Loaded when the first change of a relation arrives, inside the open target transaction, and kept until the source
//! announces the relation anew or a statement fails: someone may have altered the table behind our back, and then the
//! batch is tried again with fresh knowledge before anything is called an error. What makes no statement fail, a trigger
//! for instance, is noticed by the tables' stamps, looked at now and then.

use decoder::TypeOid;

use crate::error::Error;
use crate::name::TableName;
use crate::owner::Owner;

/// A column of a target's table, by its place in [`Table::columns`]. Not a [`SourceColumn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TargetColumn(pub(crate) u16);

/// A column of a source's relation, by its place in the Relation message and in tuples. Not a [`TargetColumn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SourceColumn(pub(crate) u16);

/// A table on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: TableName,
    /// Its OID.
    pub(crate) oid: String,
    /// Changes when the table is altered: see [`STAMPS_QUERY`].
    pub(crate) stamp: String,
    /// It has partitions, which ONLY would leave out.
    pub(crate) partitioned: bool,
    /// It (or a partition) has row triggers that fire before UPDATE or DELETE in a replica session. They may turn a
    /// change into none, so the rows *found* are counted instead of the rows changed.
    pub(crate) filtered: bool,
    /// It (or a partition) has triggers of any kind that fire in a replica session, or rules that act there, so that a
    /// change of it may read or change other tables.
    pub(crate) triggers: bool,
    /// Sets of changes may be applied in another order than the source's: an ordinary table without such triggers,
    /// rules or exclusion constraints, with just one unique index, whole and of plain columns ([`Column::unique`]).
    pub(crate) sets: bool,
    /// Its columns; generated ones included.
    pub(crate) columns: Vec<Column>,
    /// Who has to write it instead of the login.
    pub(crate) owner: Option<Owner>,
}

/// A column on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its type (the domain, not its base type, unless that is an enum).
    pub(crate) type_oid: TypeOid,
    /// Its type without a modifier, as SQL; of a domain its base type, because a cast to the domain would cut off what
    /// an assignment refuses.
    pub(crate) bare_type: String,
    /// Its type with its modifier, as SQL.
    pub(crate) full_type: String,
    /// Its type has a modifier, which a parameter does not, and assignment rounds to it. (It refuses what is longer than
    /// a string's length, so no such value is in the column.)
    pub(crate) modified: bool,
    /// GENERATED ALWAYS AS (expression): computed here, never written.
    pub(crate) generated: bool,
    /// GENERATED ALWAYS AS IDENTITY.
    pub(crate) identity_always: bool,
    /// What stands between column and value: `=`, or an operator of an extension with its schema (the session's
    /// search_path is empty), or `=` after a cast of the column.
    pub(crate) equals: String,
    /// Two values that are `=` also have the same text form.
    pub(crate) strict: bool,
    /// A key column of a btree or hash index that is neither partial nor on an expression.
    pub(crate) indexed: bool,
    /// A cast from text reads what the type's input function reads: true but for regclass, and for types with a cast
    /// function of a user.
    pub(crate) castable: bool,
    /// Its array type; `None` for arrays and domains.
    pub(crate) array_oid: Option<TypeOid>,
    /// A key column of a unique index.
    pub(crate) unique: bool,
}

impl Table {
    /// The column of that name.
    pub(crate) fn column_named(&self, name: &str) -> Option<TargetColumn> {
        let at = self.columns.iter().position(|column| column.name == name)?;
        u16::try_from(at).ok().map(TargetColumn)
    }

    /// `"schema"."table"`, with ONLY unless it is partitioned.
    pub(crate) fn reference(&self) -> String {
        if self.partitioned { self.name.quoted() } else { format!("ONLY {}", self.name.quoted()) }
    }
}

/// A digest of what [`TABLE_QUERY`] and [`COLUMNS_QUERY`] look at, of table `c`. VACUUM and ANALYZE leave it as it is. Of
/// partitions, nothing is in it.
macro_rules! stamp {
    () => {
        "pg_catalog.md5(pg_catalog.concat_ws(' ', c.oid, c.xmin, pg_catalog.row_security_active(c.oid),
            (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', t.oid, t.xmin), ',' ORDER BY t.oid)
               FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid),
            (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', i.indexrelid, i.xmin), ',' ORDER BY i.indexrelid)
               FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid),
            (SELECT pg_catalog.string_agg(a.xmin::pg_catalog.text, ',' ORDER BY a.attnum)
               FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)))"
    };
}

/// Parameter: OIDs of tables. Columns: OID, stamp.
pub(crate) const STAMPS_QUERY: &str =
    concat!("SELECT c.oid, ", stamp!(), " FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1::pg_catalog.oid[])");

/// Parameters: schema, table. Columns: oid, kind, row security applies, replica row triggers before UPDATE or DELETE, any
/// replica triggers, fit for sets, stamp.
pub(crate) const TABLE_QUERY: &str = concat!(
    "\
SELECT c.oid, c.relkind, pg_catalog.row_security_active(c.oid), EXISTS (
    SELECT FROM pg_catalog.pg_trigger t
     WHERE (t.tgrelid = c.oid OR c.relkind = 'p' AND t.tgrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))
       AND (NOT t.tgisinternal OR t.tgparentid <> 0) AND t.tgenabled IN ('R', 'A') AND t.tgtype & 3 = 3 AND t.tgtype & 24 <> 0),
       EXISTS (SELECT FROM pg_catalog.pg_trigger t
     WHERE (t.tgrelid = c.oid OR c.relkind = 'p' AND t.tgrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))
       AND t.tgenabled IN ('R', 'A'))
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1' AND r.ev_enabled IN ('R', 'A')),
       c.relkind = 'r' AND NOT c.relhasrules AND coalesce((SELECT pg_catalog.count(*) FILTER (WHERE i.indisunique) = 1
            AND NOT pg_catalog.bool_or(i.indisexclusion OR i.indisunique AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL))
         FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid), false), ",
    stamp!(),
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1 AND c.relname = $2"
);

/// Parameter: the table's OID. Columns: the fields of [`Column`] in their order.
///
/// The strict types are those whose `=` holds exactly when the output is the same (numeric, float, interval, jsonb,
/// timetz and all containers are not among them; bpchar is where all values are padded alike), text-like ones only with
/// a deterministic collation.
///
/// Domains over enums have no `=` (other domains take their base type's): values are of the enum, and so is the column
/// once it is cast. Assignment makes the domain of it again, with its checks.
pub(crate) const COLUMNS_QUERY: &str = "\
WITH RECURSIVE base (attnum, type) AS (
    SELECT attnum, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::pg_catalog.oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT b.attnum, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT a.attname, w.type, pg_catalog.format_type(t.oid, -1), pg_catalog.format_type(w.type, a.atttypmod),
       a.atttypmod >= 0 AND t.oid NOT IN (1042, 1043, 1560, 1562),
       a.attgenerated <> '', a.attidentity = 'a',
       coalesce((SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)
           FROM pg_catalog.pg_opclass c
           JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
           JOIN pg_catalog.pg_amop s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3
                AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
           JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
           JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace AND n.nspname <> 'pg_catalog'
          WHERE c.opcdefault AND c.opcintype = t.oid LIMIT 1), w.casting || '='),
       (t.typtype = 'e' OR t.oid IN (16, 17, 18, 19, 20, 21, 23, 25, 26, 28, 650, 774, 790, 829, 869, 1043, 1082, 1083,
            1114, 1184, 1560, 1562, 2950, 3220, 5069) OR t.oid = 1042 AND a.atttypmod >= 0)
         AND coalesce((SELECT l.collisdeterministic FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation), true),
       EXISTS (SELECT FROM pg_catalog.pg_index i
           JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
           JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname IN ('btree', 'hash')
          WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])),
       t.oid <> 2205 AND (t.oid < 16384 OR NOT EXISTS (SELECT FROM pg_catalog.pg_cast k
          WHERE k.castsource = 'pg_catalog.text'::pg_catalog.regtype AND k.casttarget = t.oid AND k.castmethod = 'f')),
       CASE WHEN t.oid = a.atttypid AND t.typcategory <> 'A' THEN t.typarray ELSE 0 END,
       EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique
            AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]))
  FROM pg_catalog.pg_attribute a
  JOIN base b ON b.attnum = a.attnum
  JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
 CROSS JOIN LATERAL (SELECT CASE t.typtype WHEN 'e' THEN t.oid ELSE a.atttypid END,
            CASE WHEN t.typtype = 'e' AND t.oid <> a.atttypid THEN '::' || pg_catalog.format_type(t.oid, -1) || ' ' ELSE '' END
       ) AS w (type, casting)
 WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum";

/// A row of a query's result in text form.
pub(crate) type Row = Vec<Option<String>>;

/// What [`TABLE_QUERY`] said.
#[derive(Debug)]
pub(crate) struct TableRow {
    /// For [`COLUMNS_QUERY`].
    pub(crate) oid: String,
    partitioned: bool,
    filtered: bool,
    triggers: bool,
    sets: bool,
    stamp: String,
}

impl TableRow {
    /// Reads the answer to [`TABLE_QUERY`].
    pub(crate) fn read(name: &TableName, rows: &[Row]) -> Result<TableRow, Error> {
        let row = rows.first().ok_or_else(|| Error::MissingTable { table: name.to_string() })?;
        let partitioned = match text(row, 1)? {
            "r" => false,
            "p" => true,
            _ => return Err(Error::NotATable { table: name.to_string() }),
        };
        if flag(row, 2)? {
            return Err(Error::RowSecurity { table: name.to_string() });
        }
        let (filtered, triggers, sets) = (flag(row, 3)?, flag(row, 4)?, flag(row, 5)?);
        let (oid, stamp) = (text(row, 0)?.to_owned(), text(row, 6)?.to_owned());
        Ok(TableRow { oid, partitioned, filtered, triggers, sets, stamp })
    }

    /// Completes it by the answer to [`COLUMNS_QUERY`].
    pub(crate) fn with_columns(self, name: &TableName, rows: &[Row]) -> Result<Table, Error> {
        let columns = rows.iter().map(read_column).collect::<Result<Vec<_>, _>>()?;
        let TableRow { oid, partitioned, filtered, triggers, sets, stamp } = self;
        Ok(Table { name: name.clone(), oid, stamp, partitioned, filtered, triggers, sets, columns, owner: None })
    }
}

fn type_oid(row: &Row, at: usize) -> Result<TypeOid, Error> {
    text(row, at)?.parse().map(TypeOid).map_err(|_| Error::Answer("a type's OID is not a number"))
}

fn read_column(row: &Row) -> Result<Column, Error> {
    Ok(Column {
        name: text(row, 0)?.to_owned(),
        type_oid: type_oid(row, 1)?,
        bare_type: text(row, 2)?.to_owned(),
        full_type: text(row, 3)?.to_owned(),
        modified: flag(row, 4)?,
        generated: flag(row, 5)?,
        identity_always: flag(row, 6)?,
        equals: text(row, 7)?.to_owned(),
        strict: flag(row, 8)?,
        indexed: flag(row, 9)?,
        castable: flag(row, 10)?,
        array_oid: Some(type_oid(row, 11)?).filter(|oid| oid.0 != 0),
        unique: flag(row, 12)?,
    })
}

/// The field, which may not be NULL.
pub(crate) fn text(row: &Row, at: usize) -> Result<&str, Error> {
    row.get(at).and_then(|field| field.as_deref()).ok_or(Error::Answer("a field is missing or NULL"))
}

/// The boolean field.
pub(crate) fn flag(row: &Row, at: usize) -> Result<bool, Error> {
    text(row, at).map(|field| field == "t")
}
