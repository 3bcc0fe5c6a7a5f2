//! Prometheus' text format, for values that are looked up when they are asked for.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::metrics::ALL;

/// Samples, gathered by metric: the format wants those of a metric in one place.
#[derive(Default)]
pub(crate) struct Page {
    families: BTreeMap<&'static str, String>,
}

impl Page {
    /// Adds a sample. Whatever a label's value contains, it stays one.
    pub(crate) fn sample(&mut self, metric: &'static str, labels: &[(&str, &str)], value: f64) {
        let family = self.families.entry(metric).or_default();
        family.push_str(metric);
        let mut before = '{';
        for (name, text) in labels {
            family.push(before);
            family.push_str(name);
            family.push_str("=\"");
            escape(family, text);
            family.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            family.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(family, " {value}");
    }

    /// Adds 1 for the label value that is so, and 0 for the others.
    pub(crate) fn choice(&mut self, metric: &'static str, target: Option<&str>, label: &str, of: &[&str], is: &str) {
        for &word in of {
            let labels = [("target", target.unwrap_or_default()), (label, word)];
            self.sample(metric, if target.is_some() { &labels } else { &labels[1..] }, truth(word == is));
        }
    }

    /// Everything, with help and type of each metric.
    pub(crate) fn finish(mut self) -> String {
        let mut text = String::new();
        for (name, kind, .., help) in ALL {
            if let Some(family) = self.families.remove(name) {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
                text.push_str(&family);
            }
        }
        assert!(self.families.is_empty(), "metrics without a name in the table: {:?}", self.families.keys());
        text
    }
}

/// 1 or 0.
pub(crate) fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{SOURCE_UP, TABLE_CHANGES, TARGET_STATE};

    #[test]
    fn samples_of_a_metric_stand_together_below_its_help() {
        let mut page = Page::default();
        page.sample(TABLE_CHANGES, &[("target", "a"), ("table", "x")], 1.0);
        page.sample(SOURCE_UP, &[], 0.0);
        page.sample(TABLE_CHANGES, &[("target", "b"), ("table", "x")], 2.5);
        let text = page.finish();
        let tables = "# TYPE walcast_table_changes_total counter\n\
                      walcast_table_changes_total{target=\"a\",table=\"x\"} 1\n\
                      walcast_table_changes_total{target=\"b\",table=\"x\"} 2.5\n";
        assert!(text.ends_with(tables), "{text}");
        assert!(text.starts_with("# HELP walcast_source_up ") && text.contains("\nwalcast_source_up 0\n"), "{text}");
    }

    #[test]
    fn a_hostile_label_stays_a_label() {
        let mut page = Page::default();
        page.sample(TABLE_CHANGES, &[("table", "a\"} 7\nwalcast_source_up 1\\")], 1.0);
        let text = page.finish();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("{table=\"a\\\"} 7\\nwalcast_source_up 1\\\\\"} 1\n"), "{text}");
    }

    #[test]
    fn one_of_several_is_so() {
        let mut page = Page::default();
        page.choice(TARGET_STATE, Some("a"), "kind", &["new", "paused"], "paused");
        let text = page.finish();
        assert!(text.contains("{target=\"a\",kind=\"new\"} 0\n") && text.contains("kind=\"paused\"} 1\n"), "{text}");
    }
}
