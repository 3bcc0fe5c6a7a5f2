//! The file as it is written: texts with their places, nothing checked but the names of the keys.

use serde::Deserialize;
use toml::Spanned;

/// A value with its place in the file, so that a complaint about it can name line and column.
pub(crate) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    pub(crate) service: Service,
    #[serde(default)]
    pub(crate) http: Http,
    #[serde(default)]
    pub(crate) hooks: Hooks,
    #[serde(default)]
    pub(crate) apply: Apply,
    #[serde(default)]
    pub(crate) roles: Roles,
    #[serde(default)]
    pub(crate) target: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) conninfo: Text,
    pub(crate) slot: Option<Text>,
    pub(crate) publication: Option<Text>,
    pub(crate) tables: Option<Vec<Text>>,
    #[serde(default)]
    pub(crate) exclude: Vec<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) dir: Option<Text>,
    pub(crate) segment_size: Option<Text>,
    pub(crate) retain_min: Option<Text>,
    pub(crate) retain_max: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) log_level: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub(crate) listen: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    #[serde(default)]
    pub(crate) on_error: Vec<Text>,
    pub(crate) on_error_timeout: Option<Text>,
    pub(crate) on_error_interval: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    pub(crate) batch_max_rows: Option<Spanned<u32>>,
    pub(crate) batch_max_delay: Option<Text>,
    pub(crate) workers: Option<Spanned<u32>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Roles {
    pub(crate) replicate: Option<bool>,
    pub(crate) passwords: Option<bool>,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) adopt: Vec<String>,
}

/// A target; its own [apply] keys stand beside its name. (`flatten` would switch `deny_unknown_fields` off.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) name: Text,
    pub(crate) conninfo: Text,
    pub(crate) batch_max_rows: Option<Spanned<u32>>,
    pub(crate) batch_max_delay: Option<Text>,
    pub(crate) workers: Option<Spanned<u32>>,
}
