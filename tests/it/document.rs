//! Documents that are run as they stand.
//!
//! Blocks are taken out of a document in order and done as a reader would, in one shell: `sh` is typed into it, `sql` is fed
//! to the program that its first line names (`-- psql service=source`), `toml` is saved as the file that its first line
//! names (`# walcast.toml`). A `text` block is what the block before it prints, where `…` stands for anything within a line,
//! or, alone, for any number of lines; white space counts as one space. Any other block is for reading only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cluster::{Installation, installations};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::postgres::versions;
use crate::service::{CATCH_UP, until};

/// Reads names of scripts, runs each in this shell, and answers with the line that failed, or 0. At the end of its input,
/// however that comes about, it stops what the scripts started.
const DRIVER: &str = r#"
cleanup() {
    kill -9 $(jobs -p)
    for pid in $(find "$HOME" -name postmaster.pid); do pg_ctl --pgdata="${pid%/*}" --mode=immediate --silent stop; done
} 2> /dev/null
trap cleanup EXIT
while read -r _script; do
    _failed=0
    trap '_failed=$LINENO' ERR
    source "$_script" < /dev/null > "$_script.out" 2>&1
    trap - ERR
    echo "$_failed"
done
"#;

/// A part of a document between three backquotes.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) language: String,
    /// Its first line's number in the document.
    pub(crate) line: usize,
    /// Without the fences.
    pub(crate) text: String,
    /// The heading above it.
    pub(crate) heading: String,
}

/// The blocks of a markdown text, in order.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let (mut found, mut open, mut heading) = (Vec::new(), None::<Block>, String::new());
    for (line, number) in document.lines().zip(1..) {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let (language, heading) = (language.to_owned(), heading.clone());
                open = Some(Block { language, line: number + 1, text: String::new(), heading });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    found
}

/// The repository's file of this name.
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A reader's shell, in a directory of its own.
pub(crate) struct Reader {
    shell: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    home: TempDir,
    scripts: usize,
    /// What the last block printed, and the script that it was.
    last: (PathBuf, String),
}

impl Reader {
    /// With walcast and PostgreSQL on its PATH. Root's is another user's, as PostgreSQL does not run as root.
    pub(crate) fn new() -> Reader {
        let (installation, _) = versions(0);
        Reader::with(&installation, &installation)
    }

    /// With PostgreSQL's oldest version on its PATH, and the programs of the newest in `NEW`.
    pub(crate) fn of_oldest_and_newest() -> Reader {
        let all = installations().unwrap();
        Reader::with(all.first().unwrap(), all.last().unwrap())
    }

    fn with(installation: &Installation, new: &Installation) -> Reader {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // The user may not be able to enter the directory that it was built in.
        fs::copy(env!("CARGO_BIN_EXE_walcast"), bin.join("walcast")).unwrap();
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(home.path().join(".psqlrc"), "\\set ON_ERROR_STOP on\n\\pset pager off\n").unwrap();
        let mut command = Command::new("bash");
        if geteuid().is_root() {
            let passwd = fs::read_to_string("/etc/passwd").unwrap();
            let postgres = passwd.lines().find(|line| line.starts_with("postgres:")).expect("no user \"postgres\"");
            let ids: Vec<u32> = postgres.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
            chown(home.path(), Some(ids[0]), Some(ids[1])).unwrap();
            command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "bash"]);
        }
        let inherited = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{inherited}", bin.display(), installation.bin_dir().display());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command
            .args(["--norc", "-c", DRIVER])
            .env("HOME", home.path())
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env("NEW", new.bin_dir());
        command.env_remove("WALCAST_LOG").env_remove("WALCAST_LOG_FORMAT").current_dir(home.path());
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        Reader { shell, input, output, home, scripts: 0, last: <_>::default() }
    }

    /// Does what the blocks of a document say. `until` is the heading at which to stop; without, all of it is done.
    pub(crate) fn follow(&mut self, name: &str, until: Option<&str>) {
        let text = read(name);
        let all = blocks(&text);
        let end = until.map_or(all.len(), |heading| {
            all.iter().position(|b| b.heading == heading).unwrap_or_else(|| panic!("no blocks below \"{heading}\""))
        });
        self.follow_blocks(name, &all[..end]);
    }

    /// The rest of it, from this heading on.
    pub(crate) fn follow_from(&mut self, name: &str, heading: &str) {
        let all = blocks(&read(name));
        let begin = all.iter().position(|b| b.heading == heading).unwrap_or_else(|| panic!("no \"{heading}\""));
        self.follow_blocks(name, &all[begin..]);
    }

    fn follow_blocks(&mut self, name: &str, blocks: &[Block]) {
        assert!(!blocks.is_empty(), "nothing to do in {name}");
        for block in blocks {
            let place = format!("{name}:{}", block.line);
            match script(block) {
                Some(script) => self.run(&script, &place),
                None if block.language == "text" => self.compare(&block.text, &place),
                None => {}
            }
        }
    }

    /// Runs a script that has to succeed.
    pub(crate) fn run(&mut self, script: &str, place: &str) {
        let failed = self.attempt(script);
        assert_eq!(
            failed,
            "0",
            "{place}: this line failed of\n{script}\nit printed:\n{}\n{}",
            self.last.1,
            self.logs()
        );
    }

    /// Runs a script; says which line failed.
    fn attempt(&mut self, script: &str) -> String {
        self.scripts += 1;
        let path = self.home.path().join(format!("{}.sh", self.scripts));
        fs::write(&path, script).unwrap();
        self.last.0 = path;
        self.again()
    }

    /// Runs the last script again; says which line failed.
    fn again(&mut self) -> String {
        let script = self.last.0.display();
        writeln!(self.input.as_mut().unwrap(), "{script}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        let printed = fs::read(format!("{script}.out")).unwrap_or_default();
        self.last.1 = without_jobs(&String::from_utf8_lossy(&printed));
        answer.trim().to_owned()
    }

    /// What the last script printed.
    pub(crate) fn printed(&self) -> &str {
        &self.last.1
    }

    /// Panics unless the last block printed this. A status may be asked for again until it says so.
    fn compare(&mut self, expected: &str, place: &str) {
        let script = fs::read_to_string(&self.last.0).unwrap();
        let read_only = |line: &str| line.starts_with("walcast status") || line.starts_with("walcast wait");
        if script.lines().all(read_only) && !fits(expected, &self.last.1) {
            until(&format!("{place}: what\n{script}printed becomes\n{expected}"), CATCH_UP, || {
                self.again();
                fits(expected, &self.last.1)
            });
        }
        let printed = &self.last.1;
        assert!(fits(expected, printed), "{place} says\n{expected}\nbut printed was\n{printed}\n{}", self.logs());
    }

    /// The ends of what services and servers wrote.
    fn logs(&self) -> String {
        let find = Command::new("find").arg(self.home.path()).args(["-name", "*.log"]).output().unwrap();
        let paths = String::from_utf8(find.stdout).unwrap();
        let tail = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{path}:\n{}\n", lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        paths.lines().map(tail).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.shell.wait());
    }
}

/// What a block asks to be done, as a script.
fn script(block: &Block) -> Option<String> {
    let first = block.text.lines().next().unwrap_or_default();
    let named = |mark: &str| {
        let name = first.strip_prefix(mark);
        name.unwrap_or_else(|| panic!("line {}: the first line does not begin with \"{mark}\"", block.line)).to_owned()
    };
    let fed = |command: String| format!("{command} <<'END_OF_BLOCK'\n{}END_OF_BLOCK\n", block.text);
    match block.language.as_str() {
        "sh" => Some(block.text.clone()),
        "sql" => Some(fed(named("-- "))),
        "toml" => Some(fed(format!("cat > {}", named("# ")))),
        _ => None,
    }
}

/// Without what a shell says of jobs that were killed.
fn without_jobs(printed: &str) -> String {
    let about_job =
        |line: &str| line.contains(": line ") && (line.contains(" Killed ") || line.contains(" Terminated "));
    printed.lines().filter(|line| !about_job(line)).map(|line| format!("{line}\n")).collect()
}

/// Whether a text is as a document shows it.
fn fits(expected: &str, printed: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.trim_end().lines().map(words).collect()
    };
    matches(&lines(expected), &lines(printed), &|wanted| wanted == "…", &|wanted, found| {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        matches(&chars(wanted), &chars(found), &|c| *c == '…', &|a, b| a == b)
    })
}

/// Whether a sequence is the same as one with wild cards.
fn matches<T>(pattern: &[T], found: &[T], wild: &dyn Fn(&T) -> bool, same: &dyn Fn(&T, &T) -> bool) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return found.is_empty() };
    match wild(first) {
        true => (0..=found.len()).any(|skipped| matches(rest, &found[skipped..], wild, same)),
        false => found.split_first().is_some_and(|(f, others)| same(first, f) && matches(rest, others, wild, same)),
    }
}

#[test]
fn what_a_document_shows_is_compared_with_room_for_what_varies() {
    assert!(fits("a  b\n", "a b"));
    assert!(fits("has applied …", "has applied 0/1234"));
    assert!(fits("…\nlast …\n", "one\ntwo\nlast 7\n"));
    assert!(fits("first\n…\n", "first\n"));
    assert!(fits("lag … B …", "lag 12 B 0.1 s"));
    assert!(!fits("equal", "different"));
    assert!(!fits("first\n…\nlast", "first\nmiddle"));
    assert!(!fits("one", "one\ntwo"), "all that is printed has to be shown");
}

#[test]
fn blocks_know_their_language_and_place() {
    let found = blocks("# A\ntext\n```sh\nx\ny\n```\n## B\n\n```text\n# no heading\n```\n");
    let told: Vec<_> =
        found.iter().map(|b| (b.language.as_str(), b.line, b.text.as_str(), b.heading.as_str())).collect();
    assert_eq!(told, [("sh", 4, "x\ny\n", "A"), ("text", 10, "# no heading\n", "B")]);
}

#[test]
fn a_line_that_fails_is_found_and_the_shell_stays_as_it_was_left() {
    let mut reader = Reader::new();
    assert_eq!(reader.attempt("cd bin\nx=3\nfalse\ntrue\n"), "3");
    assert_ne!(reader.attempt("nosuchprogram <<'END'\nEND\n"), "0");
    assert_eq!(reader.attempt("test $x = 3\ntest ${PWD##*/} = bin\necho done\n"), "0");
    assert_eq!(reader.printed(), "done\n");
}
