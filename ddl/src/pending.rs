//! Objects that need what the target lacks: the table `walcast.pending_object` there.
//!
//! Where not all tables are replicated, a view of one that is not cannot be made. Neither can what needs that view. Such an
//! object is passed over and kept in mind as the source has it by now, whatever becomes of it, and tried again whenever a
//! message has done something. Tables are never among these, as rows are to come: of a table, only foreign keys wait.
//!
//! Where all tables are replicated only foreign keys wait, and only while rows of some tables are of another time
//! ([`Options::stale`]): [`retry`] is for when they are not any more.

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

/// Applies a change to an object that may have to wait. What that takes is on the heap: states are large, and futures on the
/// way hold several of them.
pub(crate) async fn apply<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    if !context.options.may_wait() {
        return Box::pin(converge::apply(context, message, change, pass)).await;
    }
    context.lacks_key = false;
    let waits = context.waiting.iter().any(|(class, oid)| (class, *oid) == (&change.class, change.oid));
    let whole = if waits { Cow::Owned(whole(change)) } else { Cow::Borrowed(change) };
    let attempt = context.begin(change.object()).await?;
    let applied = Box::pin(converge::apply(context, message, &whole, pass)).await;
    let is_expected =
        if context.options.partial && can_wait(change) { is_lacking::<S> } else { |_: &Failure<S::Error>| false };
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
    if context.options.may_wait() {
        context.waiting = waiting(context).await?;
    }
    Ok(())
}

/// Class and OID of what waits.
pub(crate) async fn waiting<S: Session + Send>(
    context: &mut Context<'_, S>,
) -> Result<Vec<(String, u32)>, Failure<S::Error>> {
    let changes = list(context).await?;
    Ok(changes.into_iter().map(|change| (change.class, change.oid)).collect())
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

/// Tries what waits again, if something was done, for as long as something of it succeeds.
pub(crate) async fn retry_after<S: Session + Send>(context: &mut Context<'_, S>) -> Result<(), Failure<S::Error>> {
    if context.outcome.done.is_empty() { Ok(()) } else { retry(context).await }
}

/// The same whatever was done.
pub(crate) async fn retry<S: Session + Send>(context: &mut Context<'_, S>) -> Result<(), Failure<S::Error>> {
    context.objects = None;
    while !context.waiting.is_empty() {
        let (said, count) = (context.outcome.skipped.clone(), context.waiting.len());
        for change in list(context).await? {
            Box::pin(apply(context, &Message::of(&change), &change, Pass::Main)).await?;
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
        let answer = |what: String| Failure::Answer { object: OBJECT.to_owned(), what };
        let [Some(class), Some(oid), Some(wanted)] = row.as_slice() else {
            return Err(answer(format!("{} columns of walcast.pending_object, not all with values", row.len())));
        };
        let oid = oid.parse().map_err(|_| answer(oid.clone()))?;
        changes.push(as_made(class, oid, parsed(OBJECT, wanted)?));
    }
    Ok(changes)
}

/// As if the source had just made it; of a table, the foreign keys.
fn as_made(class: &str, oid: u32, after: State) -> Change {
    let before = is_table(&after).then(|| without_keys(&after));
    Change::between(class, oid, before, Some(after))
}
