//! Commands and configurations that documents show: the program has to understand them.

use std::fs;
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use super::{documents, name};
use crate::cli::Cli;

/// A piece of a document that is to be looked at.
struct Piece {
    language: String,
    line: usize,
    text: String,
}

/// Blocks, and what stands between backquotes in the text, which has no language.
fn pieces(document: &str) -> Vec<Piece> {
    let (mut found, mut open) = (Vec::new(), None::<Piece>);
    for (line, number) in document.lines().zip(1..) {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Piece { language: language.to_owned(), line: number, text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(piece), None) => piece.text += &format!("{line}\n"),
            (None, None) => {
                let inline = line.split('`').skip(1).step_by(2);
                found.extend(inline.map(|t| Piece { language: String::new(), line: number, text: t.to_owned() }));
            }
        }
    }
    found
}

/// The commands of walcast in a line of a shell, as words. Of a text only what begins with its name.
fn commands(line: &str, inline: bool) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let mut parts: Vec<&str> = line.split(['|', ';', '&', '(', ')']).map(str::trim).collect();
    if inline {
        parts.truncate(1);
    }
    let words = |part: &str| -> Vec<String> {
        let part = part.split(['>', '<']).next().unwrap_or_default();
        shell_words(part.trim_end_matches([' ', '2']))
    };
    let wrappers = ["if", "until", "while", "!", "do", "then", "sudo", "nice"];
    let commands = parts.into_iter().map(words).map(|words| {
        words
            .into_iter()
            .skip_while(|word| wrappers.contains(&word.as_str()))
            .map(|word| without_place_holder(&word))
            .collect()
    });
    commands.filter(|words: &Vec<String>| words.len() > 1 && words[0] == "walcast").collect()
}

/// Words as a shell takes them apart, of which only quotes matter here.
fn shell_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What stands for a value that is for the reader to choose.
fn without_place_holder(word: &str) -> String {
    match word {
        "L" | "LSN" | "POSITION" | "$lsn" => "0/1".to_owned(),
        "N" | "S" => "1".to_owned(),
        "SIZE" => "1MiB".to_owned(),
        "SHELL" => "bash".to_owned(),
        _ => word.to_owned(),
    }
}

/// Why the program would not take it. A text may speak of a command or an option without what has to follow.
fn complaint(words: &[String], inline: bool) -> Option<String> {
    let incomplete = |error: &clap::Error| {
        error.kind() == ErrorKind::MissingRequiredArgument || error.to_string().contains("but none was supplied")
    };
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if inline && incomplete(&error) => None,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => None,
        Err(error) => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn every_command_line_in_the_documents_is_understood() {
    let (mut complaints, mut seen) = (Vec::new(), 0);
    for path in documents().iter().filter(|path| !path.ends_with("reference/commands.md")) {
        let text = fs::read_to_string(path).unwrap();
        for piece in pieces(&text).iter().filter(|piece| ["", "sh"].contains(&piece.language.as_str())) {
            let inline = piece.language.is_empty();
            for line in piece.text.lines() {
                for words in commands(line, inline) {
                    seen += 1;
                    let what = words.join(" ");
                    complaints.extend(
                        complaint(&words, inline).map(|c| format!("{}:{}: {what}: {c}", name(path), piece.line)),
                    );
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    assert!(seen > 50, "{seen} command lines found");
}

#[test]
fn every_configuration_in_the_documents_is_one() {
    let (mut complaints, mut seen) = (Vec::new(), 0);
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for piece in pieces(&text).into_iter().filter(|piece| piece.language == "toml") {
            seen += 1;
            let source = if piece.text.contains("[source]") { "" } else { "[source]\nconninfo = \"host=a\"\n" };
            let file = config::Config::parse(Path::new("walcast.toml"), &(piece.text + source));
            complaints.extend(file.err().map(|error| format!("{}:{}: {error}", name(&path), piece.line)));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    assert!(seen >= 3, "{seen} configurations found");
}

#[test]
fn commands_are_found_wherever_they_stand_in_a_line() {
    let found =
        |line, inline| -> Vec<String> { commands(line, inline).into_iter().map(|words| words.join("+")).collect() };
    assert_eq!(found("walcast setup && walcast check   # all", false), ["walcast+setup", "walcast+check"]);
    assert_eq!(found("walcast run 2>> walcast.log &", false), ["walcast+run"]);
    assert_eq!(found("until walcast status | grep x; do sleep 1; done", false), ["walcast+status"]);
    assert_eq!(
        found("walcast skip b --lsn L --reason \"by hand\"", true),
        ["walcast+skip+b+--lsn+0/1+--reason+by hand"]
    );
    assert!(found("walcast", true).is_empty() && found("walcast.skipped x", true).is_empty());
}

#[test]
fn what_does_not_exist_is_complained_about() {
    for line in ["walcast sttus", "walcast run --fast", "walcast skip berlin --lsn nonsense"] {
        let words = commands(line, true).remove(0);
        assert!(complaint(&words, true).is_some(), "{line}");
    }
    let words = commands("walcast pause", true).remove(0);
    assert!(complaint(&words, false).is_some() && complaint(&words, true).is_none());
}
