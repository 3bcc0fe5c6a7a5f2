//! Which object of the target one of the source's is.
//!
//! By its name, as the source had it. That tells nothing once names were exchanged, so renamed objects are kept in mind
//! (`walcast.renamed` on the target, by what they are here and there). And what a tick found is looked up before anything of it
//! is done, as each of its changes may give a name to something else.
//!
//! | a tick's changes | the target | looked up | done |
//! | --- | --- | --- | --- |
//! | 16400: a → b, 16403: b → a | a, b | 16400 is a, 16403 is b | b → aside, a → b, aside → a; both noted |
//! | the same once more | b, a | 16400 is b, 16403 is a, as noted | nothing |

use std::collections::HashMap;

use crate::apply::Context;
use crate::error::Failure;
use crate::message::{Change, Message};
use crate::privileges::{json, parsed, token};
use crate::session::{Row, Session};
use crate::state::State;

/// OIDs of the target's objects by class and OID of the source's. What is not among them was not there.
pub(crate) type Objects = HashMap<(String, u32), String>;

impl<S: Session + Send> Context<'_, S> {
    /// Looks up what all changes of a message are about.
    pub(crate) async fn look_up(&mut self, message: &Message) -> Result<(), Failure<S::Error>> {
        const LOOK_UP: &str = "SELECT v.class, v.oid, o FROM jsonb_to_recordset($2::text::jsonb) v (class text, oid oid, \
                 state jsonb), walcast.object_of($1::text, v.class::regclass, v.oid, v.state) o WHERE o IS NOT NULL";
        let named = |change: &Change| {
            let before = change.before.as_ref().filter(|before| before.limited.is_none())?;
            Some(serde_json::json!({"class": change.class, "oid": change.oid, "state": before.locator_json()}))
        };
        let list: Vec<_> = message.changes.iter().filter_map(named).collect();
        let parameters = [Some(self.options.origin.as_str()), Some(&json(&list))];
        let rows = self.ask("objects of a message", LOOK_UP, &parameters).await?;
        let known = |row: Row| match <[Option<String>; 3]>::try_from(row) {
            Ok([Some(class), Some(source), Some(oid)]) => Some(((class, source.parse().ok()?), oid)),
            _ => None,
        };
        self.objects = Some(rows.into_iter().filter_map(known).collect());
        Ok(())
    }

    /// The target's own state of the object that a change is of, which this state named.
    pub(crate) async fn find(&mut self, change: &Change, state: &State) -> Result<Option<State>, Failure<S::Error>> {
        const FIND: &str = "SELECT walcast.describe(c, walcast.object_of($2::text, c, $3::text::oid, $4::text::jsonb)) \
                              FROM (SELECT $1::text::regclass::oid) x (c)";
        const KNOWN: &str = "SELECT walcast.describe($1::text::regclass, $2::text::oid)";
        let class = Some(change.class.as_str());
        let rows = match &self.objects {
            Some(objects) => {
                let Some(oid) = objects.get(&(change.class.clone(), change.oid)).cloned() else { return Ok(None) };
                self.ask(&state.object, KNOWN, &[class, Some(&oid)]).await?
            }
            None => {
                let (locator, oid) = (state.locator(), change.oid.to_string());
                let parameters = [class, Some(self.options.origin.as_str()), Some(&oid), Some(&locator)];
                self.ask(&state.object, FIND, &parameters).await?
            }
        };
        described(state, rows)
    }

    /// The target's own state of the object that is called so; None: there is none, or it is not described.
    pub(crate) async fn look(&mut self, class: &str, state: &State) -> Result<Option<State>, Failure<S::Error>> {
        const LOOK: &str = "SELECT walcast.describe(c, walcast.locate(c, $2::text::jsonb)) \
                              FROM (SELECT $1::text::regclass::oid) x (c)";
        let rows = self.ask(&state.object, LOOK, &[Some(class), Some(&state.locator())]).await?;
        described(state, rows)
    }

    /// Keeps in mind which object a change is of, now that it is called so; None: it is gone.
    pub(crate) async fn identify(&mut self, change: &Change, now: Option<&State>) -> Result<(), Failure<S::Error>> {
        const KEEP: &str = "SELECT walcast.keep_renamed($1::text, $2::text, c, $4::text::oid, \
                                   CASE WHEN $5::text IS NOT NULL THEN walcast.locate(c, $5::text::jsonb) END) \
                              FROM (SELECT $3::text::regclass::oid) x (c)";
        let (object, oid, locator) = (change.object(), change.oid.to_string(), now.map(State::locator));
        let (class, origin) = (Some(change.class.as_str()), Some(self.options.origin.as_str()));
        let parameters = [token(self.options), origin, class, Some(&oid), locator.as_deref()];
        self.call(&object, ("note which object it is", KEEP), &parameters).await.map(drop)
    }
}

/// The state in an answer, if there is one.
fn described<E: std::error::Error>(of: &State, rows: Vec<Row>) -> Result<Option<State>, Failure<E>> {
    let text = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    text.map(|text| parsed(&of.object, &text)).transpose()
}
