//! Names that are in use: what is to have them finds them taken by what is to give them up.

use serde_json::Value;

use crate::apply::Context;
use crate::converge::role_of;
use crate::error::Failure;
use crate::message::{Change, Message};
use crate::order;
use crate::quote;
use crate::session::Session;
use crate::state::State;
use crate::statement::Statement;

/// Gives other names, for as long as the message is applied, to what is to give up its own to something else: otherwise
/// whatever names one of them might get the other.
pub(crate) async fn make_way<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
) -> Result<(), Failure<S::Error>> {
    for change in message.changes.iter().filter(|change| order::has_successor(message, change)) {
        let movable = |before: &&State| before.schema.is_some() || change.class == "pg_namespace";
        let Some(before) = change.before.as_ref().filter(movable) else { continue };
        let found = context.find(change, before).await?.filter(|now| now.identity == before.identity);
        // operators have no other names
        if let Some(now) = found.filter(|_| change.class != "pg_operator") {
            move_aside(context, change, now).await?;
        }
    }
    Ok(())
}

/// Whether a tick found that something else of that name is gone: it has to go first.
pub(crate) async fn is_in_the_way<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    after: &State,
) -> Result<bool, Failure<S::Error>> {
    let gone = |other: &&Change| message.is_tick() && other.class == change.class && other.after.is_none();
    for other in message.changes.iter().filter(gone) {
        if other.before.as_ref().is_some_and(|before| before.identity == after.identity) {
            return Ok(occupant(context, other, after).await?.is_some());
        }
    }
    Ok(false)
}

/// The target's object, by what it was called or by what it is called. What has its new name and is to be moved away by a
/// later change of the message is moved aside now.
pub(crate) async fn locate<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    after: &State,
) -> Result<Option<State>, Failure<S::Error>> {
    let by_before = match change.before.as_ref().filter(|before| before.limited.is_none()) {
        Some(before) => context.find(change, before).await?,
        None => None,
    };
    let moves = |other: &&Change| {
        let was = other.before.as_ref().is_some_and(|before| before.identity == after.identity);
        was && other.class == change.class
            && other.oid != change.oid
            && other.after.as_ref().is_some_and(|is| is.identity != after.identity)
    };
    let is_new_name = by_before.as_ref().is_none_or(|now| now.identity != after.identity);
    if is_new_name
        && let Some(other) = message.changes.iter().find(moves)
        && let Some(occupant) = occupant(context, other, after).await?
    {
        move_aside(context, other, occupant).await?;
    }
    match by_before {
        Some(now) => Ok(Some(now)),
        None => context.look(&change.class, after).await,
    }
}

/// What of the target has the new name, if it is this other object.
async fn occupant<S: Session + Send>(
    context: &mut Context<'_, S>,
    other: &Change,
    after: &State,
) -> Result<Option<State>, Failure<S::Error>> {
    let Some(before) = &other.before else { return Ok(None) };
    Ok(context.find(other, before).await?.filter(|now| now.identity == after.identity))
}

async fn move_aside<S: Session + Send>(
    context: &mut Context<'_, S>,
    other: &Change,
    occupant: State,
) -> Result<(), Failure<S::Error>> {
    let name = format!("walcast_moved_{}", context.moved);
    context.moved += 1;
    let role = role_of(context, &other.class, &occupant).await?;
    let rename = format!("ALTER {} RENAME TO {}", occupant.object, quote::identifier(&name));
    let place = if other.class == "pg_namespace" { Some("") } else { occupant.schema.as_deref() };
    let rename = Statement::new(rename).with_rights_of(role.as_deref()).creating_in(place);
    context.run(&occupant.object, &rename).await?;
    let mut moved = State { name: Some(name.clone()), ..occupant };
    if let Some(last) = moved.address.as_mut().and_then(|address| address.get_mut(0)?.as_array_mut()?.last_mut()) {
        *last = Value::String(name);
    }
    context.identify(other, Some(&moved)).await
}
