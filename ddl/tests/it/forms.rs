//! Forms of commands with an effect that a dump tells, beside those of `corpus.rs` and `table_driven.rs`.
//! A statement may need a version: `18: create …`.

use crate::corpus::for_version;
use crate::pair::{Pair, on_all_versions};

/// What they are about, and the statements.
type Group = (&'static str, &'static [&'static str]);

pub(crate) const FORMS: &[Group] = &[
    (
        "moves to other schemas",
        &[
            "create schema here; create schema there; create collation here.coll (provider = libc, locale = 'C'); \
             create domain here.dom as int; create sequence here.seq; create type here.comp as (a int); \
             create function here.fun() returns int language sql as 'select 1'; \
             create table here.tab (a int, b int, id int generated always as identity, s serial); \
             create statistics here.stat on a, b from here.tab; create view here.vi as select a from here.tab; \
             create materialized view here.mat as select a from here.tab",
            "create conversion here.conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8; \
             create operator family here.fam using hash; create operator class here.cls for type int using hash \
             family here.fam as operator 1 =, function 1 hashint4(int); \
             create text search dictionary here.dict (template = simple); create text search configuration \
             here.conf (copy = simple); create text search parser here.par (start = prsd_start, gettoken = \
             prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype); \
             create text search template here.tem (lexize = dsimple_lexize)",
            "alter collation here.coll set schema there; alter domain here.dom set schema there; alter sequence \
             here.seq set schema there; alter type here.comp set schema there; alter function here.fun() set schema \
             there; alter table here.tab set schema there; alter statistics here.stat set schema there; alter view \
             here.vi set schema there; alter materialized view here.mat set schema there",
            "alter conversion here.conv set schema there; alter operator class here.cls using hash set schema there; \
             alter operator family here.fam using hash set schema there; alter text search dictionary here.dict set \
             schema there; alter text search configuration here.conf set schema there; alter text search parser \
             here.par set schema there; alter text search template here.tem set schema there",
            "alter domain there.dom rename to dom2; alter collation there.coll refresh version; drop routine \
             there.fun(); drop text search configuration there.conf; drop sequence there.seq",
        ],
    ),
    (
        "objects that go with an extension",
        &[
            "create extension citext; create table dep (a int); create index dep_i on dep (a); create materialized \
             view dep_m as select a from dep; create function dep_f() returns trigger language plpgsql as 'begin \
             return new; end'; create trigger dep_t before insert on dep for each row execute function dep_f()",
            "alter index dep_i depends on extension citext; alter materialized view dep_m depends on extension \
             citext; alter function dep_f() depends on extension citext; alter trigger dep_t on dep depends on \
             extension citext",
            "alter index dep_i no depends on extension citext; alter materialized view dep_m no depends on \
             extension citext; alter function dep_f() no depends on extension citext",
            "create procedure dep_p() language sql as ''; alter procedure dep_p() depends on extension citext; \
             create index dep_j on dep ((a + 1)); alter index dep_j depends on extension citext; alter function \
             dep_f() depends on extension citext; alter function dep_f() cost 7",
        ],
    ),
    ("what goes with an extension", &["drop extension citext cascade"]),
    (
        "materialized views",
        &[
            "create table mv_t (a int, b text); create materialized view mv as select a, b from mv_t; create index \
             mv_i on mv (a); create unique index mv_j on mv (b)",
            "alter materialized view mv cluster on mv_i; alter materialized view mv alter b set storage external, \
             alter b set (n_distinct = 7), alter b set compression pglz",
            "alter materialized view mv set without cluster; alter materialized view mv alter b reset (n_distinct), \
             alter b set storage extended; alter materialized view mv set (autovacuum_enabled = off, \
             toast.autovacuum_enabled = off)",
            "create access method mv_heap type table handler heap_tableam_handler",
            "15: alter materialized view mv set access method mv_heap",
            "comment on index mv_i is 'i'; comment on column mv.a is 'a'",
        ],
    ),
    (
        "foreign data",
        &[
            "create extension postgres_fdw; create foreign data wrapper fw; alter foreign data wrapper fw handler \
             postgres_fdw_handler validator postgresql_fdw_validator; alter foreign data wrapper fw no validator",
            "alter foreign data wrapper fw rename to fw2; create server fs foreign data wrapper fw2; alter server fs \
             options (add host 'h'); create table fp (a int, b text)",
            "create foreign table ft (a int, b text) server fs; alter foreign table ft add constraint ft_c check (a \
             > 0), alter b type varchar(10), alter a set default 5, alter a set not null, alter a set statistics \
             20, alter a set (n_distinct = 3), alter b set storage external; alter foreign table ft rename a to aa; \
             comment on constraint ft_c on ft is 'c'",
            "create foreign table fc (a int, b text) server fs; alter foreign table fc inherit fp; alter foreign \
             table fc no inherit fp; alter foreign table ft drop constraint ft_c, alter aa drop not null, alter aa \
             drop default",
            "create function ft_f() returns trigger language plpgsql as 'begin return new; end'; create trigger ft_t \
             before insert on ft for each row execute function ft_f(); alter foreign table ft disable trigger ft_t",
            "create schema imported; do $$ begin execute format('create server loop foreign data wrapper postgres_fdw \
             options (host ''127.0.0.1'', port %L, dbname %L)', current_setting('port'), current_database()); end $$",
            "create user mapping for current_user server loop; import foreign schema public limit to (fp) from server \
             loop into imported",
            "drop trigger ft_t on ft; create user mapping if not exists for public server fs options (user 'x'); \
             drop user mapping for public server fs",
        ],
    ),
    (
        "tables",
        &[
            "create table fo (a int, b int, c text, constraint fo_k unique (a) deferrable initially deferred); \
             alter table fo alter c set storage main, alter c set compression pglz; alter table fo cluster on fo_k",
            "create access method fo_heap type table handler heap_tableam_handler",
            "15: alter table fo set access method fo_heap",
            "15: alter table fo set access method heap",
            "create index fo_i on fo using gist (point(a, b)) with (buffering = on); create index fo_h on fo (c \
             collate \"C\" text_pattern_ops); alter table fo alter c set compression default",
            "create statistics fo_s on (a + b) from fo; create statistics if not exists fo_s2 (ndistinct, \
             dependencies, mcv) on a, b, (a * b) from fo; comment on statistics fo_s2 is 's'",
            "create table fo_part (a int, b int) partition by hash (a int4_ops, (b + 1)); create table fo_part_0 \
             partition of fo_part for values with (modulus 2, remainder 0)",
            "create table fo_detached (a int, b text) partition by range (a); create table fo_detached_1 partition \
             of fo_detached for values from (minvalue) to (10); create table fo_detached_2 partition of fo_detached \
             for values from (10) to (maxvalue)",
            "alter table fo_detached detach partition fo_detached_1 concurrently",
            "alter table fo_detached attach partition fo_detached_1 for values from (minvalue) to (10)",
            "create table fo_d (a int primary key); create table fo_ref (a int, b int, constraint \
             fo_f foreign key (a) references fo_d (a) match full on delete set default); \
             comment on constraint fo_f on fo_ref is 'f'; 15: create table fo_ref2 (a int \
             primary key, b int); 15: alter table fo_ref add foreign key (a) references fo_ref2 on delete set null \
             (a)",
            "alter table fo_ref alter constraint fo_f deferrable initially deferred",
            "17: create table fo_gen (a int, b int generated always as (a + 1) stored); alter table fo_gen alter b \
             set expression as (a + 2)",
            "18: create extension btree_gist; create table fo_time (a int, r int4range, primary key (a, r without \
             overlaps)); create table fo_time_ref (a int, r int4range, foreign key (a, period r) references fo_time \
             (a, period r))",
            "18: create table fo_nn (a int, b int); alter table fo_nn add constraint fo_nn_a not null a not valid; \
             alter table fo_nn validate constraint fo_nn_a; alter table fo_nn add constraint fo_nn_b not null b; \
             alter table fo_nn rename constraint fo_nn_b to fo_nn_bb; comment on constraint fo_nn_bb on fo_nn is 'n'",
            "18: create table fo_ne (a int primary key, b int references fo_ne not enforced, constraint fo_ne_c check \
             (b > 0) not enforced); alter table fo_ne alter constraint fo_ne_b_fkey enforced",
            "18: create table fo_nni (a int, constraint fo_nni_a not null a); create table fo_nnc () inherits \
             (fo_nni); alter table fo_nni alter constraint fo_nni_a no inherit",
        ],
    ),
    (
        "rows security, rules and triggers",
        &[
            "create table ru (a int, b text); create policy ru_p on ru for update to public using (a > 0) with check \
             (a > 1); alter policy ru_p on ru with check (a > 2); alter table ru force row level security",
            "create rule ru_r as on insert to ru where new.a = 1 do also delete from ru where a = 2; create rule ru_s as on update to \
             ru do instead (delete from ru where a = old.a; insert into ru values (new.*))",
            "create function ru_f() returns trigger language plpgsql as 'begin return null; end'; create trigger \
             ru_tr before truncate on ru for each statement execute function ru_f(); create table ru_from (a int); \
             create constraint trigger ru_c after insert or update of a on ru from ru_from deferrable for each row \
             when (new.a > 0) execute function ru_f()",
            "alter table ru disable trigger all; alter table ru enable trigger user; alter table ru enable replica \
             trigger ru_tr; alter table ru enable replica rule ru_r",
            "create view ru_v as select * from ru; create rule ru_vi as on insert to ru_v do instead insert into ru \
             values (new.*); comment on rule ru_vi on ru_v is 'r'; alter table ru add c int",
            "create table cl (a int) partition by list (a); create table cl1 partition of cl for values in (1); create \
             trigger cl_t after insert on cl for each row execute function ru_f(); alter table cl1 disable trigger cl_t; \
             create table cl2 partition of cl for values in (2); alter table cl disable trigger cl_t; alter table cl2 \
             enable always trigger cl_t",
            "alter table ru no force row level security; drop rule ru_r on ru; drop trigger ru_c on ru",
        ],
    ),
    (
        "routines and types",
        &[
            "create procedure ro_p(in a int, inout b text default 'x') begin atomic select a; end; create function \
             ro_r() returns record language plpgsql as 'begin return row(1); end'; comment on \
             routine ro_p(int, text) is 'r'; alter function ro_r() strict \
             leakproof parallel restricted; alter function ro_r() set work_mem to '2MB'; alter function ro_r() set \
             search_path from current",
            "create function ro_e() returns event_trigger language plpgsql as 'begin end'; create function ro_c(a \
             anyelement, variadic b anyarray) returns anyelement language sql as 'select $1'; comment on function \
             ro_c(anyelement, anyarray) is 'c'",
            "create transform for bigint language sql (from sql with function pg_catalog.prsd_lextype(internal)); \
             create function ro_t(bigint) returns int transform for type bigint language sql as 'select 1'; drop \
             function ro_t(bigint); drop transform for bigint language sql",
            "create function ro_lib(text) returns text language c strict as '$libdir/citext', 'citext_hash'",
            "create type ro_in; create function ro_inf(cstring) returns ro_in language internal immutable strict as \
             'textin'; create function ro_outf(ro_in) returns cstring language internal immutable strict as \
             'textout'; create type ro_in (input = ro_inf, output = ro_outf, like = text, collatable = true, preferred \
             = false)",
            "alter type ro_in set (storage = external)",
            "create operator @#@ (function = int4eq, leftarg = int, rightarg = int)",
            "17: alter operator @#@ (int, int) set (commutator = @#@, hashes, merges)",
            "create sequence ro_s; 15: alter sequence ro_s set unlogged; 15: alter sequence ro_s set logged",
            "create default conversion ro_conv for 'LATIN2' to 'UTF8' from iso8859_to_utf8; drop conversion ro_conv",
        ],
    ),
];

#[test]
fn every_form_of_a_command_arrives() {
    on_all_versions(async |pair: &mut Pair| {
        let major = pair.major();
        for (name, statements) in FORMS {
            for statement in for_version(statements, major) {
                pair.replicate(&[&statement]).await;
            }
            pair.compare(name);
        }
    });
}
