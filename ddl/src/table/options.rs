//! Storage parameters, and options of foreign data objects.

use std::collections::BTreeMap;

use crate::quote;

/// An option that differs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Added(String, String),
    Altered(String, String),
    Dropped(String),
}

/// How options of foreign data objects differ. What is redacted is known to neither side, and stays.
pub(crate) fn differences(
    now: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    redacted: &[String],
) -> Vec<Changed> {
    let dropped = now.keys().filter(|key| !after.contains_key(*key) && !redacted.contains(key));
    let mut changes: Vec<_> = dropped.cloned().map(Changed::Dropped).collect();
    for (key, value) in after {
        match now.get(key) {
            Some(old) if old == value => {}
            Some(_) => changes.push(Changed::Altered(key.clone(), value.clone())),
            None => changes.push(Changed::Added(key.clone(), value.clone())),
        }
    }
    changes
}

/// `OPTIONS (…)`; None: there is nothing to change.
pub(crate) fn in_option_list(changes: &[Changed]) -> Option<String> {
    let item = |change: &Changed| match change {
        Changed::Added(key, value) => format!("ADD {} {}", quote::identifier(key), quote::literal(value)),
        Changed::Altered(key, value) => format!("SET {} {}", quote::identifier(key), quote::literal(value)),
        Changed::Dropped(key) => format!("DROP {}", quote::identifier(key)),
    };
    let items: Vec<_> = changes.iter().map(item).collect();
    (!items.is_empty()).then(|| format!("OPTIONS ({})", items.join(", ")))
}

/// SQLSTATE of a parameter that a server does not know.
pub(crate) const UNKNOWN_PARAMETER: &[&str] = &["22023"];
/// What is said of it.
pub(crate) const UNKNOWN: &str = "the target does not know this parameter";

/// `RESET (…)` and `SET (…)` of storage parameters, which catalogs keep as `name=value`. Each by itself: a target may not know
/// one of them.
pub(crate) fn reloptions(now: &[String], after: &[String]) -> Vec<String> {
    let name = |item: &String| item.split('=').next().unwrap_or_default().to_owned();
    let kept: Vec<String> = after.iter().map(name).collect();
    let gone = now.iter().map(name).filter(|item| !kept.contains(item));
    let set = after.iter().filter(|item| !now.contains(item));
    let reset = gone.map(|name| format!("RESET ({})", parameter(&name)));
    reset.chain(set.map(|item| format!("SET ({})", assignment(item)))).collect()
}

/// `WITH (…)` of parameters; empty if there are none.
pub(crate) fn with(options: &[String]) -> String {
    let items: Vec<_> = options.iter().map(|item| assignment(item)).collect();
    if items.is_empty() { String::new() } else { format!(" WITH ({})", items.join(", ")) }
}

fn assignment(item: &str) -> String {
    match item.split_once('=') {
        Some((name, value)) => format!("{} = {}", parameter(name), quote::literal(value).trim_start()),
        None => parameter(item),
    }
}

/// Perhaps of a namespace: `toast.autovacuum_enabled`.
fn parameter(name: &str) -> String {
    name.split('.').map(quote::identifier).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn parameters_are_reset_and_set() {
        let (now, after) = (texts(&["fillfactor=70", "a=1"]), texts(&["a=2", "b=x"]));
        assert_eq!(reloptions(&now, &after), ["RESET (\"fillfactor\")", "SET (\"a\" = '2')", "SET (\"b\" = 'x')"]);
        assert!(reloptions(&now, &now).is_empty());
    }

    #[test]
    fn options_that_are_redacted_stay() {
        let map = |items: &[(&str, &str)]| items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let changes = differences(
            &map(&[("a", "1"), ("password", "x"), ("c", "1")]),
            &map(&[("a", "2"), ("b", "'")]),
            &texts(&["password"]),
        );
        let list = in_option_list(&changes).unwrap();
        assert_eq!(list, "OPTIONS (DROP \"c\", SET \"a\" '2', ADD \"b\" '''')");
    }
}
