//! States of objects, as `walcast.describe` writes them. Fields as in `capture/sql/README.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::quote;

/// What an object is. One type for all kinds: most keys are absent from most states.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "capture/sql/README.md is the description of the fields")]
pub struct State {
    #[serde(rename = "type")]
    pub kind: String,
    pub identity: String,
    pub object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub owner: Option<String>,
    pub comment: Option<String>,
    /// None: the default privileges of its kind.
    pub acl: Option<Vec<Grant>>,
    pub table: Option<String>,
    pub limited: Option<String>,
    pub depends: Vec<String>,
    pub tablespace: Option<String>,
    pub create: Vec<String>,
    pub body: Option<String>,

    // relations
    pub persistence: Option<String>,
    pub options: Value,
    pub toast_options: Vec<String>,
    pub access_method: Option<String>,
    pub of: Option<String>,
    pub partition_key: Option<String>,
    pub parent: Option<String>,
    pub bound: Option<String>,
    pub triggers: BTreeMap<String, String>,
    pub inherits: Vec<String>,
    pub rls: Option<RowSecurity>,
    pub replica_identity: Option<String>,
    pub identity_index: Option<String>,
    pub server: Option<String>,
    pub fdw_options: BTreeMap<String, String>,
    pub redacted: Vec<String>,
    pub columns: Vec<Column>,
    pub constraints: Vec<Constraint>,
    pub indexes: Vec<Index>,
    pub query: Option<String>,
    pub populated: Option<bool>,
    pub owned_by: Option<OwnedBy>,

    // opaque objects
    #[serde(rename = "kind")]
    pub type_kind: Option<String>,
    pub shell: bool,
    pub values: Vec<Label>,
    pub base: Option<String>,
    pub collation: Option<String>,
    pub default: Option<String>,
    pub not_null: bool,
    pub arguments: Option<String>,
    pub result: Option<String>,
    pub enabled: Option<String>,
    pub permissive: Option<bool>,
    pub command: Option<String>,
    pub roles: Vec<String>,
    #[serde(rename = "using")]
    pub using_expression: Option<String>,
    pub check: Option<String>,
    pub statistics: Option<i32>,
    pub version: Option<String>,
    pub extension_schema: Option<String>,
    pub handler: Option<String>,
    pub validator: Option<String>,
    pub server_type: Option<String>,
    pub role: Option<String>,
    pub objects: Option<String>,
    pub in_schema: Option<String>,
    pub members: Vec<String>,
    pub mappings: Vec<String>,

    // roles and the database
    pub superuser: bool,
    pub inherit: bool,
    pub createrole: bool,
    pub createdb: bool,
    pub login: bool,
    pub replication: bool,
    pub bypassrls: bool,
    pub connection_limit: Option<i32>,
    pub valid_until: Option<String>,
    pub password: Option<String>,
    pub settings: Vec<Setting>,
    pub member_of: Vec<Membership>,
}

/// Privileges of an object; None: the default ones of its kind.
pub type Acl = Option<Vec<Grant>>;

/// One privilege.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct Grant {
    /// Empty for PUBLIC.
    pub grantee: String,
    /// The role that granted it.
    pub grantor: String,
    /// `SELECT`, …
    pub privilege: String,
    /// Whether it may be granted on.
    pub grantable: bool,
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "capture/sql/README.md is the description of the fields")]
pub struct Column {
    pub num: i32,
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub not_null: bool,
    pub default: Option<String>,
    pub collation: Option<String>,
    pub generated: Option<String>,
    pub identity: Option<String>,
    pub storage: Option<String>,
    pub compression: Option<String>,
    pub statistics: Option<i32>,
    pub options: Option<Vec<String>>,
    pub fdw_options: BTreeMap<String, String>,
    pub acl: Option<Vec<Grant>>,
    pub comment: Option<String>,
    pub missing: Option<String>,
    pub local: Option<bool>,
    pub inherited: bool,
}

/// A constraint of a table or domain.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "capture/sql/README.md is the description of the fields")]
pub struct Constraint {
    pub oid: u32,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub def: String,
    pub comment: Option<String>,
    pub valid: Option<bool>,
    pub local: Option<bool>,
}

impl Constraint {
    /// The relation that a foreign key refers to, as SQL calls it.
    pub fn references(&self) -> Option<&str> {
        let outside = |at: &(usize, &str)| self.def[..at.0].matches('"').count().is_multiple_of(2);
        let (at, word) = self.def.match_indices(" REFERENCES ").find(outside).filter(|_| self.kind == "f")?;
        let name = &self.def[at + word.len()..];
        let quoted_before = |at: usize| !name[..at].matches('"').count().is_multiple_of(2);
        let end = name.match_indices('(').map(|(at, _)| at).find(|at| !quoted_before(*at))?;
        Some(&name[..end])
    }
}

/// An index of a table or materialized view.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "capture/sql/README.md is the description of the fields")]
pub struct Index {
    pub oid: u32,
    pub name: String,
    pub def: String,
    pub of_constraint: Option<String>,
    pub valid: Option<bool>,
    pub clustered: bool,
    pub statistics: BTreeMap<String, i32>,
    pub parent: Option<String>,
    pub depends: Vec<String>,
    pub tablespace: Option<String>,
    pub comment: Option<String>,
}

/// A label of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Label {
    /// Its OID on the server that described it.
    pub oid: u32,
    /// The text.
    pub label: String,
}

/// The column that a sequence belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct OwnedBy {
    /// As SQL calls it.
    pub table: String,
    /// Not quoted.
    pub column: String,
    /// Whether it is an identity column's.
    pub identity: bool,
}

/// Row level security of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct RowSecurity {
    /// ENABLE ROW LEVEL SECURITY.
    pub enabled: bool,
    /// FORCE ROW LEVEL SECURITY.
    pub forced: bool,
}

/// Settings of a role, or of the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Setting {
    /// In this database only.
    pub database: bool,
    /// `name=value`
    pub config: Vec<String>,
}

/// A membership of a role in another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Membership {
    /// The role that it is a member of.
    pub role: String,
    /// The role that granted it.
    pub grantor: String,
    /// ADMIN OPTION.
    pub admin: bool,
    /// INHERIT option; None before 16.
    pub inherit: Option<bool>,
    /// SET option; None before 16.
    pub set: Option<bool>,
}

impl State {
    /// Its qualified name, quoted; for what has no schema, its name.
    pub(crate) fn sql_name(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        self.schema.as_ref().map_or_else(|| quote::identifier(name), |schema| quote::qualified(schema, name))
    }

    /// What stands after ALTER once it has been moved to another schema.
    pub(crate) fn object_in(&self, schema: Option<&str>) -> String {
        let (Some(from), Some(to)) = (&self.schema, schema) else { return self.object.clone() };
        let spelled = [format!(" {from}."), format!(" {}.", quote::identifier(from))];
        let found = spelled.iter().find(|spelled| self.object.contains(spelled.as_str()));
        let moved = |old: &String| self.object.replacen(old.as_str(), &format!(" {}.", quote::identifier(to)), 1);
        found.map_or_else(|| self.object.clone(), moved)
    }

    /// Storage parameters of a relation, `name=value`.
    pub(crate) fn parameters(&self) -> Vec<String> {
        let items = self.options.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// What `walcast.locate` wants to know of it.
    pub(crate) fn locator(&self) -> String {
        self.locator_json().to_string()
    }

    pub(crate) fn locator_json(&self) -> Value {
        let keys = serde_json::json!({"type": self.kind, "identity": self.identity, "address": self.address,
            "schema": self.schema, "name": self.name});
        let present = keys.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        Value::Object(present.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_key_says_what_it_refers_to_whatever_names_are_in_it() {
        let of = |kind: &str, def: &str| {
            let key = Constraint { kind: kind.to_owned(), def: def.to_owned(), ..Constraint::default() };
            key.references().map(str::to_owned)
        };
        assert_eq!(of("f", "FOREIGN KEY (a) REFERENCES public.t(id) ON DELETE CASCADE").as_deref(), Some("public.t"));
        let hostile = r#"FOREIGN KEY ("x"" REFERENCES y(") REFERENCES "a.b"."c(""d"(id) NOT VALID"#;
        assert_eq!(of("f", hostile).as_deref(), Some(r#""a.b"."c(""d""#));
        assert_eq!(of("c", "CHECK ((a = ' REFERENCES t('::text))"), None);
        assert_eq!(of("f", "FOREIGN KEY (a)"), None);
    }
}
