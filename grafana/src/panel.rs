//! One panel, and how Grafana writes it down.

use serde_json::{Value, json};

/// How a panel draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its last value, large.
    Stat,
    /// Curves.
    TimeSeries,
    /// Curves that add up.
    Stacked,
    /// A filling bar for each series.
    BarGauge,
    /// A row for each target.
    Table,
}

impl Kind {
    fn plugin(self) -> &'static str {
        match self {
            Kind::Stat => "stat",
            Kind::TimeSeries | Kind::Stacked => "timeseries",
            Kind::BarGauge => "bargauge",
            Kind::Table => "table",
        }
    }
}

/// A value from which on a colour is used.
pub(crate) type Step = (f64, &'static str);

/// What a panel shows.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Its number; links name it.
    pub(crate) id: u32,
    title: &'static str,
    about: &'static str,
    kind: Kind,
    unit: &'static str,
    queries: Vec<(String, &'static str)>,
    steps: Vec<Step>,
    words: Vec<(u32, &'static str)>,
    max: Option<f64>,
    /// Columns of 24, and rows.
    pub(crate) size: (u32, u32),
}

impl Panel {
    /// A panel with a title, and with what to do when it looks bad.
    pub(crate) fn new(id: u32, kind: Kind, title: &'static str, about: &'static str) -> Panel {
        let size = if kind == Kind::Stat { (4, 4) } else { (12, 8) };
        let (queries, steps, words) = (Vec::new(), Vec::new(), Vec::new());
        Panel { id, title, about, kind, unit: "short", queries, steps, words, max: None, size }
    }

    /// Grafana's name of the unit.
    pub(crate) fn unit(mut self, unit: &'static str) -> Panel {
        self.unit = unit;
        self
    }

    /// A query, and what its curves are called. `{}` stands for the matchers of the service, `{T}` for those of the targets
    /// as well.
    pub(crate) fn query(mut self, query: &str, legend: &'static str) -> Panel {
        let (service, target) = (r#"instance=~"$instance""#, r#"target=~"$target""#);
        let query = query.replace("{T}", &format!("{{{service},{target}}}")).replace(",T}", &format!(",{target}}}"));
        let query = query.replace("{}", &format!("{{{service}}}")).replace("{,", &format!("{{{service},"));
        self.queries.push((query, legend));
        self
    }

    /// Colours from these values on; green before them.
    pub(crate) fn steps(mut self, steps: &[Step]) -> Panel {
        self.steps = steps.to_vec();
        self
    }

    /// Words for values.
    pub(crate) fn words(mut self, words: &[(u32, &'static str)]) -> Panel {
        self.words = words.to_vec();
        self
    }

    /// Where a bar is full.
    pub(crate) fn max(mut self, max: f64) -> Panel {
        self.max = Some(max);
        self
    }

    /// Columns of 24, and rows.
    pub(crate) fn size(mut self, columns: u32, rows: u32) -> Panel {
        self.size = (columns, rows);
        self
    }

    /// As Grafana writes it, with its upper left corner there.
    pub(crate) fn json(&self, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": self.id,
            "type": self.kind.plugin(),
            "title": self.title,
            "description": self.about,
            "datasource": datasource(),
            "gridPos": { "h": self.size.1, "w": self.size.0, "x": x, "y": y },
            "fieldConfig": { "defaults": self.defaults(), "overrides": self.overrides() },
            "options": self.options(),
            "targets": self.targets(),
        });
        if self.kind == Kind::Table {
            panel["transformations"] = json!([{ "id": "merge", "options": {} }, { "id": "organize", "options": {
                "excludeByName": { "Time": true, "Value #A": true, "Value #D": true },
                "renameByName": { "kind": "state", "Value #B": "lag", "Value #C": "WAL behind" },
            } }]);
        }
        panel
    }

    fn defaults(&self) -> Value {
        let mut steps = vec![json!({ "color": "green", "value": null })];
        steps.extend(self.steps.iter().map(|(value, colour)| json!({ "color": colour, "value": value })));
        let by_thresholds = self.kind != Kind::TimeSeries && self.kind != Kind::Stacked;
        let mut defaults = json!({
            "unit": self.unit,
            "min": 0,
            "color": { "mode": if by_thresholds { "thresholds" } else { "palette-classic" } },
            "thresholds": { "mode": "absolute", "steps": steps },
            "mappings": self.mappings(),
            "custom": self.custom(),
        });
        if let Some(max) = self.max {
            defaults["max"] = json!(max);
        }
        defaults
    }

    fn mappings(&self) -> Vec<Value> {
        let word = |(value, word): &(u32, &str)| {
            let options = json!({ value.to_string(): { "text": word, "index": value } });
            json!({ "type": "value", "options": options })
        };
        self.words.iter().map(word).collect()
    }

    fn custom(&self) -> Value {
        match self.kind {
            Kind::TimeSeries | Kind::Stacked => json!({
                "lineWidth": 1,
                "fillOpacity": if self.kind == Kind::Stacked { 30 } else { 8 },
                "showPoints": "never",
                "spanNulls": false,
                "stacking": { "mode": if self.kind == Kind::Stacked { "normal" } else { "none" }, "group": "A" },
                "thresholdsStyle": { "mode": if self.steps.is_empty() { "off" } else { "dashed" } },
            }),
            Kind::Table => json!({ "align": "auto", "cellOptions": { "type": "auto" }, "filterable": true }),
            Kind::Stat | Kind::BarGauge => json!({}),
        }
    }

    fn overrides(&self) -> Vec<Value> {
        if self.kind != Kind::Table {
            return Vec::new();
        }
        let column = |name: &str, properties: Value| {
            let matcher = json!({ "id": "byName", "options": name });
            json!({ "matcher": matcher, "properties": properties })
        };
        let colours = json!({ "id": "custom.cellOptions", "value": { "type": "color-text" } });
        vec![
            column("lag", json!([{ "id": "unit", "value": "s" }, colours])),
            column(
                "WAL behind",
                json!([{ "id": "unit", "value": "bytes" }, { "id": "thresholds", "value": {
                "mode": "absolute", "steps": [{ "color": "text", "value": null }] } }]),
            ),
        ]
    }

    fn options(&self) -> Value {
        let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        match self.kind {
            Kind::Stat => json!({
                "reduceOptions": last, "colorMode": "background", "graphMode": "area", "textMode": "auto",
                "orientation": "auto", "justifyMode": "auto",
            }),
            Kind::TimeSeries | Kind::Stacked => json!({
                "legend": {
                    "displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"],
                },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::BarGauge => json!({ "reduceOptions": last, "displayMode": "basic", "orientation": "horizontal" }),
            Kind::Table => json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } }),
        }
    }

    fn targets(&self) -> Vec<Value> {
        let now = matches!(self.kind, Kind::Table | Kind::BarGauge);
        let target = |(at, (query, legend)): (usize, &(String, &str))| {
            json!({
                "refId": char::from(b'A' + u8::try_from(at).unwrap_or(u8::MAX)).to_string(),
                "datasource": datasource(),
                "expr": query,
                "legendFormat": if legend.is_empty() { "__auto" } else { legend },
                "instant": now,
                "range": !now,
                "format": if self.kind == Kind::Table { "table" } else { "time_series" },
            })
        };
        self.queries.iter().enumerate().map(target).collect()
    }
}

/// The variable that holds the data source.
pub(crate) fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}
