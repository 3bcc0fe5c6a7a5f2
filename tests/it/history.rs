//! Random histories of a source, as SQL: every kind of change that tiers have to treat with care.

use crate::random::Random;

/// What every database begins with. `attempt` undoes a statement that would break a unique index.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE marks (n bigint PRIMARY KEY);
    CREATE TABLE plain (id int PRIMARY KEY, n int, v text, w text);
    CREATE TABLE two (a int PRIMARY KEY, b int UNIQUE, v text);
    CREATE TABLE composed (w text, k2 numeric, v text, k1 text, PRIMARY KEY (k1, k2));
    CREATE TABLE named (pk int PRIMARY KEY, code text NOT NULL UNIQUE, w text);
    CREATE TABLE whole (x int, v text, w text, n int);
    CREATE TABLE made_up (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
    CREATE TABLE parts (id int, side int, v text, PRIMARY KEY (id, side)) PARTITION BY LIST (side);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE shifting (id int PRIMARY KEY, c0 int, u int, v text);
    CREATE TABLE rewritten (id int PRIMARY KEY, c int);
    ALTER TABLE named REPLICA IDENTITY USING INDEX named_code_key;
    ALTER TABLE whole REPLICA IDENTITY FULL;
    ALTER TABLE plain ALTER w SET STORAGE EXTERNAL;
    ALTER TABLE composed ALTER w SET STORAGE EXTERNAL;
    ALTER TABLE named ALTER w SET STORAGE EXTERNAL;
    ALTER TABLE whole ALTER w SET STORAGE EXTERNAL;
    CREATE FUNCTION attempt(statement text) RETURNS void LANGUAGE plpgsql AS
        $$BEGIN EXECUTE statement; EXCEPTION WHEN unique_violation THEN NULL; END$$;
";

/// The tables that are never altered.
pub(crate) const UNALTERED: [&str; 9] =
    ["marks", "plain", "two", "composed", "named", "whole", "made_up", "parts_0", "parts_1"];

/// Transactions without DDL, then as many among which it comes.
const STRETCH: u64 = 60;

/// A history that goes on.
pub(crate) struct History {
    random: Random,
    /// Transactions so far.
    step: u64,
    altered: Altered,
}

/// What DDL has made by now.
#[derive(Clone, Default)]
struct Altered {
    /// Columns added to `shifting`.
    columns: Vec<u64>,
    /// Tables.
    made: Vec<u64>,
    is_unique: bool,
    is_wide: bool,
}

impl History {
    pub(crate) fn new(random: Random) -> History {
        History { random, step: 0, altered: Altered::default() }
    }

    /// Transactions so far. Each has a row in `marks`.
    pub(crate) fn steps(&self) -> u64 {
        self.step
    }

    /// The next transaction: at most some 150 changes.
    pub(crate) fn transaction(&mut self) -> String {
        self.step += 1;
        let (count, with_ddl) = (self.below(7) + 1, self.may_alter() && self.once_in(12));
        let mut body: String = (0..count).map(|_| self.change()).collect();
        if with_ddl {
            let rows = self.shifting();
            body += &(rows + &self.ddl() + &self.shifting());
        }
        if self.once_in(4) {
            body += &self.savepoint();
        }
        format!("BEGIN;\nINSERT INTO marks VALUES ({});\n{body}COMMIT;\n", self.step)
    }

    /// Batches end where DDL begins: there are stretches without it, long enough for large ones.
    fn may_alter(&self) -> bool {
        self.step / STRETCH % 2 == 1
    }

    /// Changes, and DDL, in a subtransaction that is kept or not.
    fn savepoint(&mut self) -> String {
        let before = self.altered.clone();
        let mut body: String = (0..3).map(|_| self.change()).collect();
        if self.may_alter() && self.once_in(4) {
            body += &self.ddl();
        }
        if self.once_in(2) {
            return format!("SAVEPOINT s;\n{body}RELEASE s;\n");
        }
        self.altered = before;
        format!("SAVEPOINT s;\n{body}ROLLBACK TO s;\n")
    }

    fn change(&mut self) -> String {
        if self.once_in(50) {
            let tables = ["plain", "two, plain", "composed", "named", "whole", "made_up", "parts", "parts_1, whole"];
            return format!("TRUNCATE {};\n", self.pick(&tables));
        }
        match self.below(9) {
            0 | 1 => self.plain(),
            2 => self.two(),
            3 => self.composed(),
            4 => self.named(),
            5 => self.whole(),
            6 => self.made_up(),
            7 => self.parts(),
            _ => self.shifting(),
        }
    }

    fn plain(&mut self) -> String {
        let (id, other, share, text, long) = (self.key(), self.key(), self.below(5), self.text(), self.long());
        attempt(&match self.below(10) {
            0 | 1 => format!("INSERT INTO plain VALUES ({id}, {other}, {text}, {long})"),
            2 => format!(
                "INSERT INTO plain SELECT g, {other}, {text}, NULL FROM generate_series({id}, {id} + 20) g
                 ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n"
            ),
            3 => format!("UPDATE plain SET n = n + 1 WHERE id % 5 = {share}"),
            4 => format!("UPDATE plain SET v = {text} WHERE id = {id}"),
            5 => format!("UPDATE plain SET w = {long}, n = NULL WHERE id = {id}"),
            6 => format!("UPDATE plain SET id = {other} WHERE id = {id}"),
            7 => format!("UPDATE plain SET id = id + 1000, v = {text} WHERE id % 5 = {share} AND id < 1000"),
            8 => format!("DELETE FROM plain WHERE id = {id} OR id > 1000"),
            _ => format!("DELETE FROM plain WHERE id % 5 = {share}"),
        })
    }

    /// The second unique column's values move between rows: an order of their own is the only one without a clash.
    fn two(&mut self) -> String {
        let (a, other, b, text) = (self.key(), self.key(), self.key(), self.text());
        attempt(&match self.below(5) {
            0 | 1 => format!("INSERT INTO two VALUES ({a}, {b}, {text})"),
            2 => format!("UPDATE two SET b = {b}, v = {text} WHERE a = {a}"),
            3 => format!("DELETE FROM two WHERE a = {a}; UPDATE two SET a = {a} WHERE a = {other}"),
            _ => format!(
                "UPDATE two SET b = 500 + b WHERE a IN ({a}, {other});
                 UPDATE two SET b = (SELECT max(b) FROM two WHERE b > 500) - 500 WHERE a = {a};
                 UPDATE two SET b = {b} WHERE a = {other}; UPDATE two SET b = NULL WHERE b > 500"
            ),
        })
    }

    fn composed(&mut self) -> String {
        let (text, long, k1) = (self.text(), self.long(), self.pick(&["'a'", "'a '", "'ab\\'", "''''", "''"]));
        let (k2, other) = (self.pick(&["1", "1.00", "-2.5", "0"]), self.pick(&["1.0", "3", "'NaN'"]));
        attempt(&match self.below(5) {
            0 | 1 => format!("INSERT INTO composed (k1, k2, v, w) VALUES ({k1}, {k2}, {text}, {long})"),
            2 => format!("UPDATE composed SET v = {text} WHERE k1 = {k1}"),
            3 => format!("UPDATE composed SET k2 = {other}, v = {text} WHERE k1 = {k1} AND k2 = {k2}"),
            _ => format!("DELETE FROM composed WHERE k2 = {other} OR k1 = {k1} AND k2 = {k2}"),
        })
    }

    fn named(&mut self) -> String {
        let (pk, other, code, long) = (self.key(), self.key(), self.below(30), self.long());
        attempt(&match self.below(5) {
            0 | 1 => format!("INSERT INTO named VALUES ({pk}, 'code {code}', {long})"),
            2 => format!("UPDATE named SET pk = {other} WHERE pk = {pk}"),
            3 => format!("UPDATE named SET code = 'code {code}' WHERE pk = {pk}"),
            _ => format!("DELETE FROM named WHERE code = 'code {code}'"),
        })
    }

    /// Rows come several times, so what is changed is one of those that are alike.
    fn whole(&mut self) -> String {
        let (x, text, long) = (self.below(4), self.text(), self.long());
        let one = format!("ctid = (SELECT ctid FROM whole WHERE x = {x} LIMIT 1)");
        match self.below(6) {
            0 | 1 => format!("INSERT INTO whole SELECT {x}, {text}, {long}, NULL FROM generate_series(1, 2);\n"),
            2 => format!("UPDATE whole SET n = coalesce(n, 0) + 1 WHERE {one};\n"),
            3 => format!("UPDATE whole SET w = NULL, v = {text} WHERE {one};\n"),
            4 => format!("UPDATE whole SET x = (x + 1) % 4 WHERE x = {x} AND n IS NULL;\n"),
            _ => format!("DELETE FROM whole WHERE {one};\n"),
        }
    }

    fn made_up(&mut self) -> String {
        let (id, n) = (self.key(), self.key());
        match self.below(3) {
            0 => format!("INSERT INTO made_up VALUES ({id}, {n}) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n;\n"),
            1 => format!("UPDATE made_up SET n = n + 1 WHERE id % 3 = {};\n", id % 3),
            _ => format!("DELETE FROM made_up WHERE id = {id};\n"),
        }
    }

    fn parts(&mut self) -> String {
        let (id, side, text) = (self.key(), self.below(2), self.text());
        attempt(&match self.below(4) {
            0 | 1 => format!("INSERT INTO parts VALUES ({id}, {side}, {text})"),
            2 => format!("UPDATE parts SET side = 1 - side WHERE id = {id}"),
            _ => format!("UPDATE parts SET v = {text} WHERE side = {side}; DELETE FROM parts WHERE id = {id}"),
        })
    }

    /// Rows of tables that DDL alters and makes.
    fn shifting(&mut self) -> String {
        let (id, n, text) = (self.key(), self.key(), self.text());
        if !self.altered.made.is_empty() && self.once_in(2) {
            let at = self.below(self.altered.made.len() as u64) as usize;
            let table = self.altered.made[at];
            return format!(
                "INSERT INTO made_{table} VALUES ({id}, {text}) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;
                 DELETE FROM made_{table} WHERE id = {n};\n"
            );
        }
        let column = self.altered.columns.last().map_or("c0".into(), |column| format!("c{column}"));
        attempt(&match self.below(6) {
            4 => format!("INSERT INTO rewritten VALUES ({id}, {n})"),
            5 => format!("UPDATE rewritten SET c = c + 1 WHERE id <> {id}; DELETE FROM rewritten WHERE id = {n}"),
            0 | 1 => format!("INSERT INTO shifting (id, c0, u, v) VALUES ({id}, {n}, {n}, {text})"),
            2 => format!("UPDATE shifting SET {column} = {n}, v = {text} WHERE id % 4 = {}", id % 4),
            _ => format!("DELETE FROM shifting WHERE id = {id}; UPDATE shifting SET u = {n} WHERE id = {n}"),
        })
    }

    fn ddl(&mut self) -> String {
        let step = self.step;
        match self.below(6) {
            0 => {
                self.altered.columns.push(step);
                format!("ALTER TABLE shifting ADD COLUMN IF NOT EXISTS c{step} bigint DEFAULT {step};\n")
            }
            1 => self.altered.columns.pop().map_or_else(String::new, |column| {
                self.altered.columns.retain(|other| *other != column);
                format!("ALTER TABLE shifting DROP COLUMN c{column};\n")
            }),
            2 => {
                self.altered.is_unique = !self.altered.is_unique;
                match self.altered.is_unique {
                    true => "UPDATE shifting SET u = id; CREATE UNIQUE INDEX shifting_u ON shifting (u);\n".into(),
                    false => "DROP INDEX shifting_u;\n".into(),
                }
            }
            3 => {
                self.altered.is_wide = !self.altered.is_wide;
                format!("ALTER TABLE rewritten ALTER c TYPE {};\n", if self.altered.is_wide { "bigint" } else { "int" })
            }
            4 if !self.altered.made.contains(&step) => {
                self.altered.made.push(step);
                format!(
                    "CREATE TABLE made_{step} (id int PRIMARY KEY, v text);
                     INSERT INTO made_{step} SELECT g, g FROM generate_series(1, 30) g;\n"
                )
            }
            _ => self.altered.made.pop().map_or_else(String::new, |table| format!("DROP TABLE made_{table};\n")),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.within(0..end)
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len() as u64) as usize]
    }

    fn key(&mut self) -> u64 {
        self.below(40)
    }

    fn text(&mut self) -> &'static str {
        self.pick(&["NULL", "''", "'x'", "E'tab\\tback\\\\slash\\nline'", "'\\N'", "'ß 漢 🐘'", "'\"quoted\", {a}'"])
    }

    /// Too long to be kept in the row.
    fn long(&mut self) -> String {
        if self.once_in(4) { "NULL".into() } else { format!("repeat('long {} ', 400)", self.below(1000)) }
    }
}

fn attempt(statement: &str) -> String {
    format!("SELECT attempt($attempt${statement}$attempt$);\n")
}
