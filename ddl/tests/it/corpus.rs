//! At least one statement for each kind of object that a dump can have: made, altered, commented on, dropped.

use crate::pair::{Pair, across_versions, on_all_versions};

/// Made in this order, and then compared. A statement may need a version: `18: create …`.
pub(crate) const MADE: &[&str] = &[
    // schemas, types
    "create schema corpus; comment on schema corpus is 'c'",
    "create schema \"Odd \"\"Name\"\"\"; create table \"Odd \"\"Name\"\"\".\"T.x\" (\"a\"\"b\" int primary key)",
    "create type corpus.color as enum ('red', 'green'); comment on type corpus.color is 'c'",
    "create type corpus.empty as enum ()",
    "create type corpus.pair as (a int, b text collate \"C\"); comment on type corpus.pair is 'p'; comment on column \
     corpus.pair.a is 'a'",
    "create domain corpus.short as varchar(5) collate \"C\" default 'x' not null check (value <> ''); comment on \
     domain corpus.short is 'd'",
    "create domain corpus.arr as int[] check (array_length(value, 1) < 5)",
    "create type corpus.span as range (subtype = float8, subtype_diff = float8mi); comment on type corpus.span is 's'",
    "create type corpus.span2 as range (subtype = text, collation = \"C\", multirange_type_name = corpus.spans2)",
    "create type corpus.shell",
    "create type corpus.b; create function corpus.b_in(cstring) returns corpus.b language internal immutable strict \
     as 'int4in'; \
     create function corpus.b_out(corpus.b) returns cstring language internal immutable strict as 'int4out'; \
     create type corpus.b (input = corpus.b_in, output = corpus.b_out, internallength = 4, passedbyvalue, alignment \
     = int4, category = 'N', default = '7', delimiter = ';')",
    // routines
    "create function corpus.f(a int, b text default 'x', variadic c int[] default '{}') returns setof int language \
     sql stable strict rows 5 as 'select a'",
    "create function corpus.g(out x int, out y text) language plpgsql security definer set search_path = corpus set \
     work_mem = '1MB' as 'begin x := 1; end'",
    "create function corpus.h() returns table (a int, b text) language sql begin atomic select 1, 'x'::text; end",
    "create function corpus.w(int) returns int language internal window immutable leakproof parallel safe as \
     'window_row_number'",
    "create procedure corpus.p(inout a int) language plpgsql as 'begin a := a + 1; end'; comment on procedure \
     corpus.p is 'p'",
    "create function corpus.support(internal) returns internal language internal strict as \
     'generate_series_int4_support'",
    "create aggregate corpus.total(int) (sfunc = int4pl, stype = int, initcond = '0', combinefunc = int4pl, parallel \
     = safe); comment on aggregate corpus.total(int) is 'a'",
    "create aggregate corpus.moving(float8) (sfunc = float8pl, stype = float8, msfunc = float8pl, minvfunc = \
     float8mi, mstype = float8, sortop = >)",
    "create aggregate corpus.pct(float8 order by anyelement) (sfunc = ordered_set_transition, stype = internal, \
     finalfunc = percentile_disc_final, finalfunc_extra)",
    "create aggregate corpus.hypo(variadic \"any\" order by variadic \"any\") (sfunc = ordered_set_transition_multi, \
     stype = internal, finalfunc = rank_final, finalfunc_extra, hypothetical)",
    "create aggregate corpus.many(*) (sfunc = int8inc, stype = int8, initcond = 0)",
    // languages, transforms, access methods
    "create language corpus_lang handler plpgsql_call_handler inline plpgsql_inline_handler validator \
     plpgsql_validator; comment on language corpus_lang is 'l'",
    "create trusted language corpus_trusted handler plpgsql_call_handler",
    "create transform for int language sql (from sql with function pg_catalog.prsd_lextype(internal), to sql with \
     function pg_catalog.int4recv(internal)); comment on transform for int language sql is 't'",
    "create access method corpus_am type index handler bthandler; comment on access method corpus_am is 'a'",
    "create access method corpus_heap type table handler heap_tableam_handler; create table corpus.other_am (a int) \
     using corpus_heap",
    // casts, operators, their classes and families
    "create cast (corpus.color as int) with inout as assignment; comment on cast (corpus.color as int) is 'c'",
    "create function corpus.to_pair(int) returns corpus.pair language sql immutable as 'select row($1, \
     ''x'')::corpus.pair'; create cast (int as corpus.pair) with function corpus.to_pair(int) as implicit",
    "create cast (corpus.b as int) without function",
    "create function corpus.eq(int, bigint) returns boolean language sql immutable as 'select $1 = $2'",
    "create operator corpus.=== (function = corpus.eq, leftarg = int, rightarg = bigint, restrict = eqsel, join = \
     eqjoinsel, hashes, merges)",
    "create operator corpus.!!! (function = pg_catalog.factorial, rightarg = bigint); comment on operator corpus.!!! \
     (none, bigint) is 'o'",
    "create function corpus.lt(int, int) returns boolean language sql immutable as 'select $1 < $2'; \
     create operator corpus.<<< (function = corpus.lt, leftarg = int, rightarg = int, commutator = \
     operator(corpus.>>>)); \
     create operator corpus.>>> (function = corpus.lt, leftarg = int, rightarg = int, commutator = \
     operator(corpus.<<<), negator = operator(corpus.<<=))",
    "create operator family corpus.fam using btree; comment on operator family corpus.fam using btree is 'f'",
    "alter operator family corpus.fam using btree add operator 1 <(int, bigint), function 1 (int, bigint) \
     btint48cmp(int, bigint)",
    "create operator class corpus.cls for type int using btree family corpus.fam as operator 1 <, operator 3 =, \
     function 1 btint4cmp(int, int); comment on operator class corpus.cls using btree is 'o'",
    "create operator class corpus.lone for type int using hash as operator 1 =, function 1 hashint4(int)",
    "create operator class corpus.gist for type point using gist as operator 15 <-> (point, point) for order by \
     float_ops, function 1 gist_point_consistent(internal, point, smallint, oid, internal), \
     function 2 gist_box_union(internal, internal), function 5 gist_box_penalty(internal, internal, internal), \
     function 6 gist_box_picksplit(internal, internal), \
     function 7 gist_box_same(box, box, internal), function 8 gist_point_distance(internal, point, smallint, oid, \
     internal), storage box",
    // collations, conversions, text search
    "create collation corpus.coll (provider = libc, locale = 'C'); comment on collation corpus.coll is 'c'",
    "create collation corpus.icu (provider = icu, locale = 'und', deterministic = false)",
    "create conversion corpus.conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8; comment on conversion corpus.conv \
     is 'c'",
    "create default conversion corpus.dconv for 'LATIN2' to 'UTF8' from iso8859_to_utf8",
    "create text search parser corpus.par (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, headline = \
     prsd_headline, lextypes = prsd_lextype); comment on text search parser corpus.par is 'p'",
    "create text search template corpus.tem (init = dsimple_init, lexize = dsimple_lexize); comment on text search \
     template corpus.tem is 't'",
    "create text search dictionary corpus.dict (template = corpus.tem, stopwords = 'english'); comment on text \
     search dictionary corpus.dict is 'd'",
    "create text search configuration corpus.conf (parser = corpus.par); alter text search configuration corpus.conf \
     add mapping for asciiword, word with corpus.dict, simple; comment on text search configuration corpus.conf is 'c'",
    // foreign data
    "create foreign data wrapper corpus_fdw no handler options (a '1'); comment on foreign data wrapper corpus_fdw \
     is 'f'",
    "create server corpus_srv type 'x' version '1' foreign data wrapper corpus_fdw options (host 'h', port '5'); \
     comment on server corpus_srv is 's'",
    "create user mapping for public server corpus_srv options (\"user\" 'u')",
    "create foreign table corpus.ft (a int options (x 'y') not null, b text default 'z', check (a > 0)) server \
     corpus_srv options (\"table\" 't'); comment on foreign table corpus.ft is 't'; comment on column corpus.ft.a is \
     'a'",
    // relations
    "create table corpus.t (id bigint generated by default as identity primary key, a int not null default 7, b text \
     collate \"C\", c corpus.color default 'red', \
     d corpus.short, p corpus.pair, g int generated always as (a + 1) stored, e int[] default '{}', unique (a, b), \
     check (a > 0), exclude using btree (a with =)) with (fillfactor = 70)",
    "create unlogged table corpus.ul (a int)",
    "create table corpus.typed of corpus.pair (a with options default 5, primary key (a))",
    "create table corpus.child (x int) inherits (corpus.t)",
    "create table corpus.part (a int, b text, primary key (a, b)) partition by list (b)",
    "create table corpus.part_x partition of corpus.part for values in ('x', null)",
    "create table corpus.part_h partition of corpus.part default partition by hash (a); create table corpus.part_h0 \
     partition of corpus.part_h for values with (modulus 2, remainder 0)",
    "create table corpus.keyless (b text) partition by list (b); create foreign table corpus.part_f partition of \
     corpus.keyless for values in ('f') server corpus_srv",
    "create table corpus.ref (a bigint references corpus.t on update cascade on delete set null, b text)",
    "create table corpus.no_columns ()",
    "create table corpus.toasted (a text) with (toast_tuple_target = 256, toast.autovacuum_vacuum_threshold = 10)",
    "create index on corpus.t (a desc nulls last, lower(b) text_pattern_ops) include (c) where a > 5; create index \
     on corpus.t using gin (e); create index on corpus.t using brin (a) with (pages_per_range = 4)",
    "15: create unique index on corpus.ref (b) nulls not distinct",
    "create sequence corpus.s as smallint start 5 increment 5 minvalue 5 maxvalue 50 cache 3 cycle; comment on \
     sequence corpus.s is 's'",
    "create sequence corpus.owned owned by corpus.ref.b; 15: create unlogged sequence corpus.us",
    "create view corpus.v with (security_barrier) as select id, a from corpus.t where a > 1 with check option; \
     comment on view corpus.v is 'v'; comment on column corpus.v.a is 'a'",
    "create recursive view corpus.rv (n) as values (1) union all select n + 1 from rv where n < 5",
    "15: create view corpus.iv with (security_invoker) as select 1 as a",
    "create materialized view corpus.mv with (fillfactor = 50) as select a, b from corpus.t with no data; create \
     unique index on corpus.mv (a); comment on materialized view corpus.mv is 'm'",
    "create statistics corpus.st on a, (a + 1) from corpus.t; create statistics corpus.st2 (dependencies) on a, b \
     from corpus.t",
    "create function corpus.trig() returns trigger language plpgsql as 'begin return null; end'",
    "create trigger tr instead of insert on corpus.v for each row execute function corpus.trig(); comment on trigger \
     tr on corpus.v is 't'",
    "create trigger tc before update of a, b on corpus.t for each row execute function corpus.trig(); create trigger \
     tt after update on corpus.t referencing old table as o new table as n for each statement execute function \
     corpus.trig('x', 'y''z')",
    "create trigger tp after insert on corpus.part for each row when (new.a > 1) execute function corpus.trig()",
    "alter table corpus.t enable always trigger tt; alter table corpus.t enable row level security",
    "create rule ru as on update to corpus.ul where old.a > 1 do also delete from corpus.ref where a = old.a; \
     comment on rule ru on corpus.ul is 'r'",
    "create policy po on corpus.t as restrictive for insert with check (a > 0); comment on policy po on corpus.t is \
     'p'",
    "create extension hstore schema corpus; comment on extension hstore is 'h'; create table corpus.hs (h \
     corpus.hstore)",
    "18: create table corpus.virt (a int, b int generated always as (a * 2) virtual, constraint nn not null a no \
     inherit, check (a > 0) not enforced)",
    "17: create collation corpus.built (provider = builtin, locale = 'C.UTF-8')",
    "17: create table corpus.ident_part (id int generated always as identity, k int) partition by list (k); create \
     table corpus.ident_part_1 partition of corpus.ident_part for values in (1)",
    "alter default privileges in schema corpus grant select on tables to public",
    "grant usage on schema corpus to public; grant select (a), update on corpus.t to public; revoke execute on \
     function corpus.g() from public",
];

/// What alters them.
pub(crate) const ALTERED: &[&str] = &[
    "alter type corpus.color add value 'blue' before 'green'; alter type corpus.pair add attribute c int cascade; \
     alter type corpus.color rename to colour",
    "alter type corpus.span rename to spann; alter type corpus.b set schema public; alter type public.b set schema \
     corpus",
    "alter domain corpus.short drop constraint short_check; alter domain corpus.short set default 'y'",
    "create or replace function corpus.f(a int, b text default 'y', variadic c int[] default '{}') returns setof int \
     language sql as 'select a + 1'; alter function corpus.f(int, text, int[]) cost 500; alter function \
     corpus.f(int, text, int[]) rename to ff",
    "alter function corpus.h() rename to hh; alter function corpus.g() reset work_mem; alter procedure corpus.p(int) \
     security definer; alter routine corpus.p(int) rename to pp",
    "alter function corpus.ff(int, text, int[]) support corpus.support",
    "create or replace aggregate corpus.total(int) (sfunc = int4pl, stype = int, initcond = '1'); alter aggregate \
     corpus.many(*) rename to all_of_them; alter aggregate corpus.all_of_them(*) set schema public",
    "alter language corpus_lang rename to corpus_l",
    "alter operator corpus.=== (int, bigint) set (restrict = none, join = none); alter operator corpus.!!! (none, \
     bigint) set schema public",
    "alter operator family corpus.fam using btree drop operator 1 (int, bigint); alter operator family corpus.fam \
     using btree add operator 5 >(int, bigint); alter operator family corpus.fam using btree rename to fam2",
    "alter operator class corpus.cls using btree rename to cls2; alter collation corpus.coll rename to coll2; alter \
     conversion corpus.conv rename to conv2",
    "alter text search parser corpus.par rename to par2; alter text search template corpus.tem rename to tem2",
    "alter text search dictionary corpus.dict (stopwords = 'german'); alter text search dictionary corpus.dict \
     (accept = false); alter text search dictionary corpus.dict (stopwords)",
    "alter text search configuration corpus.conf alter mapping for word with simple; alter text search configuration \
     corpus.conf drop mapping for asciiword; alter text search configuration corpus.conf rename to conf2",
    "alter foreign data wrapper corpus_fdw options (set a '2', add b '3'); alter server corpus_srv version '2' \
     options (drop port, set host 'i'); alter server corpus_srv rename to corpus_server",
    "alter user mapping for public server corpus_server options (set \"user\" 'v', add x 'y')",
    "alter foreign table corpus.ft options (set \"table\" 'u'), alter a options (set x 'z', add q 'r'), add c int, \
     drop b; alter foreign table corpus.ft rename to fu",
    "alter table corpus.t alter a set default 8, alter b drop not null, alter id restart with 100; alter table \
     corpus.t rename to tt",
    "alter table corpus.tt alter a set default 8; alter table corpus.tt rename to ttt; alter table corpus.ttt rename \
     column b to bb; alter table corpus.ttt set (fillfactor = 60)",
    "alter table corpus.typed not of; alter table corpus.ul set logged; alter table corpus.toasted reset \
     (toast.autovacuum_vacuum_threshold)",
    "alter table corpus.part detach partition corpus.part_x; alter table corpus.part_x rename to px; alter table \
     corpus.part alter a set default 3",
    "alter sequence corpus.s increment 7 no cycle; alter sequence corpus.s as bigint maxvalue 1000; alter sequence \
     corpus.s rename to s2; alter sequence corpus.owned owned by none",
    "create or replace view corpus.v with (security_barrier = false) as select id, a, a + 1 as c from corpus.ttt; \
     alter view corpus.v alter a set default 9; alter view corpus.v set (check_option = local); alter view corpus.v \
     set schema public",
    "alter materialized view corpus.mv reset (fillfactor); alter materialized view corpus.mv rename column b to bb; \
     alter materialized view corpus.mv rename to mw; alter materialized view corpus.mw alter a set statistics 5",
    "create or replace rule ru as on update to corpus.ul do instead nothing; alter table corpus.ul disable rule ru",
    "alter statistics corpus.st rename to st3; alter statistics corpus.st3 set statistics 10; alter index \
     corpus.part_pkey rename to x",
    "alter schema corpus rename to corpus2; alter schema \"Odd \"\"Name\"\"\" rename to \"odd.name\"",
];

/// What drops them.
pub(crate) const DROPPED: &[&str] = &[
    "drop trigger tr on public.v; drop policy po on corpus2.ttt; drop rule ru on corpus2.ul; drop statistics \
     corpus2.st2, corpus2.st3",
    "drop view public.v; drop materialized view corpus2.mw; drop table corpus2.part, corpus2.px, corpus2.typed",
    "drop foreign table corpus2.fu, corpus2.part_f; drop user mapping for public server corpus_server; drop server \
     corpus_server; drop foreign data wrapper corpus_fdw",
    "drop text search configuration corpus2.conf2; drop text search dictionary corpus2.dict; drop text search \
     template corpus2.tem2; drop text search parser corpus2.par2",
    "drop operator class corpus2.cls2 using btree; drop operator family corpus2.fam2 using btree; drop operator \
     family corpus2.lone using hash; drop operator public.!!! (none, bigint); drop operator corpus2.=== (int, bigint)",
    "drop cast (corpus2.colour as int); drop cast (int as corpus2.pair); drop language corpus_l; drop access method \
     corpus_am",
    "drop aggregate corpus2.total(int); drop procedure corpus2.pp(int); drop function corpus2.ff(int, text, int[]); \
     drop conversion corpus2.conv2; drop collation corpus2.coll2",
    "drop extension hstore cascade; drop type corpus2.b cascade; drop domain corpus2.short cascade",
    "drop schema corpus2 cascade; drop schema \"odd.name\" cascade; drop aggregate public.all_of_them(*)",
];

/// Statements for this version: a part between semicolons that begins with a newer major version (`17: create …`), and what
/// follows it in the same text, is left out.
pub(crate) fn for_version(statements: &[&'static str], major: u32) -> Vec<String> {
    let known = |statement: &&str| {
        let mut kept = Vec::new();
        for part in statement.split("; ") {
            let needs =
                part.trim().split_once(": ").and_then(|(version, sql)| Some((version.parse::<u32>().ok()?, sql)));
            match needs {
                Some((version, _)) if version > major => break,
                Some((_, sql)) => kept.push(sql),
                None => kept.push(part),
            }
        }
        (!kept.is_empty()).then(|| kept.join("; "))
    };
    statements.iter().filter_map(known).collect()
}

#[test]
fn d38_what_both_versions_know_goes_from_one_to_the_other() {
    across_versions(async |pair: &mut Pair| {
        // versions write views in different words, so that a second time replaces them once more
        pair.twice = false;
        let major = pair.major();
        for statement in [MADE, ALTERED, DROPPED].into_iter().flat_map(|part| for_version(part, major)) {
            pair.replicate(&[&statement]).await;
        }
    });
}

#[test]
fn every_kind_of_object_is_made_altered_and_dropped() {
    on_all_versions(async |pair: &mut Pair| {
        let major = pair.major();
        for (name, statements) in [("made", MADE), ("altered", ALTERED), ("dropped", DROPPED)] {
            for statement in for_version(statements, major) {
                pair.replicate(&[&statement]).await;
            }
            pair.compare(name);
        }
    });
}
