//! Which tables are compared, by which columns, and which of them are the key.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::{Error, Side};
use crate::session::{Session, text};

/// A table by its two names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl TableName {
    /// `"schema"."table"`.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// For people: readable, and in one line whatever the names contain.
impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", shown(&self.schema), shown(&self.table))
    }
}

/// An identifier in double quotes.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A name for people: quoted where it is not plain, in one line.
pub(crate) fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !name.is_empty() && name.chars().all(plain) {
        true => name.to_owned(),
        false => one_line(&quote(name)),
    }
}

/// Control characters in their escaped form, everything else as it is.
pub(crate) fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(visible).collect()
}

/// A table as one side has it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) oid: u32,
    /// Its rows are in partitions, which ONLY would leave out.
    pub(crate) partitioned: bool,
    pub(crate) pages: u64,
    pub(crate) columns: Vec<Column>,
    /// The source's: the columns of replica identity or primary key; empty when there is none.
    pub(crate) key: Vec<String>,
    /// The source's: only these rows are published.
    pub(crate) filter: Option<String>,
    /// The source's: partitioned tables above it.
    pub(crate) ancestors: Vec<(String, String)>,
}

/// A column that the source publishes, or any of the target's.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Computed, never written.
    pub(crate) generated: bool,
    /// GENERATED ALWAYS AS IDENTITY: only DEFAULT can be assigned by UPDATE.
    pub(crate) identity_always: bool,
    /// What finds it by an index: `=`, or an operator of an extension with its schema.
    pub(crate) equals: String,
}

impl Relation {
    pub(crate) fn table(&self) -> TableName {
        TableName { schema: self.schema.clone(), table: self.name.clone() }
    }

    /// `"schema"."table"`, with ONLY unless it is partitioned.
    pub(crate) fn reference(&self) -> String {
        let name = self.table().quoted();
        if self.partitioned { name } else { format!("ONLY {name}") }
    }

    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A table on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) name: TableName,
    pub(crate) source: Relation,
    pub(crate) target: Relation,
    /// What is compared, by name.
    pub(crate) columns: Vec<String>,
    /// Those of them that tell rows apart; empty when only whole rows do.
    pub(crate) key: Vec<String>,
}

impl Pair {
    fn new(source: Relation, target: Relation) -> Pair {
        let common = |name: &String| source.column(name).is_some() && target.column(name).is_some();
        let columns: Vec<String> = source.columns.iter().map(|c| c.name.clone()).filter(common).collect();
        let key = if source.key.iter().all(common) { source.key.clone() } else { Vec::new() };
        Pair { name: source.table(), source, target, columns, key }
    }

    pub(crate) fn relation(&self, side: Side) -> &Relation {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    pub(crate) fn is_keyed(&self) -> bool {
        !self.key.is_empty()
    }
}

/// What is to be compared.
pub(crate) struct Plan {
    pub(crate) pairs: Vec<Pair>,
    /// Published, and not on the target.
    pub(crate) missing: Vec<TableName>,
    /// Being copied again beside the applier.
    pub(crate) in_copy: Vec<TableName>,
    /// Tables whose definitions are compared: the published ones and what they are partitions of.
    pub(crate) defined: Vec<TableName>,
    pub(crate) all_tables: bool,
}

const COLUMN: &str = "\
json_build_object('name', a.attname, 'generated', a.attgenerated <> '', 'identity_always', a.attidentity = 'a', 'equals',
    coalesce((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
        FROM pg_opclass k JOIN pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree'
        JOIN pg_amop s ON s.amopfamily = k.opcfamily AND s.amopstrategy = 3 AND s.amoplefttype = k.opcintype
             AND s.amoprighttype = k.opcintype
        JOIN pg_operator o ON o.oid = s.amopopr
        JOIN pg_namespace n ON n.oid = o.oprnamespace AND n.nspname <> 'pg_catalog'
       WHERE k.opcdefault AND k.opcintype = (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
           FROM pg_type t WHERE t.oid = a.atttypid) LIMIT 1), '='))";

const PAGES: &str = "pg_relation_size(c.oid) / current_setting('block_size')::bigint";

/// The published tables. Before 15 there are neither column lists nor row filters, and the view has no such columns.
fn source_query(major: u32) -> String {
    let (listed, filter) = match major {
        ..15 => ("true", "NULL::text"),
        _ => ("a.attname = ANY (p.attnames)", "p.rowfilter"),
    };
    format!(
        "SELECT json_build_object('schema', n.nspname, 'name', c.relname, 'oid', c.oid::bigint, \
         'partitioned', c.relkind = 'p', 'pages', {PAGES}, 'filter', {filter}, \
         'columns', (SELECT coalesce(json_agg({COLUMN} ORDER BY a.attnum), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid \
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND {listed}), \
         'key', coalesce((SELECT (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
             WITH ORDINALITY k (attnum, place) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum) \
             FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident \
             ELSE i.indisprimary END), '[]'), \
         'ancestors', (SELECT coalesce(json_agg(json_build_array(an.nspname, ac.relname)), '[]') FROM pg_partition_ancestors(c.oid) x \
             JOIN pg_class ac ON ac.oid = x.relid AND ac.oid <> c.oid JOIN pg_namespace an ON an.oid = ac.relnamespace)) \
         FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         WHERE p.pubname = $1 AND n.nspname <> 'walcast' ORDER BY n.nspname, c.relname"
    )
}

/// The same tables on the target, with all their columns.
fn target_query() -> String {
    format!(
        "SELECT json_build_object('schema', n.nspname, 'name', c.relname, 'oid', c.oid::bigint, \
         'partitioned', c.relkind = 'p', 'pages', {PAGES}, 'filter', NULL, 'key', json_build_array(), \
         'ancestors', json_build_array(), \
         'columns', (SELECT coalesce(json_agg({COLUMN} ORDER BY a.attnum), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid \
             AND a.attnum > 0 AND NOT a.attisdropped)) \
         FROM json_to_recordset($1::json) w (schema text, name text) JOIN pg_namespace n ON n.nspname = w.schema \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')"
    )
}

async fn relations(session: &mut Session, sql: &str, parameter: &str) -> Result<Vec<Relation>, Error> {
    let side = session.side();
    let rows = session.query(sql, &[Some(parameter)]).await?;
    let parse = |row| {
        serde_json::from_str(text(row, 0, side)?).map_err(|_| Error::Answer { side, what: "a table's description" })
    };
    rows.iter().map(parse).collect()
}

/// Names as a parameter of type json.
pub(crate) fn names_json<'a>(names: impl Iterator<Item = &'a TableName>) -> String {
    let object = |name: &TableName| serde_json::json!({ "schema": name.schema, "name": name.table });
    serde_json::Value::Array(names.map(object).collect()).to_string()
}

impl Plan {
    /// Asks both sides. `wanted`: one table only, as a person wrote it.
    pub(crate) async fn load(
        source: &mut Session,
        target: &mut Session,
        publication: &str,
        wanted: Option<&str>,
    ) -> Result<Plan, Error> {
        let all_tables = publishes_all(source, publication).await?;
        let mut published = relations(source, &source_query(source.major()), publication).await?;
        if let Some(wanted) = wanted {
            published = only(published, wanted, publication)?;
        }
        let names: Vec<TableName> = published.iter().map(Relation::table).collect();
        let found = relations(target, &target_query(), &names_json(names.iter())).await?;
        let mut found: HashMap<TableName, Relation> = found.into_iter().map(|r| (r.table(), r)).collect();
        let in_copy = in_copy(target, &names).await?;
        let mut plan =
            Plan { pairs: Vec::new(), missing: Vec::new(), in_copy, defined: defined(&published), all_tables };
        for relation in published.into_iter().filter(|r| !plan.in_copy.contains(&r.table())) {
            match found.remove(&relation.table()) {
                Some(target) => plan.pairs.push(Pair::new(relation, target)),
                None => plan.missing.push(relation.table()),
            }
        }
        Ok(plan)
    }
}

async fn publishes_all(source: &mut Session, publication: &str) -> Result<bool, Error> {
    let rows = source.query("SELECT puballtables FROM pg_publication WHERE pubname = $1", &[Some(publication)]).await?;
    let row = rows.first().ok_or_else(|| Error::NoPublication(publication.to_owned()))?;
    Ok(text(row, 0, Side::Source)? == "t")
}

/// The table that a person means: `schema.table` as it is, or with quoted parts.
fn only(published: Vec<Relation>, wanted: &str, publication: &str) -> Result<Vec<Relation>, Error> {
    let some: Vec<String> = published.iter().take(5).map(|r| r.table().to_string()).collect();
    let is_meant = |relation: &Relation| {
        let name = relation.table();
        let plain = format!("{}.{}", name.schema, name.table);
        [plain, name.quoted(), name.to_string()].iter().any(|form| form == wanted)
    };
    let found: Vec<Relation> = published.into_iter().filter(is_meant).take(1).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::NotPublished { publication: publication.to_owned(), table: one_line(wanted), some }),
    }
}

fn defined(published: &[Relation]) -> Vec<TableName> {
    let above = published.iter().flat_map(|r| &r.ancestors);
    let above = above.map(|(schema, table)| TableName { schema: schema.clone(), table: table.clone() });
    let mut names: Vec<TableName> = published.iter().map(Relation::table).chain(above).collect();
    names.sort();
    names.dedup();
    names
}

/// Tables that are being copied again while the applier passes over their changes.
async fn in_copy(target: &mut Session, names: &[TableName]) -> Result<Vec<TableName>, Error> {
    let side = target.side();
    let exists = "SELECT to_regclass('walcast.copied') IS NOT NULL";
    if target.simple(exists).await?.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
        return Ok(Vec::new());
    }
    let rows = target.simple("SELECT schema_name, table_name FROM walcast.copied WHERE start_lsn IS NULL").await?;
    let name = |row| Ok(TableName { schema: text(row, 0, side)?.to_owned(), table: text(row, 1, side)?.to_owned() });
    let listed = rows.iter().map(name).collect::<Result<Vec<_>, Error>>()?;
    Ok(listed.into_iter().filter(|name| names.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x15_a_name_is_shown_in_one_line_and_quoted_whole() {
        let name = TableName { schema: "public".into(), table: "a\"b\n; --".into() };
        assert_eq!(name.quoted(), "\"public\".\"a\"\"b\n; --\"");
        assert_eq!(name.to_string(), "public.\"a\"\"b\\n; --\"");
    }

    fn relation(name: &str, columns: &[&str], key: &[&str]) -> Relation {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            generated: false,
            identity_always: false,
            equals: "=".to_owned(),
        };
        Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
            oid: 1,
            partitioned: false,
            pages: 0,
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            filter: None,
            ancestors: Vec::new(),
        }
    }

    #[test]
    fn columns_go_by_name_and_a_key_that_the_target_lacks_is_none() {
        let pair = Pair::new(relation("t", &["a", "b", "c"], &["a"]), relation("t", &["c", "x", "a"], &[]));
        assert_eq!((pair.columns.as_slice(), pair.key.as_slice()), (&["a".into(), "c".into()][..], &["a".into()][..]));
        let pair = Pair::new(relation("t", &["a", "b"], &["a"]), relation("t", &["b"], &[]));
        assert!(!pair.is_keyed() && pair.columns == ["b"]);
    }

    #[test]
    fn a_table_is_meant_by_its_plain_or_its_quoted_name() {
        let published = || vec![relation("t", &[], &[]), relation("A b", &[], &[])];
        for wanted in ["public.A b", "\"public\".\"A b\"", "public.\"A b\""] {
            assert_eq!(only(published(), wanted, "p").unwrap()[0].name, "A b", "{wanted}");
        }
        let error = only(published(), "public.x\ny", "p").unwrap_err();
        assert_eq!(error.to_string(), "publication \"p\" has no table public.x\\ny");
        assert_eq!(error.hint().unwrap(), "it publishes public.t, public.\"A b\"");
    }
}
