//! Owners, privileges, and with whose rights statements run.
//!
//! Who calls what, for a change of any class but `pg_authid`, `pg_database` (`roles::apply`) and `pg_default_acl`
//! ([`apply_default`]): first the object is made or renamed, then [`own`] gives it its owner, then everything else is
//! altered with that owner's rights, and last [`grant`] converges the privileges, which it looks up itself. Objects of the
//! system and of extensions (`limited`) only come to [`grant`]. All of it uses the functions of `capture/sql/target*.sql`.
//!
//! # Owners
//!
//! | the source's owner is | the target's is |
//! | --- | --- |
//! | a role that the target has, not one that only has the same name (`clash`) | the same |
//! | a superuser of the target, while the login is none | the login |
//! | excluded, missing, or a clash | `walcast_nobody`, until the role arrives ([`pending`]) |
//!
//! # Privileges
//!
//! A privilege is (grantee, grantor, kind), with grant option or not. Absent privileges stand for the default ones of the
//! object's kind, on both sides; the source's owner stands for the target's, as grantee and as grantor. Then
//!
//! | source | target | |
//! | --- | --- | --- |
//! | has it | has it not, or without grant option | GRANT, as the grantor |
//! | has it without grant option | has it with | REVOKE GRANT OPTION FOR … CASCADE, as the grantor |
//! | has it not | has it; the source had it before, or it is PUBLIC's, the owner's, or of a role of walcast's | REVOKE … CASCADE |
//! | has it not | has it, and none of this holds | stays: a local role's, granted here |
//! | has it | the grantee or grantor is missing, excluded or a clash | pending |
//!
//! What depends on a grant option is revoked before it and granted after it. Privileges of columns are granted after those
//! of their table and revoked before them; a REVOKE on a table takes those of its columns along, which are then given
//! again. MAINTAIN is left out before 17, and only revoked where the source is known to know it, or nothing else is left.

mod acl;
mod defaults;
mod pending;

pub(crate) use defaults::apply_default;
pub(crate) use pending::retry;
pub use pending::{WAITING, Waiting, waiting};

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::apply::Context;
use crate::error::Failure;
use crate::message::Change;
use crate::options::{Options, Rights};
use crate::outcome::Verb;
use crate::quote;
use crate::session::{Row, Session};
use crate::state::{Grant, State};
use crate::statement::Statement;
use acl::{Existing, Known, Plan, Step};

/// The stand-in for owners that are not on the target.
pub(crate) const NOBODY: &str = "walcast_nobody";

/// Runs a statement with the rights that it needs.
pub(crate) async fn execute<S: Session + Send>(
    session: &mut S,
    statement: &Statement,
    options: &Options,
) -> Result<(), S::Error> {
    const RUN: &str = "SELECT walcast.run($1::text, $2::text, $3::text, $4::text)";
    match (&options.rights, &statement.role) {
        (Rights::Owner(token), Some(role)) => {
            let role = if options.roles.exclude.contains(role) { NOBODY } else { role };
            let parameters = [Some(token.as_str()), Some(role), Some(&statement.sql), statement.creates_in.as_deref()];
            session.query(RUN, &parameters).await.map(drop)
        }
        _ => session.execute(&statement.sql).await,
    }
}

/// The token for calls of the target's functions; a superuser needs none.
pub(crate) fn token(options: &Options) -> Option<&str> {
    match &options.rights {
        Rights::Owner(token) => Some(token.as_str()),
        Rights::Login => None,
    }
}

/// A list as a parameter.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_value(value).map_or_else(|_| "null".to_owned(), |value| value.to_string())
}

/// Gives an object (named as in `after`) its owner, where it has one, or the stand-in.
pub(crate) async fn own<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    now: &State,
    after: &State,
) -> Result<(), Failure<S::Error>> {
    const OWN: &str = "SELECT walcast.own($1::text, c, walcast.locate(c, $3::text::jsonb), $4::text) \
                         FROM (SELECT $2::text::regclass::oid) x (c)";
    let Some(owner) = after.owner.as_deref().filter(|_| can_have_owner(class)) else { return Ok(()) };
    if now.owner.as_deref() == Some(owner) || !context.options.roles.replicate {
        return Ok(());
    }
    let wanted = if context.options.roles.exclude.iter().any(|name| name == owner) { NOBODY } else { owner };
    let (options, locator) = (context.options, after.locator());
    let shown = format!("ALTER {} OWNER TO {}", after.object, quote::identifier(wanted));
    let parameters = [token(options), Some(class), Some(&locator), Some(wanted)];
    context.call(&after.object, (&shown, OWN), &parameters).await.map(drop)
}

/// What ALTER … OWNER TO can give to anybody.
fn can_have_owner(class: &str) -> bool {
    !matches!(class, "pg_extension" | "pg_foreign_data_wrapper" | "pg_language")
}

/// Grants and revokes what the object's privileges, and those of its columns, differ by.
pub(crate) async fn grant<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
) -> Result<(), Failure<S::Error>> {
    let options = context.options;
    let Some(state) = change.state().filter(|_| has_acl(&change.class)) else { return Ok(()) };
    if !options.roles.replicate && matches!(options.rights, Rights::Login) {
        return Ok(());
    }
    let Some(found) = find(context, &change.class, state).await? else { return Ok(()) };
    if found.shut_out && state.limited.is_none() {
        let_in(context, &found, &state.object).await?;
    }
    let before = change.before.as_ref();
    if options.roles.replicate
        && converge(context, &found, before, change.after.as_ref(), &state.object).await?
        && before.is_some()
    {
        context.note(Verb::Altered, state);
    }
    Ok(())
}

/// The rows of what is replicated are written with the login's rights.
async fn let_in<S: Session + Send>(
    context: &mut Context<'_, S>,
    found: &Found,
    object: &str,
) -> Result<(), Failure<S::Error>> {
    const LET_IN: &str = "SELECT walcast.let_in($1::text, $2::text::oid, $3::text::oid)";
    let parameters = [token(context.options), Some(found.class.as_str()), Some(found.oid.as_str())];
    context.call(object, ("grant the login what it needs", LET_IN), &parameters).await.map(drop)
}

fn has_acl(class: &str) -> bool {
    matches!(
        class,
        "pg_class"
            | "pg_proc"
            | "pg_type"
            | "pg_namespace"
            | "pg_language"
            | "pg_foreign_data_wrapper"
            | "pg_foreign_server"
    )
}

/// An object of the target, and its privileges.
pub(crate) struct Found {
    class: String,
    oid: String,
    /// The schema that it is in.
    schema: Option<String>,
    existing: Existing,
    /// Something of it waits for a role.
    waits: bool,
    /// The login may not write its rows, or use it.
    shut_out: bool,
}

/// The object that a state describes.
async fn find<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    state: &State,
) -> Result<Option<Found>, Failure<S::Error>> {
    const FIND: &str = "SELECT c, o, walcast.grants(c, o), \
               EXISTS (SELECT FROM walcast.pending_grant p WHERE p.class = c AND p.oid = o)::int, \
               walcast.is_shut_out(c, o)::int \
          FROM (SELECT c, walcast.locate(c, $2::text::jsonb) FROM (SELECT $1::text::regclass::oid) x (c)) y (c, o)";
    let rows = context.ask(&state.object, FIND, &[Some(class), Some(&state.locator())]).await?;
    found(&state.object, rows)
}

fn found<E: std::error::Error>(object: &str, rows: Vec<Row>) -> Result<Option<Found>, Failure<E>> {
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let [Some(class), Some(oid), Some(grants), Some(waits), Some(shut_out)] = row.as_slice() else { return Ok(None) };
    let existing: Existing = parsed(object, grants)?;
    let (schema, waits, shut_out) = (existing.schema.clone(), waits == "1", shut_out == "1");
    Ok(Some(Found { class: class.clone(), oid: oid.clone(), schema, existing, waits, shut_out }))
}

/// An answer in JSON.
pub(crate) fn parsed<T: DeserializeOwned, E: std::error::Error>(object: &str, json: &str) -> Result<T, Failure<E>> {
    serde_json::from_str(json).map_err(|error| Failure::Answer { object: object.to_owned(), what: error.to_string() })
}

/// Plans and runs; whether anything ran.
async fn converge<S: Session + Send>(
    context: &mut Context<'_, S>,
    found: &Found,
    before: Option<&State>,
    after: Option<&State>,
    object: &str,
) -> Result<bool, Failure<S::Error>> {
    let plan = plan(context, found, before, after, object).await?;
    let ran = !plan.steps.is_empty();
    if context.may_act_as_owner(&plan) {
        for steps in plan.steps.chunk_by(|one, other| one.grantor == other.grantor) {
            run(context, object, found, steps).await?;
        }
    } else if found.existing.object == "SCHEMA public" {
        on_public(context, object, &plan.steps).await?;
    } else {
        if ran {
            context.skip(object, "privileges of what belongs to a superuser need a login that is one");
        }
        return Ok(false);
    }
    let wanted = after.map(wanted_later);
    pending::keep(context, found, object, &plan, wanted.as_ref()).await?;
    Ok(ran)
}

impl<S: Session + Send> Context<'_, S> {
    fn may_act_as_owner(&self, plan: &Plan) -> bool {
        matches!(self.options.rights, Rights::Login) || plan.owner_acts
    }
}

/// What is enough of a state to be granted later on.
fn wanted_later(after: &State) -> State {
    State {
        kind: after.kind.clone(),
        identity: after.identity.clone(),
        object: after.object.clone(),
        address: None,
        owner: after.owner.clone(),
        acl: after.acl.clone(),
        columns: after.columns.iter().filter(|column| column.acl.is_some()).cloned().collect(),
        role: after.role.clone(),
        objects: after.objects.clone(),
        in_schema: after.in_schema.clone(),
        ..State::default()
    }
}

async fn plan<S: Session + Send>(
    context: &mut Context<'_, S>,
    found: &Found,
    before: Option<&State>,
    after: Option<&State>,
    object: &str,
) -> Result<Plan, Failure<S::Error>> {
    let names = acl::names(&found.existing, before, after);
    let known = known(context, &names, object).await?;
    Ok(acl::plan(&found.existing, before, after, &known))
}

/// A role that the target knows, as `walcast.roles_known` has it.
#[derive(Deserialize)]
struct KnownRole {
    name: String,
    ours: bool,
    acting: bool,
}

/// What the target says of roles, without those that are not replicated.
pub(crate) async fn known<S: Session + Send>(
    context: &mut Context<'_, S>,
    names: &BTreeSet<&str>,
    object: &str,
) -> Result<Known, Failure<S::Error>> {
    let rows = context.ask(object, "SELECT walcast.roles_known($1::text::jsonb)", &[Some(&json(names))]).await?;
    let list = rows.into_iter().flatten().next().flatten().unwrap_or_else(|| "[]".to_owned());
    let roles: Vec<KnownRole> = parsed(object, &list)?;
    let excluded = &context.options.roles.exclude;
    let every = matches!(context.options.rights, Rights::Login);
    let wanted = roles.into_iter().filter(|role| !excluded.contains(&role.name));
    Ok(Known {
        roles: wanted.map(|r| (r.name, acl::Role { ours: r.ours, acts: every || r.acting })).collect(),
        server_version: context.options.server_version,
    })
}

/// Runs what one role grants. A superuser's GRANT counts as the owner's; for another grantor he has to be that role.
async fn run<S: Session + Send>(
    context: &mut Context<'_, S>,
    object: &str,
    found: &Found,
    steps: &[Step],
) -> Result<(), Failure<S::Error>> {
    let owner = &found.existing.owner;
    let grantor = steps.first().map_or(owner, |step| &step.grantor);
    let mut sql = steps.iter().map(|step| step.sql.as_str()).collect::<Vec<_>>().join("; ");
    if matches!(context.options.rights, Rights::Login) && grantor != owner {
        sql = format!("SET LOCAL ROLE {}; {sql}; SET LOCAL ROLE NONE", quote::identifier(grantor));
    }
    let statement = Statement::new(sql).with_rights_of(Some(grantor)).creating_in(found.schema.as_deref());
    context.run(object, &statement).await
}

/// Schema public belongs to no role of walcast's, and is everybody's all the same.
async fn on_public<S: Session + Send>(
    context: &mut Context<'_, S>,
    object: &str,
    steps: &[Step],
) -> Result<(), Failure<S::Error>> {
    const GRANT: &str = "SELECT walcast.grant_on_public($1::text, $2::text, $3::text, $4::text, $5::text::boolean)";
    for step in steps {
        let Grant { grantee, privilege, grantable, .. } = &step.grant;
        let option = if *grantable { "true" } else { "false" };
        let parameters = [
            token(context.options),
            Some(step.verb.as_str()),
            Some(privilege.as_str()),
            Some(grantee.as_str()),
            Some(option),
        ];
        context.call(object, (&step.sql, GRANT), &parameters).await?;
    }
    Ok(())
}
