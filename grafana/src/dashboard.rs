//! The dashboard around the panels.

use serde_json::{Value, json};

use crate::panel::datasource;
use crate::rows::{Row, rows};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// The file's text.
pub(crate) fn text() -> String {
    let text = serde_json::to_string_pretty(&dashboard()).expect("plain texts and numbers can be written as JSON");
    text + "\n"
}

fn dashboard() -> Value {
    json!({
        "uid": "walcast",
        "title": "walcast",
        "description": "One PostgreSQL source to many targets: lag by stage, slot, log, targets, tables, copies, DDL.",
        "tags": ["postgresql", "replication", "walcast"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "",
        "annotations": { "list": [annotation()] },
        "templating": { "list": variables() },
        "links": [],
        "panels": panels(&rows()),
    })
}

/// A mark at every start of the service, across all panels.
fn annotation() -> Value {
    json!({
        "name": "starts of walcast",
        "datasource": datasource(),
        "enable": true,
        "iconColor": "blue",
        "expr": "changes(process_start_time_seconds{instance=~\"$instance\"}[$__rate_interval]) > 0 \
                 and on (instance) walcast_build_info",
        "titleFormat": "walcast started",
    })
}

fn variables() -> Vec<Value> {
    let source = json!({
        "name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "current": {},
        "hide": 0, "refresh": 1, "regex": "", "includeAll": false, "multi": false, "options": [],
    });
    let values = |name: &str, query: &str| {
        json!({
            "name": name, "label": name, "type": "query", "datasource": datasource(),
            "query": { "query": query, "refId": name }, "definition": query,
            "current": { "text": ["All"], "value": ["$__all"] }, "allValue": ".+",
            "hide": 0, "refresh": 2, "sort": 1, "regex": "", "includeAll": true, "multi": true, "options": [],
        })
    };
    vec![
        source,
        values("instance", "label_values(walcast_build_info, instance)"),
        values("target", "label_values(walcast_target_up{instance=~\"$instance\"}, target)"),
    ]
}

/// Rows from top to bottom, their panels from left to right.
fn panels(rows: &[Row]) -> Vec<Value> {
    let mut placed = Vec::new();
    let mut y = 0;
    for row in rows {
        placed.push(json!({
            "id": row.id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
        }));
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in &row.panels {
            let (columns, lines) = panel.size;
            if x + columns > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            placed.push(panel.json(x, y));
            (x, height) = (x + columns, height.max(lines));
        }
        y += height;
    }
    placed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_file_is_what_the_code_writes() {
        let file = include_str!("../walcast.json");
        assert!(file == text(), "run `cargo run -p grafana > grafana/walcast.json`");
    }

    #[test]
    fn panels_have_numbers_of_their_own_and_do_not_overlap() {
        let panels = panels(&rows());
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let mut taken = BTreeSet::new();
        for panel in &panels {
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(side("x") + side("w") <= u64::from(COLUMNS), "{panel}");
            let cells = (side("y")..side("y") + side("h"))
                .flat_map(|y| (side("x")..side("x") + side("w")).map(move |x| (x, y)));
            for cell in cells {
                assert!(taken.insert(cell), "{cell:?} is taken twice: {}", panel["title"]);
            }
        }
    }

    #[test]
    fn every_panel_says_what_to_do_and_asks_something_of_the_chosen_service() {
        for panel in panels(&rows()).iter().filter(|panel| panel["type"] != "row") {
            let (title, about) = (panel["title"].as_str().unwrap(), panel["description"].as_str().unwrap());
            assert!(about.len() > 40 && about.ends_with('.'), "{title}: {about}");
            let queries = panel["targets"].as_array().unwrap();
            assert!(!queries.is_empty(), "{title}");
            for query in queries {
                let expression = query["expr"].as_str().unwrap();
                let selectors = expression.matches("walcast_").count() + expression.matches("process_").count();
                assert_eq!(expression.matches("instance=~\"$instance\"").count(), selectors, "{title}: {expression}");
            }
        }
    }
}
