//! Metrics, dashboard and alerts before a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{free_address, get};
use crate::prometheus::{Prometheus, promtool};
use crate::service::{CATCH_UP, Mirror, SMALL_SEGMENTS, Service, until};

const ANSWERS: Duration = Duration::from_secs(60);

fn grafana(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(file)
}

/// Two targets with rows, and an address for HTTP.
fn mirror() -> (Mirror, SocketAddr) {
    let mirror = Mirror::with(2, &[("max_slot_wal_keep_size", "4GB")], SMALL_SEGMENTS);
    let address = free_address();
    mirror.reconfigure(|text| text.replace("listen = \"\"", &format!("listen = \"{address}\"")));
    mirror.at_source("CREATE TABLE account (id int PRIMARY KEY, owner text); CREATE TABLE visit (at int PRIMARY KEY)");
    mirror.at_source("INSERT INTO account SELECT g, 'o' || g FROM generate_series(1, 3000) g");
    (mirror, address)
}

fn metrics(address: SocketAddr) -> String {
    let (code, body) = get(address, "/metrics").expect("walcast answers");
    assert_eq!(code, 200, "{body}");
    body
}

/// The queries of all panels, with Grafana's variables filled in.
fn panel_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(grafana("walcast.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    let filled =
        |text: &str| text.replace("$__rate_interval", "30s").replace("$instance", ".+").replace("$target", ".+");
    expressions.map(filled).collect()
}

/// Words of an expression that are names of metrics.
fn metric_names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("walcast_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// A change of a row, DDL and a grant, a lost session, and an error that stops the second target until it is put right.
fn make_news(mirror: &Mirror, service: &Service, prometheus: &Prometheus) {
    mirror.at_source("UPDATE account SET owner = 'x' WHERE id % 2 = 0; DELETE FROM account WHERE id = 7");
    mirror.at_source("CREATE TABLE later (id int PRIMARY KEY); GRANT SELECT ON later TO PUBLIC");
    mirror.catch_up(service);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'walcast%'";
    assert_ne!(mirror.at_target(0, ended).trim(), "0");
    mirror.at_target(1, "INSERT INTO visit VALUES (1)");
    mirror.at_source("INSERT INTO visit VALUES (1)");
    mirror.until_stopped(1);
    until("the alert sees the stopped target", ANSWERS, || {
        let rules = prometheus.rules();
        let rule = rules.iter().find(|rule| rule["name"] == "WalcastTargetStopped").unwrap();
        let alerts = rule["alerts"].as_array().unwrap();
        alerts.iter().any(|alert| alert["labels"]["target"] == mirror.names()[1])
    });
    mirror.at_target(1, "DELETE FROM visit");
    mirror.walcast(&["resume", mirror.names()[1]]);
}

/// Panics unless every expression gives data within the time. Rates need two scrapes.
fn assert_answered(prometheus: &Prometheus, expressions: &BTreeSet<String>) {
    let deadline = Instant::now() + ANSWERS;
    let mut left = expressions.clone();
    until("every query is looked at until the deadline", ANSWERS * 2, || {
        left.retain(|expression| prometheus.series(expression).is_empty());
        left.is_empty() || Instant::now() > deadline
    });
    assert!(left.is_empty(), "no data for:\n{}", left.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Panics unless the series of each metric have the labels that the reference gives it.
fn assert_labels_as_documented(exposition: &str) {
    let reference = crate::document::read("docs/reference/metrics.md");
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    // A metric without labels has an empty cell.
    let labels = |row: &str| -> BTreeSet<String> {
        let cell = row.split(" | ").nth(1).unwrap();
        cell.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect()
    };
    let documented: BTreeMap<&str, BTreeSet<String>> = rows.map(|(name, row)| (name, labels(row))).collect();
    let mut found = BTreeMap::<&str, BTreeSet<String>>::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, rest) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), "}"));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
        let metric = histogram.filter(|name| documented.contains_key(name)).unwrap_or(series);
        let pairs = rest.split_once('}').unwrap().0.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0));
        found.entry(metric).or_default().extend(pairs.filter(|label| *label != "le").map(str::to_owned));
    }
    assert!(found.len() > 40, "metrics: {found:?}");
    for (metric, labels) in found {
        assert_eq!(documented.get(metric), Some(&labels), "labels of {metric}");
    }
}

#[test]
fn every_panel_and_every_alert_has_data_in_a_real_prometheus() {
    let (mirror, address) = mirror();
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    until("walcast answers", CATCH_UP, || get(address, "/healthz").is_some());
    let prometheus = Prometheus::start(address, &grafana("alerts.yml"));
    for name in mirror.names() {
        // So slowly that it is told how far it is.
        mirror.walcast(&["bootstrap", name, "--max-rate", "8KiB"]);
    }
    make_news(&mirror, &service, &prometheus);

    let queries: BTreeSet<String> = panel_queries().into_iter().collect();
    assert!(queries.len() > 40, "queries of the dashboard: {queries:?}");
    assert_answered(&prometheus, &queries);
    let rules = prometheus.rules();
    assert!(rules.len() >= 15, "rules: {rules:?}");
    let names = rules.iter().flat_map(|rule| {
        assert_eq!(rule["health"], "ok", "{rule}");
        metric_names(rule["query"].as_str().unwrap())
    });
    assert_answered(&prometheus, &names.collect());
    assert!(prometheus.series("max(walcast_no_such_metric)").is_empty(), "a panel could name what does not exist");
    for (metric, rest) in
        [("walcast_apply_errors_total", "sqlstate=\"23505\""), ("walcast_ddl_events_total", "kind=\"table\"")]
    {
        assert!(!prometheus.series(&format!("{metric}{{{rest}}} > 0")).is_empty(), "{metric} with {rest}");
    }
    promtool(&["check", "metrics"], &metrics(address));
    assert_labels_as_documented(&metrics(address));
    mirror.finish(service);
}

#[test]
fn lag_is_zero_on_an_idle_source_and_true_while_a_target_is_paused() {
    let (mirror, address) = mirror();
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    for name in mirror.names() {
        mirror.walcast(&["bootstrap", name]);
    }
    let value = |metric: &str| {
        let text = metrics(address);
        let line = text.lines().find_map(|line| line.strip_prefix(metric)).map(str::trim);
        line.unwrap_or_else(|| panic!("{metric} is not in\n{text}")).parse::<f64>().unwrap()
    };
    let paused = "walcast_target_lag_seconds{target=\"tokyo\"}";
    mirror.catch_up(&service);
    let began = Instant::now();
    mirror.walcast(&["pause", "tokyo"]);
    mirror.at_source("INSERT INTO visit VALUES (1)");
    mirror.catch_up_one(0, &service);
    until("the paused target's lag grows", ANSWERS, || value(paused) > 2.0);
    // What is written besides transactions may be older by a second or two.
    let (lag, most) = (value(paused), began.elapsed().as_secs_f64() + 2.0);
    assert!(lag <= most, "{lag} s, {most} s after all was applied");
    mirror.walcast(&["resume", "tokyo"]);
    mirror.catch_up(&service);
    for stage in ["source", "log", "target{target=\"berlin\"}", "target{target=\"tokyo\"}"] {
        let metric = match stage.split_once('{') {
            Some((stage, labels)) => format!("walcast_{stage}_lag_seconds{{{labels}"),
            None => format!("walcast_{stage}_lag_seconds"),
        };
        until(&format!("{metric} is nothing"), ANSWERS, || value(&metric) == 0.0);
    }
    let negative = |line: &&str| !line.starts_with('#') && line.rsplit(' ').next().is_some_and(|v| v.starts_with('-'));
    let text = metrics(address);
    assert_eq!(text.lines().find(negative), None, "nothing is negative");
    mirror.finish(service);
}

#[test]
fn alerts_are_raised_when_they_should_be() {
    let tests = grafana("alerts_test.yml");
    promtool(&["test", "rules", tests.to_str().unwrap()], "");
    promtool(&["check", "config", "--syntax-only", grafana("prometheus.yml").to_str().unwrap()], "");
}

#[test]
fn alerts_lead_to_panels_and_chapters_that_exist() {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(grafana("walcast.json")).unwrap()).unwrap();
    let panels: BTreeSet<u64> =
        dashboard["panels"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()).collect();
    let alerts = std::fs::read_to_string(grafana("alerts.yml")).unwrap();
    let values = |key: &'static str| alerts.lines().filter_map(move |line| line.trim().strip_prefix(key));
    let count = values("- alert: ").count();
    assert_eq!((values("panel: ").count(), values("runbook: ").count()), (count, count));
    for link in values("panel: ") {
        let id = link.strip_prefix("/d/walcast/walcast?viewPanel=").unwrap_or_else(|| panic!("{link}"));
        let id = id.split('&').next().unwrap().parse().unwrap();
        assert!(panels.contains(&id), "no panel {id}");
    }
    for link in values("runbook: ") {
        let (file, anchor) = link.split_once('#').unwrap();
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
        let anchors = headings.map(|h| h.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
        assert!(anchors.into_iter().any(|a| a == anchor), "no chapter {link}");
    }
}
