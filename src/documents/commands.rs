//! docs/reference/commands.md, from the definition of the command line.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use super::{assert_made, cell};
use crate::cli::Cli;

const HEAD: &str = "\
# Commands

Made from the command line's own definition, not to be edited. `walcast COMMAND --help` prints the same, `walcast man` writes it as
man pages, and `walcast completions` prints a script for a shell.

The exit status is 0 when a command has done what it says, 1 when it has not, and 2 when the command line cannot be understood. Errors
are on standard error: one line, and one that begins with `hint:`. `verify` exits with 1 if there are differences, `check` if a
requirement does not hold.

Commands to a running service go through `control.sock` in the log's directory. Without a service, `status`, `wait`, `verify`, `resync`,
`bootstrap`, `remove` and `log` work from the log and the targets, `pause` and `resume` are noted for its next start, and `skip` fails.

A position is written as PostgreSQL does, such as `16/B374D848`.
";

fn reference() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = format!("{HEAD}\n## Options of all commands\n\n");
    table(&mut text, command.get_arguments().filter(|argument| argument.is_global_set()));
    chapters(&mut text, &mut command, "walcast");
    text
}

/// A chapter for each command that does something by itself.
fn chapters(text: &mut String, command: &mut Command, path: &str) {
    for command in command.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        match command.has_subcommands() {
            true => chapters(text, command, &path),
            false => chapter(text, command, &path),
        }
    }
}

fn chapter(text: &mut String, command: &mut Command, path: &str) {
    let about = command.get_long_about().or(command.get_about()).expect("every command says what it does").to_string();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(text, "\n## `{path}`\n\n{about}.\n\n```text\n{usage}\n```\n").unwrap();
    let own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set() && argument.get_id() != "help";
    if command.get_arguments().any(|argument| own(&argument)) {
        text.push('\n');
        table(text, command.get_arguments().filter(own));
    }
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    text.push_str("| | default | meaning |\n| --- | --- | --- |\n");
    for argument in arguments.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version")) {
        let names = cell(&names(argument));
        writeln!(text, "| {names} | {} | {} |", default(argument), cell(&meaning(argument))).unwrap();
    }
}

/// How it is written.
fn names(argument: &Arg) -> String {
    let values: Vec<String> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let long = argument.get_long().map(|long| format!("--{long}"));
    let short = argument.get_short().map(|short| format!("-{short}"));
    let options: Vec<String> = short.into_iter().chain(long).collect();
    let takes_value = argument.get_action().takes_values();
    match (options.is_empty(), takes_value) {
        (true, _) => format!("`{}`", values.join(" ")),
        (false, true) => format!("`{} {}`", options.join("`, `"), values.join(" ")),
        (false, false) => format!("`{}`", options.join("`, `")),
    }
}

fn default(argument: &Arg) -> String {
    let values = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    match argument.get_action().takes_values() {
        true => values.collect::<Vec<_>>().join(" "),
        false => String::new(),
    }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).expect("every argument says what it is").to_string();
    let mut text = help.trim_end_matches('.').replace("\n\n", ". ");
    let values: Vec<String> = argument.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        write!(text, ": {}", values.join(", ")).unwrap();
    }
    if let Some(variable) = argument.get_env() {
        write!(text, ". Environment: `{}`", variable.to_string_lossy()).unwrap();
    }
    text
}

#[test]
fn the_reference_of_commands_is_made_from_the_code() {
    assert_made("docs/reference/commands.md", &reference());
}

#[test]
fn every_command_and_option_is_in_the_reference() {
    let text = reference();
    fn check(text: &str, command: &Command) {
        for argument in command.get_arguments().filter_map(Arg::get_long) {
            assert!(text.contains(&format!("--{argument}")) || ["help", "version"].contains(&argument), "--{argument}");
        }
        command.get_subcommands().for_each(|command| check(text, command));
    }
    check(&text, &Cli::command());
    for command in ["setup", "log dump", "completions", "teardown"] {
        assert!(text.contains(&format!("## `walcast {command}`")), "{command}");
    }
}
