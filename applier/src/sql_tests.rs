//! The statements' texts.

use decoder::{Relation, RelationId, ReplicaIdentity};

use super::*;
use crate::catalog::Table;
use crate::name::TableName;

const INT4: TypeOid = TypeOid(23);
const TEXT: TypeOid = TypeOid(25);

fn column(name: &str, type_oid: TypeOid, type_name: &str) -> Column {
    Column {
        name: name.into(),
        type_oid,
        bare_type: type_name.into(),
        full_type: type_name.into(),
        modified: false,
        generated: false,
        identity_always: false,
        equals: "=".into(),
        strict: true,
        indexed: false,
        castable: true,
        array_oid: None,
        unique: false,
    }
}

/// Source: id int4 (key), v text. Target: extra bool, v text, id int4.
fn mapping(change: impl FnOnce(&mut Relation, &mut Table)) -> Mapping {
    let source =
        |name: &str, is_key, type_oid| decoder::Column { is_key, name: name.into(), type_oid, type_modifier: -1 };
    let mut relation = Relation {
        id: RelationId(1),
        namespace: "s".into(),
        name: "t".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![source("id", true, INT4), source("v", false, TEXT)],
    };
    let mut table = Table {
        name: TableName { schema: "s".into(), table: "t".into() },
        oid: "1".into(),
        stamp: String::new(),
        partitioned: false,
        filtered: false,
        triggers: false,
        sets: false,
        columns: vec![
            column("extra", TypeOid(16), "boolean"),
            column("v", TEXT, "text"),
            column("id", INT4, "integer"),
        ],
        owner: None,
    };
    change(&mut relation, &mut table);
    Mapping::new(relation, table).expect("all columns are there")
}

fn shape(operation: Operation, identity: Identity, guard: Guard, new: &[Cell], old: &[Cell]) -> Shape {
    Shape { operation, identity, guard, new: new.to_vec(), old: old.to_vec() }
}

fn text(mapping: &Mapping, shape: &Shape) -> String {
    statement(mapping, shape).text
}

const BOTH: [Cell; 2] = [Cell::Text, Cell::Text];

#[test]
fn inserts_are_by_name_and_take_several_rows() {
    let m = mapping(|_, _| {});
    let s = statement(&m, &shape(Operation::Insert { rows: 2 }, Identity::New, Guard::Plain, &BOTH, &[]));
    assert_eq!(s.text, r#"INSERT INTO "s"."t" ("id", "v") VALUES ($1, $2), ($3, $4)"#);
    assert_eq!(s.parameters.iter().map(|p| p.type_oid).collect::<Vec<_>>(), [INT4, TEXT]);
}

#[test]
fn what_the_target_computes_is_neither_written_nor_compared() {
    let m = mapping(|_, table| table.columns[1].generated = true);
    let insert = shape(Operation::Insert { rows: 1 }, Identity::New, Guard::Plain, &BOTH, &[]);
    assert_eq!(text(&m, &insert), r#"INSERT INTO "s"."t" ("id") VALUES ($1)"#);
    let delete = shape(Operation::Delete, Identity::OldFull, Guard::Plain, &[], &BOTH);
    assert!(!text(&m, &delete).contains(r#""v""#));
}

#[test]
fn an_identity_column_is_overridden_and_a_table_without_columns_takes_defaults() {
    let insert = |m: &Mapping, cells: &[Cell]| {
        text(m, &shape(Operation::Insert { rows: 1 }, Identity::New, Guard::Plain, cells, &[]))
    };
    let m = mapping(|_, table| table.columns[2].identity_always = true);
    assert_eq!(insert(&m, &BOTH), r#"INSERT INTO "s"."t" ("id", "v") OVERRIDING SYSTEM VALUE VALUES ($1, $2)"#);
    let m = mapping(|relation, _| relation.columns.clear());
    assert_eq!(insert(&m, &[]), r#"INSERT INTO "s"."t" DEFAULT VALUES"#);
}

#[test]
fn an_update_leaves_the_unchanged_key_and_unchanged_toast_alone() {
    let m = mapping(|_, _| {});
    let update =
        |identity, guard, new: &[Cell], old: &[Cell]| text(&m, &shape(Operation::Update, identity, guard, new, old));
    assert_eq!(update(Identity::New, Guard::Plain, &BOTH, &[]), r#"UPDATE ONLY "s"."t" SET "v" = $1 WHERE "id" = $2"#);
    assert_eq!(
        update(Identity::OldKey, Guard::Plain, &[Cell::Text, Cell::Absent], &[Cell::Text, Cell::Absent]),
        r#"UPDATE ONLY "s"."t" SET "id" = $1 WHERE "id" = $2"#
    );
    assert_eq!(
        update(Identity::New, Guard::Guarded, &BOTH, &[]),
        r#"WITH c AS (UPDATE ONLY "s"."t" SET "v" = $1 WHERE "id" = $2 RETURNING 1) SELECT 1/(count(*) = 1)::int FROM c"#
    );
    assert_eq!(
        update(Identity::New, Guard::Plain, &[Cell::Text, Cell::Absent], &[]),
        r#"SELECT FROM ONLY "s"."t" WHERE "id" = $1 LIMIT 2"#
    );
}

#[test]
fn a_changed_identity_always_column_is_deleted_and_inserted() {
    let m = mapping(|_, table| table.columns[2].identity_always = true);
    let s = shape(Operation::Update, Identity::OldKey, Guard::Plain, &BOTH, &BOTH);
    assert_eq!(
        text(&m, &s),
        concat!(
            r#"WITH d AS (DELETE FROM ONLY "s"."t" WHERE "id" = $3 RETURNING *) INSERT INTO "s"."t" ("extra", "v", "id") "#,
            r#"OVERRIDING SYSTEM VALUE SELECT d."extra", $1, $2 FROM d"#
        )
    );
}

#[test]
fn d24_full_identity_compares_text_forms_where_equality_is_loose() {
    let m = mapping(|_, table| {
        table.columns[1].strict = false;
        table.columns[1].indexed = true;
        table.columns[1].equals = r#"OPERATOR("x".=)"#.into();
    });
    let s = shape(Operation::Delete, Identity::OldFull, Guard::Plain, &[], &[Cell::Null, Cell::Text]);
    assert_eq!(
        text(&m, &s),
        concat!(
            r#"DELETE FROM ONLY "s"."t" WHERE ctid = (SELECT ctid FROM ONLY "s"."t" WHERE "id" IS NULL AND "#,
            r#""v" OPERATOR("x".=) $1 AND format('%s', "v") COLLATE "C" = format('%s', $1) COLLATE "C" LIMIT 1)"#
        )
    );
}

#[test]
fn partitions_are_reached_through_their_root() {
    let m = mapping(|_, table| table.partitioned = true);
    let s = shape(Operation::Delete, Identity::OldFull, Guard::Plain, &[], &BOTH);
    assert_eq!(
        text(&m, &s),
        concat!(
            r#"DELETE FROM "s"."t" WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM "s"."t" WHERE "id" = $1 "#,
            r#"AND "v" = $2 LIMIT 1)"#
        )
    );
}

#[test]
fn a_table_with_filtering_triggers_counts_the_rows_found() {
    let m = mapping(|_, table| table.filtered = true);
    let s = statement(&m, &shape(Operation::Delete, Identity::OldKey, Guard::Plain, &[], &BOTH));
    assert_eq!(
        s.text,
        concat!(
            r#"WITH c AS (DELETE FROM ONLY "s"."t" WHERE "id" = $1), m AS (SELECT count(*) AS n FROM ONLY "s"."t" "#,
            r#"WHERE "id" = $1) SELECT 1/(n = 1)::int FROM m"#
        )
    );
    assert!(!s.counted);
}

#[test]
fn a_binary_value_of_another_type_goes_through_its_text_form() {
    let m = mapping(|_, table| {
        table.columns[2].type_oid = TypeOid(20);
        table.columns[2].bare_type = "bigint".into();
    });
    let s = statement(&m, &shape(Operation::Insert { rows: 1 }, Identity::New, Guard::Plain, &[Cell::Binary; 2], &[]));
    assert_eq!(
        s.text,
        r#"INSERT INTO "s"."t" ("id", "v") VALUES (CASE WHEN $1 IS NOT NULL THEN format('%s', $1)::bigint END, $2)"#
    );
    assert_eq!(s.parameters[0].type_oid, INT4);
}

#[test]
fn truncate_keeps_its_flags() {
    let (plain, partitioned) = (mapping(|_, _| {}), mapping(|_, table| table.partitioned = true));
    let options = decoder::TruncateOptions { cascade: true, restart_identity: true };
    assert_eq!(
        truncate(&[plain.table.reference(), partitioned.table.reference()], options),
        r#"TRUNCATE ONLY "s"."t", "s"."t" RESTART IDENTITY CASCADE"#
    );
}

#[test]
fn x05_what_the_owner_has_to_run_has_its_values_in_an_array() {
    let owner = crate::owner::Owner::of("o'wner", "s", "secret");
    let m = mapping(|_, table| table.owner = Some(owner));
    let s = statement(&m, &shape(Operation::Insert { rows: 2 }, Identity::New, Guard::Plain, &BOTH, &[]));
    let inner = r#"INSERT INTO "s"."t" ("id", "v") VALUES (($1[1])::integer, ($1[2])::text), (($1[3])::integer, ($1[4])::text)"#;
    let values = "$2::pg_catalog.text, $3::pg_catalog.text, $4::pg_catalog.text, $5::pg_catalog.text";
    let text = format!("SELECT walcast.write($1, 'o''wner', 's', '{inner}', ARRAY[{values}]::pg_catalog.text[])");
    assert_eq!((s.text, s.counted), (text, false));
    let s = statement(&m, &shape(Operation::Delete, Identity::OldKey, Guard::Plain, &[], &BOTH));
    assert!(s.text.contains("1/(count(*) = 1)::int FROM c"), "{}", s.text);
    assert!(!s.text.contains("secret"));
}
