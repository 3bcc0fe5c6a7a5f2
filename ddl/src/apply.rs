//! One message, change by change.

use crate::attempt::is_refused;
use crate::converge::Pass;
use crate::error::Failure;
use crate::known::Objects;
use crate::message::{Change, Message};
use crate::options::Options;
use crate::outcome::{Done, Outcome, Skipped, Verb};
use crate::session::{Row, Session};
use crate::statement::Statement;
use crate::{converge, names, order, pending, privileges, quote, roles, values};

/// Settings that states and statements depend on, for as long as a message is being applied. The states' are those that
/// the source's capture pins.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog, pg_temp"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("check_function_bodies", "off"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    // `Rights::Owner` sends a secret as a parameter
    ("log_parameter_max_length_on_error", "0"),
];

/// Makes the target what the message says, inside the caller's transaction.
///
/// # Errors
/// The target refused a statement, lacks something, or could not be asked. The transaction is to be rolled back then;
/// [`Failure::cause`] tells whether the same may succeed later.
pub async fn apply<S: Session + Send>(
    session: &mut S,
    message: &Message,
    options: &Options,
) -> Result<Outcome, Failure<S::Error>> {
    let mut context = Context::new(session, options);
    if message.has_only_values() {
        // It comes each second where sequences are used: nothing else is looked at.
        values::set_sequences(&mut context, &message.sequences).await?;
        return Ok(context.outcome);
    }
    let settings = context.pin().await?;
    pending::look(&mut context).await?;
    apply_changes(&mut context, message).await?;
    pending::retry_after(&mut context).await?;
    values::refresh(&mut context, message).await?;
    values::set_sequences(&mut context, &message.sequences).await?;
    for what in &message.unsupported {
        context.skip(what, "it is not captured");
    }
    context.end_message(&settings).await
}

/// Tries what waits once more, inside the caller's transaction: the rows that it broke over may be others now.
///
/// # Errors
/// As those of [`apply`].
pub async fn retry<S: Session + Send>(session: &mut S, options: &Options) -> Result<Outcome, Failure<S::Error>> {
    let mut context = Context::new(session, options);
    let settings = context.pin().await?;
    context.waiting = pending::waiting(&mut context).await?;
    pending::retry(&mut context).await?;
    context.end_message(&settings).await
}

async fn apply_changes<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
) -> Result<(), Failure<S::Error>> {
    let altered = order::altered_tables(message);
    for change in altered.iter().filter(|_| altered.len() > 1) {
        if is_selected(context, change) {
            converge::drop_foreign_keys(context, message, change).await?;
        }
    }
    match message.is_tick() {
        true => apply_in_any_order(context, message).await?,
        false => {
            roles::rename(context, message).await?;
            for change in order::ordered(message) {
                apply_change(context, message, change, Pass::Main).await?;
            }
        }
    }
    for oid in std::mem::take(&mut context.postponed) {
        for change in message.changes.iter().filter(|change| (&change.class, change.oid) == (&oid.0, oid.1)) {
            apply_change(context, message, change, Pass::Last).await?;
        }
    }
    Ok(())
}

/// What a tick found is the difference of two states, and nobody knows in which order it was done: what is refused is
/// tried again once the rest is done, for as long as there is something more that can be done.
async fn apply_in_any_order<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
) -> Result<(), Failure<S::Error>> {
    context.look_up(message).await?;
    roles::rename(context, message).await?;
    names::make_way(context, message).await?;
    let mut left = order::ordered(message);
    while !left.is_empty() {
        let (refused, first) = apply_what_can(context, message, &left).await?;
        match first {
            Some(failure) if refused.len() == left.len() => return Err(failure),
            _ => left = refused,
        }
    }
    Ok(())
}

/// What is refused, and what is to be said of it: that something cannot be dropped is rarely the cause.
async fn apply_what_can<'m, S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    changes: &[&'m Change],
) -> Result<(Vec<&'m Change>, Option<Failure<S::Error>>), Failure<S::Error>> {
    let (mut refused, mut first, mut of_after) = (Vec::new(), None, false);
    for change in changes {
        let attempt = context.begin(change.object()).await?;
        let applied = apply_change(context, message, change, Pass::Main).await;
        if let Some(failure) = context.end(attempt, applied, is_about_order::<S>).await? {
            refused.push(*change);
            if first.is_none() || change.after.is_some() && !of_after {
                (first, of_after) = (Some(failure), change.after.is_some());
            }
        }
    }
    Ok((refused, first))
}

/// Whether another order may help: something is missing, is there already, or is needed.
fn is_about_order<S: Session>(failure: &Failure<S::Error>) -> bool {
    const CLASSES: &[&str] = &["0A", "22", "23", "2B", "3D", "3F", "42", "55000"];
    is_refused::<S>(failure, CLASSES) || matches!(failure, Failure::Unable { .. })
}

async fn apply_change<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
    change: &Change,
    pass: Pass,
) -> Result<(), Failure<S::Error>> {
    match change.class.as_str() {
        "pg_authid" | "pg_database" => roles::apply(context, message, change).await,
        "pg_default_acl" => privileges::apply_default(context, change).await,
        _ if is_selected(context, change) => pending::apply(context, message, change, pass).await,
        _ => Ok(()),
    }
}

/// Whether the table that it is, or belongs to, is replicated.
fn is_selected<S: Session>(context: &Context<'_, S>, change: &Change) -> bool {
    // what the system or an extension made is there whatever is replicated: only its privileges are told
    let Some(state) = change.state().filter(|state| state.limited.is_none()) else { return true };
    let table = match (&state.schema, &state.name) {
        (Some(schema), Some(name)) if change.class == "pg_class" && state.kind == "table" => {
            Some((schema.clone(), name.clone()))
        }
        _ => state.table.as_ref().or(state.owned_by.as_ref().map(|of| &of.table)).and_then(|name| quote::split(name)),
    };
    table.is_none_or(|(schema, name)| (context.options.selected)(&schema, &name))
}

/// What everything that applies a change works with.
pub(crate) struct Context<'a, S: Session> {
    session: &'a mut S,
    pub(crate) options: &'a Options,
    pub(crate) outcome: Outcome,
    /// Class and OID of changes that are applied once more at the end.
    pub(crate) postponed: Vec<(String, u32)>,
    /// What the changes are about, if it was looked up beforehand.
    pub(crate) objects: Option<Objects>,
    /// So many were renamed out of another one's way.
    pub(crate) moved: usize,
    /// A foreign key waits for its table.
    pub(crate) lacks_key: bool,
    /// What waits: class and OID.
    pub(crate) waiting: Vec<(String, u32)>,
}

impl<'a, S: Session + Send> Context<'a, S> {
    fn new(session: &'a mut S, options: &'a Options) -> Self {
        Context {
            session,
            options,
            outcome: Outcome::default(),
            postponed: Vec::new(),
            objects: None,
            moved: 0,
            lacks_key: false,
            waiting: Vec::new(),
        }
    }

    async fn end_message(mut self, settings: &Row) -> Result<Outcome, Failure<S::Error>> {
        self.unpin(settings).await?;
        self.outcome.waits = !self.waiting.is_empty();
        Ok(self.outcome)
    }

    /// Runs a statement for an object, with the rights that it needs.
    pub(crate) async fn run(&mut self, object: &str, statement: &Statement) -> Result<(), Failure<S::Error>> {
        privileges::execute(self.session, statement, self.options).await.map_err(|error| Failure::Statement {
            object: object.to_owned(),
            statement: statement.display(),
            error,
        })
    }

    /// The same; what is to be done instead if the server refuses it is done. Whether anything was.
    pub(crate) async fn run_or_else(&mut self, object: &str, statement: &Statement) -> Result<bool, Failure<S::Error>> {
        let Some(otherwise) = &statement.otherwise else { return self.run(object, statement).await.map(|()| true) };
        let savepoint = |what: &str| Statement::new(format!("{what} SAVEPOINT walcast_ddl"));
        self.run(object, &Statement::new("SAVEPOINT walcast_ddl")).await?;
        match self.run(object, statement).await {
            Ok(()) => return self.run(object, &savepoint("RELEASE")).await.map(|()| true),
            Err(failure) if !is_refused::<S>(&failure, otherwise.codes) => return Err(failure),
            Err(_) => self.run(object, &savepoint("ROLLBACK TO")).await?,
        }
        for statement in &otherwise.statements {
            self.run(object, statement).await?;
        }
        self.lacks_key |= otherwise.waits;
        if otherwise.statements.is_empty() && !otherwise.waits {
            self.skip(object, otherwise.why);
        }
        Ok(!otherwise.statements.is_empty())
    }

    /// Sets [`SETTINGS`]; what they were.
    async fn pin(&mut self) -> Result<Row, Failure<S::Error>> {
        const OBJECT: &str = "settings of the session";
        let current = SETTINGS.iter().map(|(name, _)| format!("current_setting('{name}')"));
        let current = format!("SELECT {}", current.collect::<Vec<_>>().join(", "));
        let was = self.ask(OBJECT, &current, &[]).await?.pop().unwrap_or_default();
        let pinned: Row = SETTINGS.iter().map(|(_, value)| Some((*value).to_owned())).collect();
        self.unpin(&pinned).await?;
        Ok(was)
    }

    /// Sets them to these values, for the transaction.
    async fn unpin(&mut self, values: &Row) -> Result<(), Failure<S::Error>> {
        let set = |at: usize, name: &str| format!("pg_catalog.set_config('{name}', ${}::text, true)", at + 1);
        let set: Vec<_> = SETTINGS.iter().enumerate().map(|(at, (name, _))| set(at, name)).collect();
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        self.ask("settings of the session", &format!("SELECT {}", set.join(", ")), &values).await?;
        Ok(())
    }

    /// Calls a function of walcast's on the target that does something; `shown` is what is said of it.
    pub(crate) async fn call(
        &mut self,
        object: &str,
        (shown, sql): (&str, &str),
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, Failure<S::Error>> {
        let failed = |error| Failure::Statement { object: object.to_owned(), statement: shown.to_owned(), error };
        self.session.query(sql, parameters).await.map_err(failed)
    }

    /// Asks the target something about an object.
    pub(crate) async fn ask(
        &mut self,
        object: &str,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Vec<Row>, Failure<S::Error>> {
        let failed = |error| Failure::State { object: object.to_owned(), error };
        self.session.query(sql, parameters).await.map_err(failed)
    }

    /// Has a change applied once more, after all others.
    pub(crate) fn postpone(&mut self, change: &Change) {
        self.postponed.push((change.class.clone(), change.oid));
    }

    /// The owner of a relation, as SQL calls it; None: there is none.
    pub(crate) async fn owner_of(&mut self, object: &str, relation: &str) -> Result<Option<String>, Failure<S::Error>> {
        const OWNER: &str = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass($1::text)";
        let rows = self.ask(object, OWNER, &[Some(relation)]).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// The owner of a user mapping's server; None: there is no such server.
    pub(crate) async fn owner_of_server(
        &mut self,
        mapping: &crate::state::State,
    ) -> Result<Option<String>, Failure<S::Error>> {
        const OWNER: &str = "SELECT pg_get_userbyid(srvowner) FROM pg_foreign_server WHERE srvname = $1::text";
        let server = mapping.address.as_ref().and_then(|address| address.get(1)?.get(0)?.as_str());
        let rows = self.ask(&mapping.object, OWNER, &[server]).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Takes an object that is there out of the extension that it is a part of; whether there was something to take.
    pub(crate) async fn leave_extension(
        &mut self,
        class: &str,
        state: &crate::state::State,
    ) -> Result<bool, Failure<S::Error>> {
        const EXTENSION: &str = "SELECT walcast.extension_of(c, walcast.locate(c, $2::text::jsonb)) \
                                   FROM (SELECT $1::text::regclass::oid) x (c)";
        let rows = self.ask(&state.object, EXTENSION, &[Some(class), Some(&state.locator())]).await?;
        let Some(extension) = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten() else {
            return Ok(false);
        };
        let leave = format!("ALTER EXTENSION {} DROP {}", quote::identifier(&extension), state.object);
        self.run(&state.object, &Statement::new(leave)).await?;
        Ok(true)
    }

    /// Notes what was done.
    pub(crate) fn note(&mut self, verb: Verb, state: &crate::state::State) {
        self.outcome.done.push(Done { verb, kind: state.kind.clone(), object: state.object.clone() });
    }

    /// Notes what was not done.
    pub(crate) fn skip(&mut self, object: &str, why: impl Into<String>) {
        self.outcome.skipped.push(Skipped { object: object.to_owned(), why: why.into() });
    }
}
