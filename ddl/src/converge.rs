//! One object: found, made, altered or dropped.

use std::borrow::Cow;

use crate::apply::Context;
use crate::error::Failure;
use crate::message::{Change, Message};
use crate::outcome::{Table, Verb};
use crate::session::Session;
use crate::state::State;
use crate::statement::Statement;
use crate::turn::Turn;
use crate::{kinds, names, privileges, quote, sequence, table, version};

/// An object that waits until everything else of the message is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The first.
    Main,
    /// The second: all tables are there.
    Last,
}

/// Makes the target's object what the change says, if there is something to be.
pub(crate) async fn apply<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    let limited = |state: &Option<State>| state.as_ref().is_some_and(|state| state.limited.is_some());
    if let Some(why) = &change.failed {
        context.skip(&change.object(), format!("the source could not describe it: {why}"));
        return Ok(());
    }
    if let Some(extension) = &change.member_of {
        return join_extension(context, change, extension).await;
    }
    match (&change.before, &change.after) {
        _ if limited(&change.after) || limited(&change.before) && change.after.is_none() => {
            privileges::grant(context, change).await
        }
        (Some(before), None) => drop(context, (message, change), before, pass).await,
        (_, Some(after)) => converge(context, message, change, after, pass).await,
        (None, None) => Ok(()),
    }
}

/// It became a part of an extension. If the extension is not there yet, its script will take the object.
async fn join_extension<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
    extension: &str,
) -> Result<(), Failure<S::Error>> {
    const THERE: &str = "SELECT FROM pg_extension WHERE extname = $1::text";
    let Some(before) = &change.before else { return Ok(()) };
    let there = !context.ask(&before.object, THERE, &[Some(extension)]).await?.is_empty();
    let Some(now) = context.look(&change.class, before).await?.filter(|_| there) else { return Ok(()) };
    let add = format!("ALTER EXTENSION {} ADD {}", quote::identifier(extension), now.object);
    context.run(&now.object, &Statement::new(add)).await?;
    context.note(Verb::Altered, &now);
    Ok(())
}

/// What goes only because what it belongs to does is left for the end: most often it is gone then.
async fn drop<S: Session + Send>(
    context: &mut Context<'_, S>,
    (message, change): (&Message, &Change),
    before: &State,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    if (change.auto || before.owned_by.is_some()) && pass == Pass::Main && !message.is_tick() {
        context.postpone(change);
        return Ok(());
    }
    let is_successor = |state: &State| state.identity == before.identity;
    let again = message.changes.iter().filter(|other| other.class == change.class).filter_map(|c| c.after.as_ref());
    if pass == Pass::Last && again.into_iter().any(is_successor) {
        return Ok(());
    }
    let Some(now) = context.find(change, before).await?.filter(|now| now.kind == before.kind) else {
        return Ok(());
    };
    if change.class == "pg_namespace" {
        drop_shells(context, &now).await?;
    }
    // A base type and its functions need each other.
    let cascade = if now.type_kind.as_deref() == Some("base") { " CASCADE" } else { "" };
    let role = role_of(context, &change.class, &now).await?;
    let statement = Statement::new(format!("DROP {}{cascade}", now.object))
        .with_rights_of(role.as_deref())
        .creating_in(now.schema.as_deref());
    context.run(&now.object, &statement).await?;
    context.note(Verb::Dropped, before);
    context.identify(change, None).await
}

/// Operators that were only ever named as the commutator or negator of another one: the source does not tell of them.
async fn drop_shells<S: Session + Send>(context: &mut Context<'_, S>, schema: &State) -> Result<(), Failure<S::Error>> {
    const SHELLS: &str = "SELECT o.oid::regoperator FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace \
                           WHERE n.nspname = $1::text AND o.oprcode = 0";
    for row in context.ask(&schema.object, SHELLS, &[schema.name.as_deref()]).await? {
        let name = row.into_iter().next().flatten().unwrap_or_default();
        context.run(&schema.object, &Statement::new(format!("DROP OPERATOR {name}"))).await?;
    }
    Ok(())
}

/// What the target's version can have of the states.
async fn converge<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    after: &State,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    let known = |state| version::known_to(context.options.server_version, state);
    let ((after, left_out), before) = (known(after), change.before.as_ref().map(known));
    let (before, said) = before.unzip();
    if matches!((&after, &before), (Cow::Borrowed(_), None | Some(Cow::Borrowed(_)))) {
        return converge_known(context, message, change, &after, pass).await;
    }
    let new = left_out.into_iter().filter(|why| pass == Pass::Main && !said.iter().flatten().any(|said| said == why));
    new.for_each(|why| context.skip(&after.object, why));
    let change = Change { before: before.map(Cow::into_owned), ..change.clone() };
    converge_known(context, message, &change, &after, pass).await
}

async fn converge_known<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    after: &State,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    let found = names::locate(context, message, change, after).await?;
    let waits = found.as_ref().map_or(sequence::is_identity(after), |now| sequence::moves_with_table(now, after));
    if waits && pass == Pass::Main {
        context.postpone(change);
        return Ok(());
    }
    let is_new = change.before.is_none() && pass == Pass::Main;
    if found.is_some() && is_new && names::is_in_the_way(context, message, change, after).await? {
        return Err(unable(after, "what had its name is still needed"));
    }
    let version = context.options.server_version;
    if let Some(why) = kinds::impossible(found.as_ref(), change.before.as_ref(), after, version) {
        return Err(unable(after, why));
    }
    let (made, now) = match found {
        Some(now) => (false, now),
        None => (true, make(context, message, change, after).await?),
    };
    let ran = alter(context, message, change, (now, after, made), pass).await?;
    if made || ran {
        context.note(if made { Verb::Created } else { Verb::Altered }, after);
    }
    if pass == Pass::Main {
        note_rewritten(context, change, after, made);
        note_tablespaces(context, change, after);
        postpone_rest(context, message, change, after);
    }
    privileges::grant(context, change).await
}

fn unable<E: std::error::Error>(state: &State, why: &str) -> Failure<E> {
    let hint = "remove what is in the way on the target, or make the object by hand and `skip`";
    Failure::Unable { object: state.object.clone(), why: why.to_owned(), hint }
}

/// A table whose rows the stream has not (any more): also one that was lost here, or that a skipped transaction made.
fn note_rewritten<S: Session + Send>(context: &mut Context<'_, S>, change: &Change, after: &State, made: bool) {
    let stored = after.partition_key.is_none() && after.persistence.is_none();
    let lost = made && change.before.is_some() && stored;
    if let (true, "table", Some(schema), Some(name)) =
        (change.rewritten || lost, after.kind.as_str(), &after.schema, &after.name)
    {
        context.outcome.recopy.push(Table { schema: schema.clone(), name: name.clone() });
    }
}

fn note_tablespaces<S: Session + Send>(context: &mut Context<'_, S>, change: &Change, after: &State) {
    const WHY: &str = "its tablespace is each server's own";
    let before = change.before.as_ref();
    if before.map_or(&None, |before| &before.tablespace) != &after.tablespace {
        context.skip(&after.object, WHY);
    }
    for index in &after.indexes {
        let old = before.and_then(|before| before.indexes.iter().find(|old| old.oid == index.oid));
        if old.map_or(&None, |old| &old.tablespace) != &index.tablespace {
            context.skip(&format!("INDEX {}", index.name), WHY);
        }
    }
}

/// Foreign keys to tables, and columns of tables, that may still be to come.
fn postpone_rest<S: Session + Send>(context: &mut Context<'_, S>, message: &Message, change: &Change, after: &State) {
    let keys = crate::order::makes_tables(message) && after.constraints.iter().any(|constraint| constraint.kind == "f");
    let owned = after.kind == "sequence" && after.owned_by.as_ref().is_some_and(|of| !of.identity);
    if keys || owned {
        context.postpone(change);
    }
}

/// An object that is not there.
async fn make<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    after: &State,
) -> Result<State, Failure<S::Error>> {
    if context.leave_extension(&change.class, after).await? {
        return seen(context, &change.class, after).await;
    }
    let role = role_of(context, &change.class, after).await?;
    let role = role.filter(|_| !kinds::needs_login(&change.class, after));
    for statement in kinds::create(&change.class, after, message, context.options.server_version) {
        let schema = if change.class == "pg_namespace" { Some("") } else { after.schema.as_deref() };
        let statement = statement.with_rights_of(role.as_deref()).creating_in(schema);
        run_one(context, &change.class, after, &statement).await?;
    }
    seen(context, &change.class, after).await
}

/// The state of what has to be there by now.
async fn seen<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    after: &State,
) -> Result<State, Failure<S::Error>> {
    let what = "it is not described though it is there".to_owned();
    context.look(class, after).await?.ok_or_else(|| Failure::Answer { object: after.object.clone(), what })
}

/// Runs the phases of an object; whether anything ran.
async fn alter<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    (mut now, after, made): (State, &State, bool),
    pass: Pass,
) -> Result<bool, Failure<S::Error>> {
    let mut before = change.before.as_ref().filter(|before| before.limited.is_none() && !made);
    let role = role_of(context, &change.class, after).await?;
    let waits = if after.kind == "sequence" { after.owned_by.is_some() } else { crate::order::makes_tables(message) };
    let references = pass == Pass::Last || !waits;
    let (server_version, key_waits, rewritten) =
        (context.options.server_version, context.options.key_waits(), change.rewritten);
    let mut ran = false;
    for (number, phase) in kinds::phases(&change.class, after).iter().enumerate() {
        let role = role.as_deref();
        let turn = Turn { now: &now, before, after, message, server_version, key_waits, rewritten, role, references };
        let statements = phase(&turn);
        for statement in &statements {
            ran |= run_one(context, &change.class, after, statement).await?;
        }
        if !statements.is_empty() {
            before = before.filter(|_| !statements.iter().any(|statement| statement.anew));
            now = seen(context, &change.class, after).await?;
        }
        // from here on it has its name, and everything else is the owner's to do
        if number == 0 {
            let renamed = change.before.as_ref().is_some_and(|before| before.identity != after.identity);
            if renamed || crate::order::has_predecessor(message, change) {
                context.identify(change, Some(&now)).await?;
            }
            privileges::own(context, &change.class, &now, after).await?;
        }
    }
    Ok(ran)
}

/// Foreign keys that a message's altered tables lost, before the keys that they needed.
pub(crate) async fn drop_foreign_keys<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
) -> Result<(), Failure<S::Error>> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Ok(()) };
    let key = |state: &State| state.constraints.iter().any(|constraint| constraint.kind == "f");
    if !key(before) {
        return Ok(());
    }
    let Some(now) = context.find(change, before).await? else { return Ok(()) };
    let role = role_of(context, &change.class, &now).await?;
    let (server_version, key_waits, rewritten) =
        (context.options.server_version, context.options.key_waits(), change.rewritten);
    let (before, role, references) = (Some(before), role.as_deref(), true);
    let turn = Turn { now: &now, before, after, message, server_version, key_waits, rewritten, role, references };
    for statement in table::drop_foreign_keys(&turn) {
        run_one(context, &change.class, after, &statement).await?;
    }
    Ok(())
}

/// Runs a statement, or what is to be done instead if the server refuses it; whether anything was done. Options that may
/// be secrets are not shown.
async fn run_one<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    after: &State,
    statement: &Statement,
) -> Result<bool, Failure<S::Error>> {
    let mut statement = statement.clone();
    if statement.creates_in.is_none() {
        let of_table = after.table.as_deref().and_then(quote::split).map(|(schema, _)| schema);
        statement.creates_in =
            if class == "pg_namespace" { Some(String::new()) } else { after.schema.clone().or(of_table) };
    }
    if kinds::has_secrets(class, after)
        && let Some((start, _)) = statement.sql.split_once("OPTIONS (")
    {
        let shown = format!("{start}OPTIONS (…)");
        statement = statement.shown_as(shown);
    }
    context.run_or_else(&after.object, &statement).await
}

/// The owner of an object, or of the table that it belongs to.
pub(crate) async fn role_of<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    state: &State,
) -> Result<Option<String>, Failure<S::Error>> {
    match (&state.owner, &state.table) {
        _ if kinds::needs_login(class, state) => Ok(None),
        _ if class == "pg_user_mapping" => context.owner_of_server(state).await,
        (Some(owner), _) => Ok(Some(owner.clone())),
        (None, Some(table)) => context.owner_of(&state.object, table).await,
        (None, None) => Ok(None),
    }
}
