//! The connection parameters that libpq knows, and which of their values are understood here.

/// One connection parameter.
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    /// The environment variable that stands in for it.
    pub(crate) variable: Option<&'static str>,
    kind: Kind,
}

enum Kind {
    Text,
    /// Whole numbers, 0 and less included, as libpq's parse_int_param.
    Number,
    Switch,
    OneOf(&'static [&'static str]),
    /// libpq has it, walcast does not; only these values, which change nothing, pass.
    Only(&'static [&'static str]),
}

const fn keyword(name: &'static str, variable: &'static str, kind: Kind) -> Keyword {
    let variable = if variable.is_empty() { None } else { Some(variable) };
    Keyword { name, variable, kind }
}

/// All of them, in the order of libpq's manual.
pub(crate) const KEYWORDS: &[Keyword] = &[
    keyword("host", "PGHOST", Kind::Text),
    keyword("hostaddr", "PGHOSTADDR", Kind::Text),
    keyword("port", "PGPORT", Kind::Text),
    keyword("dbname", "PGDATABASE", Kind::Text),
    keyword("user", "PGUSER", Kind::Text),
    keyword("password", "PGPASSWORD", Kind::Text),
    keyword("passfile", "PGPASSFILE", Kind::Text),
    keyword("service", "PGSERVICE", Kind::Text),
    keyword("servicefile", "PGSERVICEFILE", Kind::Text),
    keyword("channel_binding", "PGCHANNELBINDING", Kind::OneOf(&["disable", "prefer", "require"])),
    keyword("connect_timeout", "PGCONNECT_TIMEOUT", Kind::Number),
    keyword("client_encoding", "PGCLIENTENCODING", Kind::Only(&["auto", "UTF8", "utf8", "UTF-8", "utf-8"])),
    keyword("options", "PGOPTIONS", Kind::Text),
    keyword("application_name", "PGAPPNAME", Kind::Text),
    keyword("fallback_application_name", "", Kind::Text),
    keyword("keepalives", "", Kind::Number),
    keyword("keepalives_idle", "", Kind::Number),
    keyword("keepalives_interval", "", Kind::Number),
    keyword("keepalives_count", "", Kind::Number),
    keyword("tcp_user_timeout", "", Kind::Number),
    keyword("replication", "", Kind::Only(&[])),
    keyword("gssencmode", "PGGSSENCMODE", Kind::Only(&["disable", "prefer"])),
    keyword("gssdelegation", "PGGSSDELEGATION", Kind::Only(&["0"])),
    keyword("krbsrvname", "PGKRBSRVNAME", Kind::Only(&["postgres"])),
    keyword("gsslib", "PGGSSLIB", Kind::Only(&["gssapi"])),
    keyword(
        "sslmode",
        "PGSSLMODE",
        Kind::OneOf(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    ),
    keyword("sslnegotiation", "PGSSLNEGOTIATION", Kind::Only(&["postgres"])),
    keyword("sslcompression", "PGSSLCOMPRESSION", Kind::Only(&["0", "1"])),
    keyword("sslcert", "PGSSLCERT", Kind::Text),
    keyword("sslkey", "PGSSLKEY", Kind::Text),
    keyword("sslpassword", "", Kind::Only(&[])),
    keyword("sslcertmode", "PGSSLCERTMODE", Kind::Only(&["allow"])),
    keyword("sslrootcert", "PGSSLROOTCERT", Kind::Text),
    keyword("sslcrl", "PGSSLCRL", Kind::Text),
    keyword("sslcrldir", "PGSSLCRLDIR", Kind::Only(&[])),
    keyword("sslsni", "PGSSLSNI", Kind::Switch),
    keyword("requirepeer", "PGREQUIREPEER", Kind::Only(&[])),
    keyword("require_auth", "PGREQUIREAUTH", Kind::Only(&[])),
    keyword(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        Kind::OneOf(&["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]),
    ),
    keyword("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Kind::OneOf(&["TLSv1.2", "TLSv1.3"])),
    keyword(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Kind::OneOf(&["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]),
    ),
    keyword("load_balance_hosts", "PGLOADBALANCEHOSTS", Kind::Only(&["disable"])),
];

impl Keyword {
    pub(crate) fn find(name: &str) -> Option<&'static Keyword> {
        KEYWORDS.iter().find(|keyword| keyword.name == name)
    }

    /// Is its value for nobody to see?
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.name, "password" | "sslpassword")
    }

    /// What a value must be, when `value` is not that. The empty value always passes: it means the default.
    pub(crate) fn complaint(&self, value: &str) -> Option<String> {
        if value.is_empty() {
            return None;
        }
        match self.kind {
            Kind::Text => None,
            Kind::Number => value.trim().parse::<i32>().is_err().then(|| "expected a whole number".to_owned()),
            Kind::Switch => (!["0", "1"].contains(&value)).then(|| "expected 0 or 1".to_owned()),
            Kind::OneOf(values) => (!values.contains(&value)).then(|| format!("expected one of {}", values.join(", "))),
            Kind::Only(values) if values.contains(&value) => None,
            Kind::Only([]) => Some("it is not supported".to_owned()),
            Kind::Only(values) => Some(format!("only {} is supported", values.join(", "))),
        }
    }
}
