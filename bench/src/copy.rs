//! A whole database copied into an empty one, beside the programs that people copy databases with.
//!
//! Every contender has the same number of jobs, copies the same database, and has to leave the same rows. Foreign keys,
//! indexes and statistics are part of the work for all of them: `pgcopydb` also vacuums, as it does by default, and
//! `pg_restore` does not analyze, so it is told to afterwards by a `vacuumdb` with as many jobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use cluster::Cluster;

use crate::lab;
use crate::measure::Usage;
use crate::options::Options;
use crate::process::run;
use crate::report::{Copied, Report, Run, Series};
use crate::sql::Session;

const SOURCE: &str = "bench";
const TARGET: &str = "bench_copy";
const JOBS: &str = "2";

/// What is copied.
#[derive(Clone, Copy)]
struct Shape {
    title: &'static str,
    /// Rows for a full run: `$1` in the statements.
    rows: u32,
    make: &'static str,
}

/// About 1 GB each with a full number of rows.
const SHAPES: [Shape; 3] = [
    Shape {
        title: "Copy of a database: accounts as in pgbench, wide rows, and twenty small tables",
        rows: 4_000_000,
        make: "CREATE TABLE branches (bid int PRIMARY KEY, balance int, filler char(88));
            INSERT INTO branches SELECT g, 0, '' FROM generate_series(1, 100) g;
            CREATE TABLE accounts (aid int PRIMARY KEY, bid int REFERENCES branches, balance int, filler char(84));
            INSERT INTO accounts SELECT g, 1 + g % 100, g, '' FROM generate_series(1, $1) g;
            CREATE INDEX ON accounts (bid);
            $WIDE FROM generate_series(1, $1 / 4) g;
            CREATE INDEX ON wide (at);
            CREATE INDEX ON wide (name);
            DO $do$BEGIN FOR i IN 1..20 LOOP
                EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, v text)', i);
                EXECUTE format('INSERT INTO small_%s SELECT g, md5(g::text) FROM generate_series(1, 10000) g', i);
            END LOOP; END$do$",
    },
    Shape {
        title: "Copy of a database with one large table of narrow rows",
        rows: 7_000_000,
        make: "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, balance int, filler char(84));
            INSERT INTO accounts SELECT g, 1 + g % 100, g, '' FROM generate_series(1, $1) g",
    },
    Shape {
        title: "Copy of a database with one large table of wide rows",
        rows: 2_600_000,
        make: "$WIDE FROM generate_series(1, $1) g",
    },
];

/// A table of wide rows, and the beginning of the statement that fills it: `$WIDE` in the statements.
const WIDE: &str =
    "CREATE TABLE wide (id bigint PRIMARY KEY, at timestamptz, price numeric, ratio float8, name text, doc jsonb,
        tag uuid, note text);
    INSERT INTO wide SELECT g, '2024-01-01'::timestamptz + g * interval '1 s', g * 1.25, g / 7.0, 'name ' || g,
        jsonb_build_object('id', g, 'list', ARRAY[g, g + 1]), md5(g::text)::uuid, repeat(md5(g::text), 6)";

/// Who copies.
#[derive(Clone, Debug)]
enum Contender {
    DumpAndRestore,
    Pgcopydb,
    Walcast(PathBuf),
}

impl Contender {
    fn name(&self) -> &'static str {
        match self {
            Contender::DumpAndRestore => "pg_dump -Fd -Z0, pg_restore",
            Contender::Pgcopydb => "pgcopydb clone",
            Contender::Walcast(_) => "walcast bootstrap",
        }
    }
}

pub(crate) fn measure(options: &Options, walcast: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    let mut contenders = vec![Contender::DumpAndRestore];
    match Command::new("pgcopydb").arg("--version").output() {
        Ok(_) => contenders.push(Contender::Pgcopydb),
        Err(_) => eprintln!("pgcopydb is not installed: it is left out"),
    }
    contenders.extend(walcast.map(|program| Contender::Walcast(program.to_path_buf())));
    for shape in &SHAPES {
        let lab = Lab::start(shape, options, walcast)?;
        report.copied(&lab.measure(shape, options, &contenders)?)?;
    }
    Ok(())
}

/// A source, a target, and a directory for what is in between.
struct Lab {
    source: Cluster,
    target: Cluster,
    directory: tempfile::TempDir,
}

impl Lab {
    fn start(shape: &Shape, options: &Options, walcast: Option<&Path>) -> anyhow::Result<Lab> {
        let (source, target) = (lab::server()?, lab::server()?);
        source.create_database(SOURCE)?;
        let rows = options.scaled(shape.rows).to_string();
        let session = Session::connect(source.conninfo_unix(SOURCE))?;
        session.run(&shape.make.replace("$WIDE", WIDE).replace("$1", &rows))?;
        session.run("VACUUM ANALYZE")?;
        let directory = tempfile::Builder::new().prefix("walcast-bench-").tempdir()?;
        let lab = Lab { source, target, directory };
        let (from, to) = lab.conninfos();
        let text = format!(
            "[source]\nconninfo = {from:?}\n[log]\ndir = \"log\"\n[http]\nlisten = \"\"\n[[target]]\nname = \"copy\"\nconninfo = {to:?}\n"
        );
        fs::write(lab.configuration(), text)?;
        if let Some(program) = walcast {
            run(Command::new(program).arg("-c").arg(lab.configuration()).arg("setup"))?;
        }
        Ok(lab)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("walcast.toml")
    }

    fn conninfos(&self) -> (String, String) {
        (self.source.conninfo_unix(SOURCE).to_string(), self.target.conninfo_unix(TARGET).to_string())
    }

    fn measure(&self, shape: &Shape, options: &Options, contenders: &[Contender]) -> anyhow::Result<Copied> {
        let session = Session::connect(self.source.conninfo_unix(SOURCE))?;
        let bytes: i64 =
            session.value("SELECT sum(pg_table_size(oid))::int8 FROM pg_class WHERE relkind = 'r' AND oid >= 16384")?;
        let expected = content(&session)?;
        let mut series: Vec<Series> = contenders.iter().map(|contender| Series::new(contender.name())).collect();
        for round in 0..options.rounds() {
            for turn in 0..contenders.len() {
                let index = (round + turn) % contenders.len();
                let copied = self.copy(&contenders[index], &expected)?;
                series[index].push(shape.title, round, copied);
            }
        }
        Ok(Copied { title: shape.title, bytes: bytes.unsigned_abs(), jobs: JOBS, series })
    }

    fn copy(&self, contender: &Contender, expected: &[String]) -> anyhow::Result<Run> {
        let on_target = Session::connect(self.target.conninfo_unix("postgres"))?;
        self.target.create_database(TARGET)?;
        Session::connect(self.source.conninfo_unix(SOURCE))?.run("CHECKPOINT")?;
        on_target.run("CHECKPOINT")?;
        let started = Instant::now();
        self.run(contender)?;
        let elapsed = started.elapsed();
        let found = content(&Session::connect(self.target.conninfo_unix(TARGET))?)?;
        if found != expected {
            bail!("{} left {found:?} on the target instead of {expected:?}", contender.name());
        }
        on_target.run(&format!("DROP DATABASE {TARGET} WITH (FORCE)"))?;
        Ok(Run { elapsed, usage: Usage::default() })
    }

    fn run(&self, contender: &Contender) -> anyhow::Result<()> {
        let (from, to) = self.conninfos();
        let scratch = tempfile::tempdir_in(self.directory.path())?;
        let files = scratch.path().join("files");
        match contender {
            Contender::DumpAndRestore => {
                let program =
                    |name| self.source.installation().client(name).with_context(|| format!("no {name} found"));
                run(Command::new(program("pg_dump")?).args(["-Fd", "-Z0", "-j", JOBS, "-d", &from, "-f"]).arg(&files))?;
                run(Command::new(program("pg_restore")?).args(["-j", JOBS, "-d", &to]).arg(&files))?;
                run(Command::new(program("vacuumdb")?).args(["--analyze-only", "-q", "-j", JOBS, "-d", &to]))
            }
            Contender::Pgcopydb => {
                let jobs = ["--table-jobs", JOBS, "--index-jobs", JOBS];
                let servers = ["--source", &from, "--target", &to];
                run(Command::new("pgcopydb").arg("clone").args(jobs).args(servers).arg("--dir").arg(&files))
            }
            Contender::Walcast(program) => {
                let mut command = Command::new(program);
                run(command.arg("-c").arg(self.configuration()).args(["bootstrap", "copy", "--jobs", JOBS]))
            }
        }
    }
}

/// Row counts and a sum over all values.
fn content(session: &Session) -> anyhow::Result<Vec<String>> {
    let query = "SELECT format('SELECT format(''%1$s: %%s rows, sum %%s, %2$s indexes'', count(*), sum(hashtext(t::text))) FROM %1$s t', \
                     c.relname, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)) \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                 WHERE nspname = 'public' AND relkind = 'r' ORDER BY c.relname";
    session.column::<String>(query)?.iter().map(|query| session.value(query)).collect()
}
