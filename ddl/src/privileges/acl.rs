//! Which GRANT and REVOKE lead from one set of privileges to another. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::quote;
use crate::state::{Grant, State};

/// Everything that can be granted on what is replicated; anything else in a state is passed over.
const PRIVILEGES: [&str; 12] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
    "MAINTAIN",
    "USAGE",
    "CREATE",
    "EXECUTE",
    "CONNECT",
];

/// The first version with MAINTAIN.
const MAINTAIN_SINCE: u32 = 170_000;

/// Privileges on the target, as `walcast.grants` has them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Existing {
    /// As GRANT calls it.
    pub(crate) object: String,
    pub(crate) owner: String,
    #[serde(default)]
    pub(crate) schema: Option<String>,
    pub(crate) acl: Vec<Grant>,
    pub(crate) default: Vec<Grant>,
    pub(crate) initial: Vec<Grant>,
    #[serde(default)]
    pub(crate) columns: BTreeMap<String, Vec<Grant>>,
    /// Of default privileges: what stands before GRANT.
    #[serde(default)]
    pub(crate) prefix: String,
}

/// What is known of a role on the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// walcast made or adopted it.
    pub(crate) ours: bool,
    /// A grant can be made as this role.
    pub(crate) acts: bool,
}

/// Roles that can be granted something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) server_version: u32,
}

impl Known {
    fn is_ours(&self, name: &str) -> bool {
        self.roles.get(name).is_some_and(|role| role.ours)
    }

    fn acts(&self, name: &str) -> bool {
        self.roles.get(name).is_some_and(|role| role.acts)
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) grantor: String,
    pub(crate) verb: Verb,
    pub(crate) grant: Grant,
    pub(crate) sql: String,
}

/// What is to be done, and what cannot be done yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) owner: String,
    /// Whether grants can be made as the owner.
    pub(crate) owner_acts: bool,
    pub(crate) steps: Vec<Step>,
    /// Roles that something waits for.
    pub(crate) missing: BTreeSet<String>,
}

/// All names of roles that a plan has to know about.
pub(crate) fn names<'a>(
    existing: &'a Existing,
    before: Option<&'a State>,
    after: Option<&'a State>,
) -> BTreeSet<&'a str> {
    let of = |grants: &'a [Grant]| grants.iter().flat_map(|grant| [grant.grantee.as_str(), grant.grantor.as_str()]);
    let states = [before, after].into_iter().flatten();
    let acls = states.clone().flat_map(|state| {
        let columns = state.columns.iter().filter_map(|column| column.acl.as_deref());
        state.acl.as_deref().into_iter().chain(columns)
    });
    let there = existing.columns.values().map(Vec::as_slice).chain([existing.acl.as_slice()]);
    let owners = states.filter_map(|state| state.owner.as_deref()).chain([existing.owner.as_str()]);
    acls.chain(there).flat_map(of).chain(owners).filter(|name| !name.is_empty()).collect()
}

/// Leads from what is there to `after`; None: to the object's initial privileges.
pub(crate) fn plan(existing: &Existing, before: Option<&State>, after: Option<&State>, known: &Known) -> Plan {
    let owner_of = |state: Option<&State>| state.and_then(|state| state.owner.clone());
    let owner = owner_of(after).or(owner_of(before)).unwrap_or_else(|| existing.owner.clone());
    let mut planner = Planner {
        existing,
        known,
        source_owner: owner.clone(),
        plan: Plan { owner: existing.owner.clone(), owner_acts: known.acts(&existing.owner), ..Plan::default() },
    };
    if owner != existing.owner && !known.roles.contains_key(&owner) {
        planner.plan.missing.insert(owner);
    }
    planner.compare(before, after);
    planner.plan
}

struct Planner<'a> {
    existing: &'a Existing,
    known: &'a Known,
    source_owner: String,
    plan: Plan,
}

/// Where privileges are: of the object, or of one of its columns.
type Place<'a> = Option<&'a str>;

/// A difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Revoke,
    RevokeOption,
    Grant,
}

impl Verb {
    /// As `walcast.grant_on_public` wants it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verb::Revoke => "REVOKE",
            Verb::RevokeOption => "REVOKE GRANT OPTION",
            Verb::Grant => "GRANT",
        }
    }
}

impl Planner<'_> {
    fn compare(&mut self, before: Option<&State>, after: Option<&State>) {
        let wanted = match after {
            Some(after) => self.translated(after.acl.as_deref().unwrap_or(&self.existing.default)),
            None => self.existing.initial.clone(),
        };
        let had = before.map(|before| match &before.acl {
            Some(acl) => self.translated(acl),
            // the target's default may have what the source's version does not know
            None => self.existing.default.iter().filter(|grant| grant.privilege != "MAINTAIN").cloned().collect(),
        });
        let of_object = self.differences(&self.existing.acl, &wanted, &had.unwrap_or_default());
        let mut of_columns = Vec::new();
        for column in self.columns(after) {
            let acl_of = |state: Option<&State>| {
                let found = state?.columns.iter().find(|c| c.name == column)?;
                Some(self.translated(found.acl.as_deref()?))
            };
            let there = self.existing.columns.get(&column).cloned().unwrap_or_default();
            let taken_along = |grant: &&Grant| {
                let same = |one: &Grant| (&one.grantee, &one.grantor, &one.privilege) == key(grant);
                !of_object.iter().any(|(verb, revoked)| *verb != Verb::Grant && same(revoked))
            };
            let there: Vec<Grant> = there.iter().filter(taken_along).cloned().collect();
            let wanted = acl_of(after).unwrap_or_default();
            let differences = self.differences(&there, &wanted, &acl_of(before).unwrap_or_default());
            of_columns.extend(differences.into_iter().map(|(verb, grant)| (column.clone(), verb, grant)));
        }
        let takes = |verb: Verb| verb != Verb::Grant;
        for (column, verb, grant) in of_columns.iter().filter(|(_, verb, _)| takes(*verb)) {
            self.step(Some(column), *verb, grant);
        }
        for (verb, grant) in &of_object {
            self.step(None, *verb, grant);
        }
        for (column, verb, grant) in of_columns.iter().filter(|(_, verb, _)| !takes(*verb)) {
            self.step(Some(column), *verb, grant);
        }
    }

    /// Columns with privileges here or there. Those of columns that `after` does not have are local.
    fn columns(&self, after: Option<&State>) -> Vec<String> {
        let described = after.into_iter().flat_map(|state| &state.columns);
        let relevant = described.filter(|c| c.acl.is_some() || self.existing.columns.contains_key(&c.name));
        relevant.map(|column| column.name.clone()).collect()
    }

    /// The source's owner is the target's; what the target's version or nobody knows is left out.
    fn translated(&self, grants: &[Grant]) -> Vec<Grant> {
        let knows = |grant: &&Grant| {
            PRIVILEGES.contains(&grant.privilege.as_str())
                && (grant.privilege != "MAINTAIN" || self.known.server_version >= MAINTAIN_SINCE)
        };
        let named = |name: &String| if *name == self.source_owner { self.existing.owner.clone() } else { name.clone() };
        let translate = |g: &Grant| Grant { grantee: named(&g.grantee), grantor: named(&g.grantor), ..g.clone() };
        grants.iter().filter(knows).map(translate).collect()
    }

    /// What has to be revoked, and then granted, each in an order in which the grantors may do so.
    fn differences(&self, now: &[Grant], wanted: &[Grant], had: &[Grant]) -> Vec<(Verb, Grant)> {
        let at = |list: &[Grant], grant: &Grant| list.iter().find(|one| key(one) == key(grant)).cloned();
        let mut revoked = Vec::new();
        for grant in now {
            match at(wanted, grant) {
                None if at(had, grant).is_some() || self.is_to_go(grant, wanted) => {
                    revoked.push((Verb::Revoke, grant.clone()));
                }
                Some(other) if grant.grantable && !other.grantable => {
                    revoked.push((Verb::RevokeOption, grant.clone()));
                }
                _ => {}
            }
        }
        let owner = &self.existing.owner;
        revoked.sort_by_key(|(_, grant)| std::cmp::Reverse(depth(grant, now, owner)));
        let lacks = |grant: &&Grant| at(now, grant).is_none_or(|there| grant.grantable && !there.grantable);
        let mut granted: Vec<Grant> = wanted.iter().filter(lacks).cloned().collect();
        granted.sort_by_key(|grant| depth(grant, wanted, owner));
        revoked.into_iter().chain(granted.into_iter().map(|grant| (Verb::Grant, grant))).collect()
    }

    /// What the source has not, and is not known to have had. MAINTAIN it may not know: whoever has something else keeps it.
    fn is_to_go(&self, grant: &Grant, wanted: &[Grant]) -> bool {
        let everybodys = grant.grantee.is_empty() || grant.grantee == self.existing.owner;
        let has_others = || wanted.iter().any(|other| other.grantee == grant.grantee);
        (everybodys || self.known.is_ours(&grant.grantee)) && !(grant.privilege == "MAINTAIN" && has_others())
    }

    fn step(&mut self, place: Place<'_>, verb: Verb, grant: &Grant) {
        let owners = grant.grantor == self.existing.owner;
        let grantor_acts = owners || self.known.acts(&grant.grantor);
        let grantee_known = grant.grantee.is_empty() || self.known.roles.contains_key(&grant.grantee);
        if verb == Verb::Grant && !(grantor_acts && grantee_known || grant.grantee == self.existing.owner && owners) {
            let names = [(&grant.grantor, grantor_acts), (&grant.grantee, grantee_known)];
            self.plan.missing.extend(names.into_iter().filter(|(_, fine)| !fine).map(|(name, _)| name.clone()));
            return;
        }
        let sql = self.sql(place, verb, grant);
        let grantor = if grantor_acts { grant.grantor.clone() } else { self.existing.owner.clone() };
        self.plan.steps.push(Step { grantor, verb, grant: grant.clone(), sql });
    }

    fn sql(&self, place: Place<'_>, verb: Verb, grant: &Grant) -> String {
        let Existing { object, prefix, .. } = self.existing;
        let column = place.map_or_else(String::new, |name| format!(" ({})", quote::identifier(name)));
        let what = format!("{}{column} ON {object}", grant.privilege);
        let role = if grant.grantee.is_empty() { "PUBLIC".to_owned() } else { quote::identifier(&grant.grantee) };
        match verb {
            Verb::Grant if grant.grantable => format!("{prefix}GRANT {what} TO {role} WITH GRANT OPTION"),
            Verb::Grant => format!("{prefix}GRANT {what} TO {role}"),
            Verb::RevokeOption => format!("{prefix}REVOKE GRANT OPTION FOR {what} FROM {role} CASCADE"),
            Verb::Revoke => format!("{prefix}REVOKE {what} FROM {role} CASCADE"),
        }
    }
}

fn key(grant: &Grant) -> (&String, &String, &String) {
    (&grant.grantee, &grant.grantor, &grant.privilege)
}

/// How many grants stand between the owner and this one. Circles of grant options do not exist, but bytes may say so.
fn depth(grant: &Grant, among: &[Grant], owner: &str) -> usize {
    let mut grantors = BTreeSet::from([grant.grantor.as_str()]);
    for steps in 0..among.len() {
        if grantors.contains(owner) {
            return steps;
        }
        let gave = among.iter().filter(|g| g.grantable && g.privilege == grant.privilege);
        let next: Vec<&str> =
            gave.filter(|g| grantors.contains(g.grantee.as_str())).map(|g| g.grantor.as_str()).collect();
        grantors.extend(next);
    }
    among.len()
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
