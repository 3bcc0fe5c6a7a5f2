//! What waits for roles: the table `walcast.pending_grant` on the target.
//!
//! A row is an object (by its OID on the target, so that renames do not matter) with the privileges and the owner that it
//! is to have, and the roles that are missing. When one of them arrives, all of the object's privileges are compared again.

use crate::apply::Context;
use crate::error::Failure;
use crate::session::{Row, Session};
use crate::state::State;

use super::acl::Plan;
use super::{Found, converge, defaults, found, json, parsed, token};

/// What a role is waited for by. The columns of [`WAITING`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The object as SQL calls it.
    pub object: String,
    /// The roles that are missing, as SQL names them, separated by commas.
    pub missing: String,
}

/// The query behind [`waiting`], for callers with another kind of session. It fails on a target without the table.
pub const WAITING: &str = "SELECT p.object, (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m), ', ') FROM \
     pg_catalog.unnest(p.missing) m) \
       FROM walcast.pending_grant p WHERE p.oid = 0 OR (pg_catalog.pg_identify_object(p.class, p.oid, 0)).identity \
       IS NOT NULL ORDER BY 1";

/// What waits for roles on the target.
///
/// # Errors
/// The target could not be asked.
pub async fn waiting<S: Session>(session: &mut S) -> Result<Vec<Waiting>, S::Error> {
    let rows = session.query(WAITING, &[]).await?;
    let waiting = |row: Row| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        Waiting { object: values.next().unwrap_or_default(), missing: values.next().unwrap_or_default() }
    };
    Ok(rows.into_iter().map(waiting).collect())
}

/// Keeps in mind what is missing for an object, or that nothing is any more.
pub(super) async fn keep<S: Session + Send>(
    context: &mut Context<'_, S>,
    found: &Found,
    object: &str,
    plan: &Plan,
    wanted: Option<&State>,
) -> Result<(), Failure<S::Error>> {
    const KEEP: &str = "SELECT walcast.keep_pending($1::text, $2::text::oid, $3::text::oid, $4::text, \
         $5::text::jsonb, $6::text::jsonb)";
    if plan.missing.is_empty() && !found.waits {
        return Ok(());
    }
    let name = match (found.oid.as_str(), wanted) {
        ("0", Some(wanted)) => defaults::key(wanted),
        _ => object.to_owned(),
    };
    let (missing, wanted) = (json(&plan.missing), json(&wanted));
    let options = context.options;
    let parameters = [token(options), Some(&found.class), Some(&found.oid), Some(&name), Some(&missing), Some(&wanted)];
    context.call(object, ("note what roles are missing", KEEP), &parameters).await?;
    if !plan.missing.is_empty() {
        let names = plan.missing.iter().cloned().collect::<Vec<_>>().join(", ");
        context.skip(object, format!("something of its privileges waits for roles that are not here: {names}"));
    }
    Ok(())
}

/// A role has arrived: everything that waited for it is looked at again.
pub(crate) async fn retry<S: Session + Send>(
    context: &mut Context<'_, S>,
    role: &str,
) -> Result<(), Failure<S::Error>> {
    const LIST: &str = "SELECT p.class, p.oid, p.wanted, p.class::regclass::text FROM walcast.pending_grant p \
         WHERE $1::text = ANY (p.missing) AND p.class <> 'pg_authid'::regclass ORDER BY p.class, p.object";
    for row in context.ask("what waits for roles", LIST, &[Some(role)]).await? {
        let [Some(class), Some(oid), Some(wanted), Some(name)] = row.as_slice() else {
            let what = format!("{} columns of walcast.pending_grant, not all with values", row.len());
            return Err(Failure::Answer { object: "what waits for roles".to_owned(), what });
        };
        match name.as_str() {
            "pg_database" => crate::roles::apply_database(context, None, Some(wanted)).await?,
            "pg_default_acl" => {
                let state: State = parsed("default privileges", wanted)?;
                defaults::converge(context, None, Some(&state), &state).await?;
            }
            _ => again(context, class, oid, &parsed("what waits for roles", wanted)?).await?,
        }
    }
    Ok(())
}

async fn again<S: Session + Send>(
    context: &mut Context<'_, S>,
    class: &str,
    oid: &str,
    state: &State,
) -> Result<(), Failure<S::Error>> {
    const FIND: &str = "SELECT c, o, walcast.grants(c, o), 1, 0 FROM (SELECT $1::text::oid, $2::text::oid) x (c, o)";
    const OWN: &str = "SELECT walcast.own($1::text, $2::text::oid, $3::text::oid, $4::text)";
    let object = &state.object;
    if let (Some(owner), true) =
        (&state.owner, found::<S::Error>(object, look(context, FIND, class, oid).await?)?.is_some())
    {
        let excluded = context.options.roles.exclude.contains(owner);
        let owner = if excluded { super::NOBODY } else { owner };
        let options = context.options;
        let parameters = [token(options), Some(class), Some(oid), Some(owner)];
        context.call(object, ("give it its owner", OWN), &parameters).await?;
    }
    match found(object, look(context, FIND, class, oid).await?)? {
        Some(found) => converge(context, &found, None, Some(state), object).await.map(drop),
        None => {
            const FORGET: &str =
                "SELECT walcast.keep_pending($1::text, $2::text::oid, $3::text::oid, '', '[]', 'null')";
            let options = context.options;
            let parameters = [token(options), Some(class), Some(oid)];
            context.call(object, ("forget what is gone", FORGET), &parameters).await.map(drop)
        }
    }
}

async fn look<S: Session + Send>(
    context: &mut Context<'_, S>,
    sql: &str,
    class: &str,
    oid: &str,
) -> Result<Vec<Row>, Failure<S::Error>> {
    context.ask("what waits for roles", sql, &[Some(class), Some(oid)]).await
}
