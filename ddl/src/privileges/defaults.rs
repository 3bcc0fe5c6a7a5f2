//! Default privileges: class `pg_default_acl`.

use crate::apply::Context;
use crate::error::Failure;
use crate::message::Change;
use crate::outcome::Verb;
use crate::quote;
use crate::session::Session;
use crate::state::State;
use crate::statement::Statement;

use super::acl::{self, Existing};
use super::{Found, known, parsed, pending};

/// Makes default privileges what the change says. When they are gone from the source they are the built-in ones.
pub(crate) async fn apply_default<S: Session + Send>(
    context: &mut Context<'_, S>,
    change: &Change,
) -> Result<(), Failure<S::Error>> {
    let Some(state) = change.state().filter(|_| context.options.roles.replicate) else { return Ok(()) };
    if converge(context, change.before.as_ref(), change.after.as_ref(), state).await? {
        context.note(Verb::Altered, state);
    }
    Ok(())
}

/// Whether anything was done.
pub(super) async fn converge<S: Session + Send>(
    context: &mut Context<'_, S>,
    before: Option<&State>,
    after: Option<&State>,
    state: &State,
) -> Result<bool, Failure<S::Error>> {
    let (Some(role), Some(objects)) = (&state.role, &state.objects) else { return Ok(false) };
    let found = find(context, state, role, objects).await?;
    let [before, after] = [before, after].map(|state| state.map(|state| of_role(state, role)));
    let names = acl::names(&found.existing, before.as_ref(), after.as_ref());
    let known = known(context, &names, &state.object).await?;
    let mut plan = acl::plan(&found.existing, before.as_ref(), after.as_ref(), &known);
    if !plan.owner_acts {
        plan.steps.clear();
        plan.missing = after.is_some().then(|| role.clone()).into_iter().collect();
    }
    for step in &plan.steps {
        let statement = Statement::new(&step.sql).with_rights_of(Some(role)).creating_in(state.in_schema.as_deref());
        context.run(&state.object, &statement).await?;
    }
    let wanted = after.as_ref().map(super::wanted_later);
    pending::keep(context, &found, &state.object, &plan, wanted.as_ref()).await?;
    Ok(!plan.steps.is_empty())
}

/// Only the role itself grants them.
fn of_role(state: &State, role: &str) -> State {
    State { owner: Some(role.to_owned()), ..state.clone() }
}

async fn find<S: Session + Send>(
    context: &mut Context<'_, S>,
    state: &State,
    role: &str,
    objects: &str,
) -> Result<Found, Failure<S::Error>> {
    const FIND: &str = "SELECT 'pg_default_acl'::regclass::oid, walcast.default_grants($1::text, $2::text, $3::text), \
        EXISTS (SELECT FROM walcast.pending_grant p WHERE p.class = 'pg_default_acl'::regclass AND p.object = \
        $4::text)::int";
    let key = key(state);
    let parameters = [Some(role), Some(objects), state.in_schema.as_deref(), Some(key.as_str())];
    let rows = context.ask(&state.object, FIND, &parameters).await?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
    let (class, grants, waits) = (row.next().flatten(), row.next().flatten(), row.next().flatten());
    // without the role there is nothing to compare with
    let mut existing = match grants {
        Some(grants) => parsed::<Existing, _>(&state.object, &grants)?,
        None => Existing { owner: role.to_owned(), ..Existing::default() },
    };
    let place = state.in_schema.as_deref().map(|name| format!(" IN SCHEMA {}", quote::identifier(name)));
    let place = place.unwrap_or_default();
    existing.prefix = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{place} ", quote::identifier(role));
    existing.object = kind(objects).to_owned();
    let class = class.unwrap_or_default();
    let schema = state.in_schema.clone();
    Ok(Found { class, oid: "0".to_owned(), schema, existing, waits: waits.as_deref() == Some("1"), shut_out: false })
}

/// The word, and no other text that a message may have there.
fn kind(objects: &str) -> &'static str {
    let kinds = ["TABLES", "SEQUENCES", "FUNCTIONS", "TYPES", "SCHEMAS", "LARGE OBJECTS"];
    kinds.into_iter().find(|kind| *kind == objects).unwrap_or("TABLES")
}

/// What they are kept under while something waits: they have no OID that lasts.
pub(super) fn key(state: &State) -> String {
    format!("{} ON {}", state.object, state.objects.as_deref().unwrap_or_default())
}
