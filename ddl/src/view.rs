//! Views and materialized views.

use crate::quote;
use crate::state::State;
use crate::statement::Statement;
use crate::table::{self, Phase, comments, indexes, options, renamed};
use crate::turn::{Turn, renames, wanted};

/// The way of a view, in order.
pub(crate) const VIEW: &[Phase] = &[renames, columns, query, defaults, settings, comments::comments];
/// The way of a materialized view, in order. Its contents come with messages about REFRESH.
pub(crate) const MATERIALIZED: &[Phase] = &[
    renames,
    columns,
    query,
    indexes::drop,
    indexes::rename,
    indexes::changed,
    indexes::add,
    settings,
    dependence,
    populated,
    indexes::settings,
    comments::comments,
];

/// `CREATE VIEW` or `CREATE MATERIALIZED VIEW`.
pub(crate) fn create(after: &State) -> Statement {
    Statement::new(format!("CREATE {}", definition(after)))
}

fn definition(after: &State) -> String {
    let (name, query) = (after.sql_name(), query_of(after));
    let columns: Vec<_> = after.columns.iter().map(|column| quote::identifier(&column.name)).collect();
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let with = options::with(&after.parameters());
    if after.kind == "view" {
        return format!("VIEW {name}{list}{with} AS {query}");
    }
    let method = after.access_method.as_ref().map(|method| format!(" USING {}", quote::identifier(method)));
    let data = if after.populated == Some(false) { "WITH NO DATA" } else { "WITH DATA" };
    format!("MATERIALIZED VIEW {name}{list}{}{with} AS {query} {data}", method.unwrap_or_default())
}

fn query_of(state: &State) -> &str {
    state.query.as_deref().unwrap_or_default().trim().trim_end_matches(';')
}

fn columns(turn: &Turn<'_>) -> Vec<Statement> {
    let before = turn.before.map_or(&[][..], |before| &before.columns);
    let renames = renamed((&turn.now.columns, before, &turn.after.columns), |c| c.num, |c| &c.name);
    let sql = |(from, to): (String, String)| {
        format!("RENAME COLUMN {} TO {}", quote::identifier(&from), quote::identifier(&to))
    };
    renames.into_iter().map(|rename| turn.alter(&sql(rename))).collect()
}

/// What only adds columns replaces a view. No command alters the query of a materialized one: its text is another where
/// something that it names was renamed, or another version wrote it.
fn query(turn: &Turn<'_>) -> Vec<Statement> {
    let types = |state: &State| state.columns.iter().map(|c| (c.name.clone(), c.type_name.clone())).collect::<Vec<_>>();
    let is_view = turn.after.kind == "view";
    let rewritten = is_view && turn.changed(query_of);
    if !rewritten && !(turn.changed(types) && (is_view || turn.before.is_none())) {
        return Vec::new();
    }
    let (now, after) = (types(turn.now), types(turn.after));
    if is_view && after.starts_with(&now) {
        return vec![turn.statement(format!("CREATE OR REPLACE {}", definition(turn.after)))];
    }
    let drop = turn.statement(format!("DROP {}", turn.now.object)).anew();
    vec![drop, turn.statement(format!("CREATE {}", definition(turn.after)))]
}

/// Filled or emptied while nobody looked: of what was seen, a message tells that it was refreshed.
fn populated(turn: &Turn<'_>) -> Vec<Statement> {
    if !turn.changed(|state| state.populated) || turn.message.refresh.contains(&turn.after.identity) {
        return Vec::new();
    }
    let data = if turn.after.populated == Some(false) { "NO DATA" } else { "DATA" };
    vec![turn.statement(format!("REFRESH {} WITH {data}", turn.now.object))]
}

/// Defaults of a view's columns.
fn defaults(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    for after in &turn.after.columns {
        let Some(now) = turn.now.columns.iter().find(|now| now.name == after.name) else { continue };
        let before = turn.column_before(after).map(|before| &before.default);
        if wanted(&&now.default, before.as_ref(), &&after.default) {
            let what = after.default.as_ref().map_or_else(|| "DROP DEFAULT".into(), |d| format!("SET DEFAULT {d}"));
            statements.push(turn.alter(&format!("ALTER COLUMN {} {what}", quote::identifier(&after.name))));
        }
    }
    statements
}

fn settings(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements: Vec<_> = table::parameters(turn).iter().map(|what| turn.alter(what)).collect();
    if turn.after.kind != "materialized view" {
        return statements;
    }
    statements.extend(table::storage(turn));
    if turn.changed(|state| &state.access_method) {
        let method = turn.after.access_method.as_deref().unwrap_or("heap");
        statements.push(turn.alter(&format!("SET ACCESS METHOD {}", quote::identifier(method))));
    }
    statements
}

fn dependence(turn: &Turn<'_>) -> Vec<Statement> {
    turn.dependence()
}
