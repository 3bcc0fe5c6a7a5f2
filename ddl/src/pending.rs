//! Objects that need what the target lacks: the table `walcast.pending_object` there.
//!
//! Where not all tables are replicated, a view of one that is not cannot be made. Neither can what needs that view. Such an
//! object is passed over and kept in mind as the source has it by now, whatever becomes of it, and tried again whenever a
//! message has done something. Tables are never among these, as rows are to come: of a table, only foreign keys wait.

use std::borrow::Cow;

use crate::apply::Context;
use crate::attempt::is_refused;
use crate::converge::{self, Pass};
use crate::error::Failure;
use crate::message::{Change, Message};
use crate::privileges::{json, parsed, token};
use crate::session::Session;
use crate::state::State;

/// What waits, and why: for callers with another kind of session. It fails on a target without the table.
pub const LACKING: &str = "SELECT p.object, p.why FROM walcast.pending_object p ORDER BY 1";

/// SQLSTATEs: no such table, type, function, schema.
const LACKS: &[&str] = &["42P01", "42704", "42883", "3F000"];
/// The same for a foreign key; or the rows of the table that it refers to are still to be copied.
pub(crate) const LACKS_KEY: &[&str] = &["42P01", "3F000", "23503"];

/// Applies a change to an object that may have to wait.
pub(crate) async fn apply<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    if !context.options.partial {
        return converge::apply(context, message, change, pass).await;
    }
    context.lacks_key = false;
    let waits = context.waiting.iter().any(|(class, oid)| (class, *oid) == (&change.class, change.oid));
    let whole = if waits { Cow::Owned(whole(change)) } else { Cow::Borrowed(change) };
    let attempt = context.begin(change.object()).await?;
    let applied = converge::apply(context, message, &whole, pass).await;
    let is_expected = if can_wait(change) { is_lacking::<S> } else { |_: &Failure<S::Error>| false };
    let why = match context.end(attempt, applied, is_expected).await? {
        Some(failure) => failure.cause().map(ToString::to_string),
        None => context.lacks_key.then(|| "a table that a foreign key refers to is not here, or not whole".to_owned()),
    };
    if waits || why.is_some() { keep(context, change, why).await } else { Ok(()) }
}

/// What waits since an earlier change is to become all that it is by now: of what it was, only the name is known.
fn whole(change: &Change) -> Change {
    let named = |before: &State| match is_table(before) {
        true => without_keys(before),
        false => State {
            kind: before.kind.clone(),
            identity: before.identity.clone(),
            object: before.object.clone(),
            address: before.address.clone(),
            schema: before.schema.clone(),
            name: before.name.clone(),
            owner: before.owner.clone(),
            ..State::default()
        },
    };
    Change { before: change.before.as_ref().map(named), ..change.clone() }
}

fn without_keys(table: &State) -> State {
    let others = table.constraints.iter().filter(|constraint| constraint.kind != "f");
    State { constraints: others.cloned().collect(), ..table.clone() }
}

/// What waits on the target.
pub(crate) async fn look<S: Session + Send>(context: &mut Context<'_, S>) -> Result<(), Failure<S::Error>> {
    if context.options.partial {
        let waiting = list(context).await?;
        context.waiting = waiting.into_iter().map(|change| (change.class, change.oid)).collect();
    }
    Ok(())
}

fn is_lacking<S: Session>(failure: &Failure<S::Error>) -> bool {
    is_refused::<S>(failure, LACKS)
}

fn is_table(state: &State) -> bool {
    matches!(state.kind.as_str(), "table" | "foreign table" | "sequence")
}

fn can_wait(change: &Change) -> bool {
    change.after.as_ref().is_some_and(|after| !is_table(after))
        && !matches!(change.class.as_str(), "pg_namespace" | "pg_extension")
}

/// Keeps in mind that an object waits, or that it does not.
async fn keep<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
    why: Option<String>,
) -> Result<(), Failure<S::Error>> {
    const KEEP: &str = "SELECT walcast.keep_object($1::text, $2::text, $3::text::regclass, $4::text::oid, $5::text, \
         $6::text, $7::text::jsonb)";
    let (object, options, oid) = (change.object(), context.options, change.oid.to_string());
    let why = why.map(|why| why.replace(char::is_control, " "));
    let wanted = why.as_ref().and(change.after.as_ref()).map(json);
    let parameters = [
        token(options),
        Some(options.origin.as_str()),
        Some(change.class.as_str()),
        Some(oid.as_str()),
        Some(object.as_str()),
        why.as_deref(),
        wanted.as_deref(),
    ];
    context.call(&object, ("note what is missing", KEEP), &parameters).await?;
    context.waiting.retain(|(class, oid)| (class, *oid) != (&change.class, change.oid));
    if let Some(why) = why {
        context.waiting.push((change.class.clone(), change.oid));
        context.skip(&object, format!("it waits for what is not on the target: {why}"));
    }
    Ok(())
}

/// Tries what waits again, for as long as something of it succeeds.
pub(crate) async fn retry<S: Session + Send>(context: &mut Context<'_, S>) -> Result<(), Failure<S::Error>> {
    context.objects = None;
    while !context.waiting.is_empty() && !context.outcome.done.is_empty() {
        let (said, count) = (context.outcome.skipped.clone(), context.waiting.len());
        for change in list(context).await? {
            apply(context, &Message::of(&change), &change, Pass::Main).await?;
        }
        context.outcome.skipped = said;
        if context.waiting.len() >= count {
            break;
        }
    }
    Ok(())
}

async fn list<S: Session + Send>(context: &mut Context<'_, S>) -> Result<Vec<Change>, Failure<S::Error>> {
    const LIST: &str = "SELECT class::regclass::text, source, wanted FROM walcast.pending_object \
         WHERE origin = $1::text ORDER BY since, class, source";
    const OBJECT: &str = "what waits";
    let mut changes = Vec::new();
    for row in context.ask(OBJECT, LIST, &[Some(&context.options.origin)]).await? {
        let [Some(class), Some(oid), Some(wanted)] = row.as_slice() else { continue };
        let oid = oid.parse().map_err(|_| Failure::Answer { object: OBJECT.to_owned(), what: oid.clone() })?;
        changes.push(waiting(class, oid, parsed(OBJECT, wanted)?));
    }
    Ok(changes)
}

/// As if the source had just made it; of a table, the foreign keys.
fn waiting(class: &str, oid: u32, after: State) -> Change {
    let before = is_table(&after).then(|| without_keys(&after));
    Change::between(class, oid, before, Some(after))
}
