//! What `log dump` shows of walcast's own messages: names of objects and of what is different about them. Never the states
//! themselves, which may hold passwords.

use serde_json::{Map, Value, json};

/// The signature before the JSON.
const SIGNATURE_BYTES: usize = 64;

/// A message about DDL, roles, grants or sequences.
pub(super) struct Ddl {
    tag: String,
    changes: Vec<Value>,
    sequences: Vec<Value>,
    refresh: Vec<Value>,
    unsupported: Vec<Value>,
    /// `schema.table` of every table that it is about, not quoted.
    tables: Vec<String>,
}

impl Ddl {
    /// Reads a message's content; `None` if it is another message.
    pub(super) fn read(prefix: &str, content: &[u8]) -> Option<Ddl> {
        if prefix != "walcast" {
            return None;
        }
        let message: Value = serde_json::from_slice(content.get(SIGNATURE_BYTES..)?).ok()?;
        let list = |key: &str| message[key].as_array().cloned().unwrap_or_default();
        let changes = list("changes");
        Some(Ddl {
            tag: message["tag"].as_str()?.to_owned(),
            tables: changes.iter().flat_map(tables).collect(),
            changes: changes.iter().map(shown_change).collect(),
            sequences: list("sequences"),
            refresh: list("refresh"),
            unsupported: list("unsupported"),
        })
    }

    /// Whether it is about this `schema.table`.
    pub(super) fn is_about(&self, table: &str) -> bool {
        self.tables.iter().any(|name| name == table)
    }

    /// For JSON.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("tag".to_owned(), json!(self.tag));
        fields.insert("changes".to_owned(), json!(self.changes));
        let lists = [("sequences", &self.sequences), ("refresh", &self.refresh), ("unsupported", &self.unsupported)];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            fields.insert(key.to_owned(), json!(list));
        }
        fields
    }

    /// For people: a line for the command, and one for each thing that it did.
    pub(super) fn lines(&self) -> String {
        let changes = self.changes.iter().map(change_line);
        let sequences =
            self.sequences.iter().map(|s| format!("sequence {} at {}", word(&s["identity"]), word(&s["last_value"])));
        let refresh = self.refresh.iter().map(|view| format!("refresh {}", word(view)));
        let unsupported = self.unsupported.iter().map(|what| format!("not replicated: {}", word(what)));
        let things = changes.chain(sequences).chain(refresh).chain(unsupported);
        let lines: String = things.map(|thing| format!("    {thing}\n")).collect();
        format!("  ddl {}\n{lines}", self.tag.escape_debug())
    }
}

fn change_line(change: &Value) -> String {
    let mut line = format!("{} {}", word(&change["action"]), word(&change["object"]));
    if let Some(was) = change["was"].as_str() {
        line.push_str(&format!(", was {}", was.escape_debug()));
    }
    let differs: Vec<&str> = change["differs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !differs.is_empty() {
        line.push_str(&format!(": {}", differs.join(", ")));
    }
    if change["rewritten"] == true {
        line.push_str(" (rewritten)");
    }
    line
}

/// One line, whatever is in it.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or("?").escape_debug().to_string()
}

fn state(change: &Value) -> &Value {
    if change["after"].is_null() { &change["before"] } else { &change["after"] }
}

fn shown_change(change: &Value) -> Value {
    let (before, after) = (&change["before"], &change["after"]);
    let action = match (before.is_null(), after.is_null()) {
        _ if change.get("failed").is_some() => "failed",
        (true, _) => "create",
        (false, true) => "drop",
        (false, false) => "alter",
    };
    let mut shown = json!({"action": action, "class": change["class"], "object": state(change)["object"]});
    if action == "alter" {
        shown["differs"] = json!(differing(before, after));
        if before["object"] != after["object"] {
            shown["was"] = before["object"].clone();
        }
    }
    for mark in ["rewritten", "auto", "member_of"] {
        if let Some(value) = change.get(mark).filter(|value| **value != Value::Bool(false)) {
            shown[mark] = value.clone();
        }
    }
    shown
}

/// The keys whose values differ.
fn differing(before: &Value, after: &Value) -> Vec<String> {
    let keys = |state: &Value| state.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
    let mut keys: Vec<String> = keys(before).into_iter().chain(keys(after)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| before.get(key) != after.get(key) && key != "object");
    keys
}

/// The tables that a change is about, under all of their names.
fn tables(change: &Value) -> Vec<String> {
    let of = |state: &Value| match (change["class"].as_str(), &state["schema"], &state["name"], &state["table"]) {
        (Some("pg_class"), Value::String(schema), Value::String(name), _) => Some(format!("{schema}.{name}")),
        (_, _, _, Value::String(table)) => Some(table.clone()),
        _ => None,
    };
    [&change["before"], &change["after"]].into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Ddl {
        let content = "0".repeat(SIGNATURE_BYTES) + text;
        Ddl::read("walcast", content.as_bytes()).unwrap()
    }

    #[test]
    fn objects_and_what_differs_are_shown_and_no_value_is() {
        let ddl = message(
            r#"{"v":1,"xid":"7","tag":"ALTER TABLE","changes":[
                {"class":"pg_authid","oid":1,"before":null,"after":{"object":"ROLE r","password":"SCRAM-SHA-256$x"}},
                {"class":"pg_class","oid":2,"rewritten":true,
                 "before":{"object":"TABLE public.t","schema":"public","name":"t","owner":"a","columns":[{"default":"'secret'"}]},
                 "after":{"object":"TABLE public.u","schema":"public","name":"u","owner":"a","columns":[]}}],
               "sequences":[{"identity":"public.s","last_value":"7","is_called":true}],"refresh":["public.m\n"]}"#,
        );
        let expected = "  ddl ALTER TABLE\n    create ROLE r\n    \
            alter TABLE public.u, was TABLE public.t: columns, name (rewritten)\n    \
            sequence public.s at 7\n    refresh public.m\\n\n";
        assert_eq!(ddl.lines(), expected);
        let json = Value::Object(ddl.fields()).to_string();
        assert!(!json.contains("SCRAM") && !json.contains("secret"), "{json}");
        assert!(ddl.is_about("public.t") && ddl.is_about("public.u") && !ddl.is_about("public.s"));
    }

    #[test]
    fn what_is_no_such_message_is_left_to_others() {
        for (prefix, content) in [("walcast", ""), ("walcast", "short"), ("other", "{}")] {
            assert!(Ddl::read(prefix, content.as_bytes()).is_none());
        }
        let zeros = "0".repeat(SIGNATURE_BYTES);
        for json in ["", "[]", "{}", "{\"tag\": 1}", "{\"tag\""] {
            assert!(Ddl::read("walcast", format!("{zeros}{json}").as_bytes()).is_none(), "{json}");
        }
        assert_eq!(message("{\"tag\":\"tick\"}").lines(), "  ddl tick\n");
    }
}
