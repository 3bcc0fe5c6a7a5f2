//! docs/reference/metrics.md, from the table of metrics.

use std::fmt::Write;

use super::{assert_made, cell};
use crate::metrics::ALL;

const HEAD: &str = "\
# Metrics

Made from `src/metrics.rs`, not to be edited. `/metrics` has all of these; [Monitoring](../monitoring.md) says what to do about
them.

A position is a gauge in bytes of WAL, so that differences of positions are bytes. Lags are measured from the source's end,
each stage including those before it; they are never negative, and on an idle source they are zero. Of each target the busiest
tables are shown, 2000 of all targets together, and at least ten of each.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
";

#[test]
fn the_reference_of_metrics_is_made_from_the_code() {
    let mut text = HEAD.to_owned();
    for (name, kind, _, labels, help) in ALL {
        writeln!(text, "| `{name}` | {} | {} | {} |", kind.as_str(), labels.join(", "), cell(help)).unwrap();
    }
    assert_made("docs/reference/metrics.md", &text);
}
