//! Changes of roles and of the database: classes `pg_authid` and `pg_database`.
//!
//! What becomes of a role is decided on the target, by `walcast.apply_role` (`capture/sql/target_roles.sql`, which has the
//! table): it needs more rights than the login has, and so may do only what its own code allows. Here is what it is told:
//! both states, the names that are excluded, and, for a login that is a superuser, those that may be adopted.
//!
//! Not replicated: SUPERUSER, REPLICATION and BYPASSRLS; CREATEROLE before 16; who owns the database.

use crate::apply::Context;
use crate::error::Failure;
use crate::message::Change;
use crate::outcome::{Done, Verb};
use crate::privileges::{self, json, token};
use crate::session::{Row, Session};
use crate::state::State;

/// Makes the role, or the database's privileges and settings, what the change says.
pub(crate) async fn apply<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
) -> Result<(), Failure<S::Error>> {
    let Some(state) = change.state().filter(|_| context.options.roles.replicate) else { return Ok(()) };
    let [before, after] = [&change.before, &change.after].map(|state| state.as_ref().map(|s| told(context, s)));
    if change.class == "pg_database" {
        return apply_database(context, before.as_deref(), after.as_deref()).await;
    }
    apply_role(context, state, before.as_deref(), after.as_deref()).await
}

/// A state for the target's functions; without the password, unless passwords are replicated.
fn told<S: Session>(context: &Context<'_, S>, state: &State) -> String {
    let password = state.password.clone().filter(|_| context.options.roles.passwords);
    json(&State { password, ..state.clone() })
}

async fn apply_role<S: Session + Send>(
    context: &mut Context<'_, S>,
    state: &State,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<(), Failure<S::Error>> {
    const APPLY: &str = "SELECT verb, what FROM walcast.apply_role($1::text, jsonb_strip_nulls($2::text::jsonb), \
         jsonb_strip_nulls($3::text::jsonb), ARRAY(SELECT jsonb_array_elements_text($4::text::jsonb)), \
         ARRAY(SELECT jsonb_array_elements_text($5::text::jsonb)))";
    let options = context.options;
    let (adopt, exclude) = (json(&options.roles.adopt), json(&options.roles.exclude));
    let parameters = [token(options), before, after, Some(adopt.as_str()), Some(exclude.as_str())];
    let rows = context.call(&state.object, ("walcast.apply_role(…)", APPLY), &parameters).await?;
    let arrived = report(context, "role", rows);
    match &state.name {
        Some(name) if arrived && after.is_some() => privileges::retry(context, name).await,
        _ => Ok(()),
    }
}

/// The database's privileges and settings go to the one that is the target.
pub(crate) async fn apply_database<S: Session + Send>(
    context: &mut Context<'_, S>,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<(), Failure<S::Error>> {
    const APPLY: &str = "SELECT verb, what FROM walcast.apply_database($1::text, jsonb_strip_nulls($2::text::jsonb), \
         jsonb_strip_nulls($3::text::jsonb), ARRAY(SELECT jsonb_array_elements_text($4::text::jsonb)))";
    let options = context.options;
    let exclude = json(&options.roles.exclude);
    let parameters = [token(options), before, after, Some(exclude.as_str())];
    let rows = context.call("DATABASE", ("walcast.apply_database(…)", APPLY), &parameters).await?;
    report(context, "database", rows);
    Ok(())
}

/// Notes what was done and what was not; whether anything was done.
fn report<S: Session + Send>(context: &mut Context<'_, S>, kind: &str, rows: Vec<Row>) -> bool {
    let mut any = false;
    for row in rows {
        let [Some(verb), Some(what)] = row.as_slice() else { continue };
        let verb = match verb.as_str() {
            "created" => Verb::Created,
            "dropped" => Verb::Dropped,
            "altered" => Verb::Altered,
            _ => {
                let (object, why) = what.split_once(": ").unwrap_or((what, ""));
                context.skip(object, why);
                continue;
            }
        };
        any = true;
        let done = Done { verb, kind: kind.to_owned(), object: what.clone() };
        let same = |noted: &Done| noted.object == done.object && noted.kind == done.kind;
        if !(verb == Verb::Altered && context.outcome.done.iter().any(same)) {
            context.outcome.done.push(done);
        }
    }
    any
}
