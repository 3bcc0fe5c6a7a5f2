//! docs/ddl.md speaks of every command that the server has, and for each the tests show that what it says is so.

use std::process::Command;

use cluster::{Cluster, installations};

use crate::corpus::{ALTERED, DROPPED, MADE};
use crate::forms::FORMS;
use crate::looks::REPORTED;
use crate::table_driven::CASES;

const DOCUMENT: &str = include_str!("../../../docs/ddl.md");
/// Tests of what a look finds, and of roles.
const LOOKS: [&str; 3] =
    [include_str!("looks.rs"), include_str!("../roles/role.rs"), include_str!("../roles/grants.rs")];

/// Commands in the row of the document's table that begins so, without what else their code says.
fn documented(row: &str) -> Vec<&'static str> {
    let section = DOCUMENT.split("## Commands\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let line = section.lines().find(|line| line.starts_with(&format!("| {row} |"))).expect(row);
    line.split('`').skip(1).step_by(2).collect()
}

/// What psql knows, by `\h`: two columns of 33.
fn help(server: &Cluster, topic: &str) -> String {
    let psql = server.installation().client("psql").expect("no psql");
    let conninfo = server.conninfo("postgres").to_string();
    let output = Command::new(psql).args(["-X", "-d", &conninfo, "-c", &format!("\\h {topic}")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn commands(server: &Cluster) -> Vec<String> {
    const WIDTH: usize = 33;
    let text = help(server, "");
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    let columns = lines.flat_map(|line| [line.get(..WIDTH).unwrap_or(line), line.get(WIDTH..).unwrap_or("")]);
    columns.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// What can be commented on, as `\h COMMENT` lists it: `TEXT SEARCH PARSER object_name |`.
fn commented(server: &Cluster) -> Vec<String> {
    let text = help(server, "COMMENT");
    let list = text.split("COMMENT ON\n{").nth(1).unwrap().split("\n}").next().unwrap();
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let kind = |line: &str| {
        let words = line.split_whitespace().filter(|word| !matches!(*word, "[" | "PROCEDURAL" | "]"));
        words.take_while(is_word).collect::<Vec<_>>().join(" ")
    };
    list.lines().map(kind).filter(|kind| !kind.is_empty()).collect()
}

/// Every statement of the corpus, in lower case and without words that may stand inside a command's name.
fn statements() -> Vec<String> {
    let groups = FORMS.iter().flat_map(|(_, statements)| *statements).chain(CASES.iter().flat_map(|case| case.sql));
    let texts = [MADE, ALTERED, DROPPED].into_iter().flatten().chain(groups);
    let parts = texts.flat_map(|text| text.split("; ")).map(plain);
    parts.collect()
}

fn plain(statement: &str) -> String {
    const BESIDE: &[&str] =
        &[" or replace", " unlogged", " unique", " trusted", " default", " recursive", " constraint"];
    let mut text = format!(" {}", statement.trim().to_lowercase());
    if let Some((_, rest)) = text.split_once(": ").filter(|(version, _)| version.trim().parse::<u32>().is_ok()) {
        text = format!(" {rest}");
    }
    if !text.starts_with(" create") {
        return text.trim_start().to_owned();
    }
    let (head, tail) = text.split_at(text.char_indices().nth(30).map_or(text.len(), |(at, _)| at));
    let head = BESIDE.iter().fold(head.to_owned(), |head, word| head.replacen(word, "", 1));
    format!("{}{tail}", head.trim_start())
}

fn is_in(statements: &[String], command: &str) -> bool {
    let starts = |words: &str| statements.iter().any(|statement| statement.starts_with(words));
    match command {
        "CREATE TABLE AS" => statements.iter().any(|s| s.starts_with("create table") && s.contains(" as select ")),
        "SELECT INTO" => statements.iter().any(|s| s.starts_with("select") && s.contains(" into ")),
        _ => starts(&format!("{} ", command.to_lowercase())),
    }
}

const ROWS: [&str; 4] = ["arrives", "arrives with the next look", "is reported", "defines nothing"];

#[test]
fn the_document_has_every_command_and_no_other() {
    let documented: Vec<&str> = ROWS.iter().flat_map(|row| documented(row)).collect();
    for (at, command) in documented.iter().enumerate() {
        assert!(!documented[at + 1..].contains(command), "{command} is in the table twice");
    }
    let mut newest = Vec::new();
    for installation in installations().unwrap() {
        let server = Cluster::builder().installation(installation).start().unwrap();
        newest = commands(&server);
        let missing: Vec<_> = newest.iter().filter(|name| !documented.contains(&name.as_str())).collect();
        assert!(missing.is_empty() && newest.len() > 150, "docs/ddl.md does not speak of {missing:?}");
    }
    let unknown: Vec<_> = documented.iter().filter(|name| !newest.iter().any(|known| known == *name)).collect();
    assert!(unknown.is_empty(), "docs/ddl.md speaks of {unknown:?}");
}

#[test]
fn the_tests_have_every_command_that_arrives_or_is_reported() {
    let corpus = statements();
    let is_elsewhere = |command: &str| LOOKS.iter().any(|test| test.contains(&format!("{} ", command.to_lowercase())));
    let missing =
        documented("arrives").into_iter().filter(|command| !is_in(&corpus, command) && !is_elsewhere(command));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "not in the corpus");
    let found = documented("arrives with the next look").into_iter();
    let missing: Vec<_> = found.filter(|command| !is_elsewhere(command)).collect();
    assert!(missing.is_empty(), "not among what looks find: {missing:?}");
    let reported: Vec<_> = REPORTED.iter().flat_map(|(text, _)| text.split("; ")).map(plain).collect();
    let missing: Vec<_> = documented("is reported").into_iter().filter(|command| !is_in(&reported, command)).collect();
    // no provider of labels comes with a server
    assert_eq!(missing, ["SECURITY LABEL"], "not among what is reported");
}

#[test]
fn comments_on_everything_that_can_have_one_arrive_or_are_reported() {
    let server = Cluster::builder().start().unwrap();
    let kinds = commented(&server);
    assert!(kinds.len() > 40, "{kinds:?}");
    let mut texts = statements();
    texts.extend(REPORTED.iter().flat_map(|(text, _)| text.split("; ")).map(plain));
    let is_commented = |kind: &&String| {
        let words = format!("comment on {} ", kind.to_lowercase());
        texts.iter().any(|text| text.starts_with(&words)) || LOOKS.iter().any(|test| test.contains(&words))
    };
    let missing: Vec<_> = kinds.iter().filter(|kind| !is_commented(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
