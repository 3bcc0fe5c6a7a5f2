//! Changes of roles and of the database: classes `pg_authid` and `pg_database`.
//!
//! What becomes of a role is decided on the target, by `walcast.apply_role` (`capture/sql/target_roles.sql`, which has the
//! table): it needs more rights than the login has, and so may do only what its own code allows. Here is what it is told:
//! both states, the names that are excluded, and, for a login that is a superuser, those that may be adopted.
//!
//! Names are exchanged before that ([`rename`]), so that whatever else a message says of roles finds them under the names
//! that the source has. Which role is which is kept in mind as with other objects (`known.rs`).
//!
//! Not replicated: SUPERUSER, REPLICATION and BYPASSRLS; CREATEROLE before 16; who owns the database.

use std::collections::HashMap;

use crate::apply::Context;
use crate::error::Failure;
use crate::message::{Change, Message};
use crate::outcome::{Done, Verb};
use crate::privileges::{self, json, token};
use crate::quote;
use crate::session::{Row, Session};
use crate::state::State;

/// Makes the role, or the database's privileges and settings, what the change says.
pub(crate) async fn apply<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
) -> Result<(), Failure<S::Error>> {
    let Some(state) = change.state().filter(|_| context.options.roles.replicate) else { return Ok(()) };
    let was = change.before.as_ref().filter(|was| change.class == "pg_database" || !is_excluded(context, was));
    let before = was.map(|was| told(context, &was_by_new_names(context, message, was)));
    let after = change.after.as_ref().map(|state| told(context, state));
    if change.class == "pg_database" {
        return apply_database(context, before.as_deref(), after.as_deref()).await;
    }
    match &change.after {
        Some(_) => apply_role(context, state, before.as_deref(), after.as_deref()).await,
        None => drop_role(context, message, change, state).await,
    }
}

/// Gives roles their new names.
///
/// | a message's changes | the target | done |
/// | --- | --- | --- |
/// | 16400: a → b, 16403: b → a | a, b | b → aside, a → b, aside → a; both noted |
/// | the same once more | b, a | nothing: 16400 is b, 16403 is a, as noted |
/// | 16400: a → b, 16403: b dropped | a, b | b → aside, a → b; aside is dropped with the rest of the message |
pub(crate) async fn rename<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
) -> Result<(), Failure<S::Error>> {
    for (change, before, after) in renamed(message).filter(|_| context.options.roles.replicate) {
        let Some(name) = after.name.as_ref().filter(|_| !is_excluded(context, before) && !is_excluded(context, after))
        else {
            continue;
        };
        let Some(now) = role_here(context, change, before).await?.filter(|now| now != name) else { continue };
        if let Some((other, given_up)) = gives_up(message, change, name)
            && role_here(context, other, given_up).await?.as_ref() == Some(name)
        {
            give_name(context, other, given_up, (name, &aside(other))).await?;
        }
        if give_name(context, change, after, (&now, name)).await? {
            context.note(Verb::Altered, after);
        }
    }
    for (change, before, after) in renamed(message).filter(|_| context.options.roles.replicate) {
        if is_excluded(context, before) || is_excluded(context, after) {
            let_go(context, change, before, after).await?;
        }
    }
    Ok(())
}

/// Roles that have other names, with both states.
fn renamed<'m>(message: &'m Message) -> impl Iterator<Item = (&'m Change, &'m State, &'m State)> {
    let roles = message.changes.iter().filter(|change| change.class == "pg_authid");
    let both = |change: &'m Change| Some((change, change.before.as_ref()?, change.after.as_ref()?));
    roles.filter_map(both).filter(|(_, before, after)| before.name != after.name)
}

fn is_excluded<S: Session>(context: &Context<'_, S>, role: &State) -> bool {
    role.name.as_ref().is_some_and(|name| context.options.roles.exclude.contains(name))
}

/// A role came to be excluded by its new name, or is no longer: the target's is not this one any more.
async fn let_go<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
    before: &State,
    after: &State,
) -> Result<(), Failure<S::Error>> {
    let here = role_here(context, change, before).await?.filter(|_| !is_excluded(context, before));
    if let (Some(here), Some(name)) = (here, &after.name) {
        let [here, name] = [here.as_str(), name.as_str()].map(quote::identifier);
        context.skip(&before.object, format!("its new name {name} is excluded; the role stays here, called {here}"));
    }
    context.identify(change, None).await
}

/// What had a role's new name until now, by this message.
fn gives_up<'m>(message: &'m Message, change: &Change, name: &String) -> Option<(&'m Change, &'m State)> {
    let others = message.changes.iter().filter(|other| other.class == change.class && other.oid != change.oid);
    others.filter_map(|other| Some((other, other.before.as_ref()?))).find(|(_, was)| was.name.as_ref() == Some(name))
}

/// Renames a role of walcast's, and keeps in mind which it is.
async fn give_name<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
    state: &State,
    (now, name): (&str, &str),
) -> Result<bool, Failure<S::Error>> {
    const RENAME: &str = "SELECT walcast.rename_role($1::text, $2::text, $3::text)::text";
    let parameters = [token(context.options), Some(now), Some(name)];
    let rows = context.call(&state.object, ("walcast.rename_role(…)", RENAME), &parameters).await?;
    if rows.first().and_then(|row| row.first()?.as_deref()) != Some("true") {
        return Ok(false);
    }
    let renamed = State { name: Some(name.to_owned()), ..state.clone() };
    context.identify(change, Some(&renamed)).await?;
    Ok(true)
}

/// What the target calls the role of walcast's that this state named; None: it has none.
async fn role_here<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
    named: &State,
) -> Result<Option<String>, Failure<S::Error>> {
    const OURS: &str =
        "SELECT r.rolname FROM pg_roles r JOIN walcast.role l ON l.name = r.rolname AND l.how <> 'clash' WHERE r.oid =";
    let known = context.objects.as_ref().map(|objects| objects.get(&(change.class.clone(), change.oid)).cloned());
    let rows = match known {
        Some(None) => return Ok(None),
        Some(Some(oid)) => context.ask(&named.object, &format!("{OURS} $1::text::oid"), &[Some(&oid)]).await?,
        None => {
            let sql =
                format!("{OURS} walcast.object_of($1::text, 'pg_authid'::regclass, $2::text::oid, $3::text::jsonb)");
            let (oid, locator) = (change.oid.to_string(), named.locator());
            let parameters = [Some(context.options.origin.as_str()), Some(&oid), Some(&locator)];
            context.ask(&named.object, &sql, &parameters).await?
        }
    };
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
}

/// Drops a role of walcast's, unless something here depends on it. A command that tells of a role that is gone, because its
/// name is another one's by now, cannot know what it owned: that, and of the role once more, the next look tells.
async fn drop_role<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    before: &State,
) -> Result<(), Failure<S::Error>> {
    const IS_OURS: &str = "SELECT FROM walcast.role WHERE name = $1::text AND how <> 'clash'";
    if is_excluded(context, before) {
        return Ok(());
    }
    let here = role_here(context, change, before).await?;
    // Whom a rename gave its name would have moved it aside; it may as well have been his that is not done here.
    if here == before.name && successor(message, change, before) {
        return context.identify(change, None).await;
    }
    if here.is_none() && !context.ask(&before.object, IS_OURS, &[before.name.as_deref()]).await?.is_empty() {
        // The name is another one's by now.
        return Ok(());
    }
    let before = State { name: here.or_else(|| before.name.clone()), ..before.clone() };
    let told = told(context, &before);
    let mut rows = call_apply_role(context, &before, Some(&told), None).await?;
    if !message.is_tick() {
        rows.retain(|row| row.first().is_some_and(|verb| verb.as_deref() == Some("dropped")));
    }
    match report(context, "role", rows) || message.is_tick() {
        true => context.identify(change, None).await,
        false => Ok(()),
    }
}

/// What a role or the database was, with the names that its message gives to the roles in it. By the old ones the target would
/// not find what is to be revoked.
fn was_by_new_names<S: Session>(context: &Context<'_, S>, message: &Message, was: &State) -> State {
    let mut names = HashMap::new();
    for (change, before, after) in renamed(message) {
        let (Some(old), Some(new)) = (&before.name, &after.name) else { continue };
        if is_excluded(context, before) || is_excluded(context, after) {
            continue;
        }
        names.insert(old.as_str(), new.clone());
        if let Some((other, State { name: Some(given_up), .. })) = gives_up(message, change, new)
            && other.after.is_none()
        {
            names.insert(given_up.as_str(), aside(other));
        }
    }
    let mut was = was.clone();
    let roles = was.member_of.iter_mut().map(|membership| &mut membership.role);
    for role in roles.chain(was.acl.iter_mut().flatten().map(|grant| &mut grant.grantee)) {
        if let Some(name) = names.get(role.as_str()) {
            role.clone_from(name);
        }
    }
    was
}

/// Whether another role has its name by this message.
fn successor(message: &Message, change: &Change, before: &State) -> bool {
    let others = message.changes.iter().filter(|other| other.class == change.class && other.oid != change.oid);
    others.filter_map(|other| other.after.as_ref()).any(|after| after.name == before.name)
}

/// What a role is called while another one has its name.
fn aside(change: &Change) -> String {
    format!("walcast_moved_{}", change.oid)
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
    let rows = call_apply_role(context, state, before, after).await?;
    let arrived = report(context, "role", rows);
    match &state.name {
        Some(name) if arrived && after.is_some() => privileges::retry(context, name).await,
        _ => Ok(()),
    }
}

async fn call_apply_role<S: Session + Send>(
    context: &mut Context<'_, S>,
    state: &State,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<Vec<Row>, Failure<S::Error>> {
    const APPLY: &str = "SELECT verb, what FROM walcast.apply_role($1::text, jsonb_strip_nulls($2::text::jsonb), \
         jsonb_strip_nulls($3::text::jsonb), ARRAY(SELECT jsonb_array_elements_text($4::text::jsonb)), \
         ARRAY(SELECT jsonb_array_elements_text($5::text::jsonb)))";
    let options = context.options;
    let (adopt, exclude) = (json(&options.roles.adopt), json(&options.roles.exclude));
    let parameters = [token(options), before, after, Some(adopt.as_str()), Some(exclude.as_str())];
    context.call(&state.object, ("walcast.apply_role(…)", APPLY), &parameters).await
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
