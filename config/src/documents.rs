//! docs/reference/configuration.md, made from the example of a configuration, whose keys and types the parser is asked for.
//!
//! `WALCAST_WRITE_DOCS=1 cargo test -p walcast -p config documents` makes it anew.

use std::fmt::Write;
use std::path::Path;

use crate::Config;

const EXAMPLE: &str = include_str!("../walcast.example.toml");

const HEAD: &str = "\
# Configuration

Made from `config/walcast.example.toml`, which is a configuration with every key, and from what the parser says of each; not to be
edited. The file is `walcast.toml` in the working directory, or the one that `-c FILE` names. Unknown keys are errors, and every
complaint names file, line and column.

Sizes are digits and one of B, KiB, MiB, GiB, TiB (powers of 1024); times are digits and one of us, ms, s, m, h; \"0\" is zero of
either. Both are written in quotes.
";

/// What the parser says of a value that a key cannot have, and what such keys are then.
const TYPES: [(&str, &str); 15] = [
    ("is not a slot name", "name of a slot"),
    ("is not a publication name", "name of a publication"),
    ("is not a target name", "name of a target"),
    ("is not a size", "size"),
    ("is not a time", "time"),
    ("is not an address to listen on", "`host:port`"),
    ("is not a log level", "level or filter"),
    ("dir is not a path", "path"),
    ("expected a boolean", "boolean"),
    ("expected u32", "number"),
    ("is not a table pattern", "list of table patterns"),
    ("on_error has an empty part", "list of strings"),
    ("expected a sequence", "list of names of roles"),
    ("conninfo", "connection string"),
    ("connection", "connection string"),
];

/// Values that some key cannot have. An element of a list is refused later than what is no list.
const WRONG: [&str; 4] = ["[\"\"]", "\"\"", "\"=\"", "\"?\""];

struct Section {
    name: &'static str,
    meaning: String,
    keys: Vec<Key>,
}

struct Key {
    name: &'static str,
    /// As it is written; `None` for keys without a default.
    default: Option<&'static str>,
    meaning: String,
}

/// The sections of the example.
fn sections() -> Vec<Section> {
    let (mut sections, mut comment) = (Vec::<Section>::new(), String::new());
    for line in EXAMPLE.lines() {
        let text = line.strip_prefix("# ").or(line.strip_prefix('#'));
        let is_key = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase());
        if let Some(words) = line.strip_prefix("# ") {
            comment += if comment.is_empty() { "" } else { " " };
            comment += words;
        } else if line.starts_with('[') {
            let meaning = std::mem::take(&mut comment);
            sections.push(Section { name: line.trim_matches(['[', ']']), meaning, keys: Vec::new() });
        } else if is_key(text.unwrap_or(line)) {
            let (name, value) = text.unwrap_or(line).split_once(" = ").unwrap();
            let key = Key { name, default: text.map(|_| value), meaning: std::mem::take(&mut comment) };
            sections.last_mut().expect("keys are in sections").keys.push(key);
        } else {
            comment.clear();
        }
    }
    sections
}

/// A configuration with this line in a section, and what else is required.
fn with(section: &str, line: &str) -> Result<Config, String> {
    let given = |key: &str| line.split('=').next().is_some_and(|name| name.trim() == key);
    let mut text = String::new();
    let conninfo = |own| if own && given("conninfo") { "" } else { "conninfo = 'host=a'\n" };
    let (source, target) = (section == "source", section == "target");
    let name = if target && given("name") { "" } else { "name = 'a'\n" };
    let mut put = |header: &str, rest: String, own: bool| {
        text += &format!("{header}\n{rest}{}\n", if own { line } else { "" });
    };
    put("[source]", conninfo(source).to_owned(), source);
    put("[[target]]", format!("{name}{}", conninfo(target)), target);
    if !source && !target {
        put(&format!("[{section}]"), String::new(), true);
    }
    Config::parse(Path::new("walcast.toml"), &text).map_err(|error| error.to_string())
}

/// The keys that the parser takes in a section, as it says itself when it meets another one.
fn accepted(section: &str) -> Vec<String> {
    let complaint = with(section, "no_such_key = 1").unwrap_err();
    let (_, expected) = complaint.split_once("expected").unwrap_or_else(|| panic!("{complaint}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What a key's value is, by what the parser does not take.
fn kind(section: &str, key: &str) -> &'static str {
    let complaints = WRONG.iter().filter_map(|value| with(section, &format!("{key} = {value}")).err());
    let complaints: Vec<String> =
        complaints.filter(|complaint| !complaint.contains("invalid type: sequence")).collect();
    let found = TYPES.iter().find(|(said, _)| complaints.iter().any(|complaint| complaint.contains(said)));
    found.unwrap_or_else(|| panic!("no type for {section}.{key}, of which is said: {complaints:?}")).1
}

/// Whether a configuration without the key is none.
fn is_required(section: &str, key: &str) -> bool {
    let without = match section {
        "source" => "[source]\n".to_owned(),
        section => format!("[source]\nconninfo = 'host=a'\n[[{section}]]\n"),
    };
    let other = if (section, key) == ("target", "conninfo") { "name = 'a'\n" } else { "" };
    let parsed = Config::parse(Path::new("walcast.toml"), &(without + other));
    parsed.is_err_and(|error| error.to_string().contains(&format!("missing field `{key}`")))
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for section in sections() {
        let header = if section.name == "target" { "[[target]]".to_owned() } else { format!("[{}]", section.name) };
        write!(text, "\n## `{header}`\n\n{}\n\n", section.meaning).unwrap();
        text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in &section.keys {
            let default = match key.default {
                _ if is_required(section.name, key.name) => "required".to_owned(),
                Some(_) if section.name == "target" => "that of `[apply]`".to_owned(),
                Some(value) => format!("`{value}`"),
                None => panic!("{} has a value in the example and is not required", key.name),
            };
            let meaning = match key.meaning.as_str() {
                "" => "As in [apply], for this target alone.".to_owned(),
                text => text.trim_end_matches(" Required.").replace('|', "\\|"),
            };
            writeln!(text, "| `{}` | {} | {default} | {meaning} |", key.name, kind(section.name, key.name)).unwrap();
        }
    }
    text
}

#[test]
fn the_reference_of_the_configuration_is_made_from_the_example_and_the_parser() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/configuration.md");
    let text = reference();
    if std::env::var_os("WALCAST_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == found, "{} differs; hint: WALCAST_WRITE_DOCS=1 cargo test documents", path.display());
}

#[test]
fn the_example_has_every_key_that_the_parser_takes_and_no_other() {
    let sections = sections();
    for section in &sections {
        let mut keys: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
        let mut accepted = accepted(section.name);
        keys.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(keys, accepted, "[{}]", section.name);
    }
    let complaint = Config::parse(Path::new("x"), "[no_such_section]\n").unwrap_err().to_string();
    let accepted: Vec<&str> = complaint.split('`').skip(1).step_by(2).skip(1).collect();
    let mut names: Vec<&str> = sections.iter().map(|section| section.name).collect();
    names.sort_by_key(|name| accepted.iter().position(|other| other == name));
    assert_eq!(names, accepted);
}

#[test]
fn every_key_says_what_it_means() {
    let sections = sections();
    let keys = || sections.iter().flat_map(|section| section.keys.iter().map(move |key| (section.name, key)));
    assert!(keys().count() > 20);
    for (section, key) in keys() {
        // The keys of [apply] say it together.
        let together = section == "target" && ["batch_max_delay", "workers"].contains(&key.name);
        assert!(together || key.meaning.len() > 20, "[{section}] {}", key.name);
    }
}
