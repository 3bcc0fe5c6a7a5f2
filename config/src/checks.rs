//! From the file as written to the configuration as used.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use connection::Conninfo;
use toml::Spanned;

use crate::levels::log_level;
use crate::raw::{self, Text};
use crate::{
    Apply, Config, Error, Hooks, Http, Log, Pattern, Place, Problem, Roles, Selection, Service, Source, Target,
};
use crate::{LOG_LEVEL_DEFAULT, parse_duration, parse_size};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Each worker is a session on the target.
const WORKERS_MAX: u32 = 64;

/// Bytes of a name in PostgreSQL, without the terminating zero (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// Reads and checks everything.
pub(crate) fn check(path: &Path, text: &str) -> Result<Config, Error> {
    let file = File { path, text };
    let raw: raw::File = toml::from_str(text).map_err(|e| file.syntax(&e))?;
    let defaults = Apply { batch_max_rows: 10_000, batch_max_delay: Duration::from_millis(10), workers: 1 };
    let apply =
        file.apply(&defaults, [&raw.apply.batch_max_rows, &raw.apply.workers], raw.apply.batch_max_delay.as_ref())?;
    Ok(Config {
        path: path.to_owned(),
        source: file.source(&raw.source)?,
        log: file.log(&raw.log)?,
        service: file.service(&raw.service)?,
        http: file.http(&raw.http)?,
        hooks: file.hooks(&raw.hooks)?,
        roles: roles(raw.roles),
        targets: file.targets(&raw.target, &apply)?,
    })
}

fn roles(raw: raw::Roles) -> Roles {
    Roles {
        replicate: raw.replicate.unwrap_or(true),
        passwords: raw.passwords.unwrap_or(false),
        exclude: raw.exclude,
        adopt: raw.adopt,
    }
}

/// The file that complaints are about.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn error(&self, span: Option<std::ops::Range<usize>>, problem: Problem) -> Error {
        Error::Invalid { place: Place::of(self.path, self.text, span), problem }
    }

    /// The parser's complaint without its excerpt of the file, which may hold a password.
    fn syntax(&self, error: &toml::de::Error) -> Error {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        self.error(error.span(), Problem::new(message, "config/walcast.example.toml shows every key"))
    }

    /// A value through its parser, or the default.
    fn value<T>(&self, raw: Option<&Text>, default: T, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, Error> {
        raw.map_or(Ok(default), |text| self.required(text, parse))
    }

    fn required<T>(&self, raw: &Text, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, Error> {
        parse(raw.get_ref()).map_err(|problem| self.error(Some(raw.span()), problem))
    }

    fn source(&self, raw: &raw::Source) -> Result<Source, Error> {
        let tables: Vec<Pattern> = match &raw.tables {
            Some(texts) => self.patterns(texts)?,
            None => vec![Pattern::everything()],
        };
        Ok(Source {
            conninfo: self.required(&raw.conninfo, conninfo)?,
            slot: self.value(raw.slot.as_ref(), "walcast".to_owned(), slot_name)?,
            publication: self.value(raw.publication.as_ref(), "walcast".to_owned(), publication_name)?,
            selection: Selection::new(tables, self.patterns(&raw.exclude)?),
        })
    }

    fn patterns(&self, texts: &[Text]) -> Result<Vec<Pattern>, Error> {
        texts.iter().map(|text| self.required(text, Pattern::parse)).collect()
    }

    fn log(&self, raw: &raw::Log) -> Result<Log, Error> {
        let segment_size = self.value(raw.segment_size.as_ref(), 64 * MIB, segment_size)?;
        let retain_min = self.value(raw.retain_min.as_ref(), 0, parse_size)?;
        let at_least = |least: u64, what: &str, size: u64| match size >= least {
            true => Ok(size),
            false => {
                Err(Problem::new(format!("retain_max is {size} bytes, less than {what} ({least} bytes)"), "raise it"))
            }
        };
        let retain_max = self.value(raw.retain_max.as_ref(), 64 * GIB, |text| {
            let size = at_least(2 * segment_size, "two segments", parse_size(text)?)?;
            at_least(retain_min, "retain_min", size)
        })?;
        let dir = self.value(raw.dir.as_ref(), PathBuf::from("walcast-log"), directory)?;
        let base = self.path.parent().unwrap_or(Path::new(""));
        Ok(Log { dir: base.join(dir), segment_size, retain_min, retain_max })
    }

    fn service(&self, raw: &raw::Service) -> Result<Service, Error> {
        Ok(Service { log_level: self.value(raw.log_level.as_ref(), LOG_LEVEL_DEFAULT.to_owned(), log_level)? })
    }

    fn http(&self, raw: &raw::Http) -> Result<Http, Error> {
        let listen = self.value(raw.listen.as_ref(), Some("127.0.0.1:9464".to_owned()), listen_address)?;
        Ok(Http { listen })
    }

    fn hooks(&self, raw: &raw::Hooks) -> Result<Hooks, Error> {
        let on_error = raw.on_error.iter().map(|text| self.required(text, argument)).collect::<Result<Vec<_>, _>>()?;
        let (timeout, interval) = (raw.on_error_timeout.as_ref(), raw.on_error_interval.as_ref());
        Ok(Hooks {
            on_error,
            on_error_timeout: self.value(timeout, Duration::from_secs(30), time_for_a_program)?,
            on_error_interval: self.value(interval, Duration::from_secs(300), parse_duration)?,
        })
    }

    fn apply(
        &self,
        over: &Apply,
        [rows, workers]: [&Option<Spanned<u32>>; 2],
        delay: Option<&Text>,
    ) -> Result<Apply, Error> {
        if let Some(zero) = rows.as_ref().filter(|r| *r.get_ref() == 0) {
            let problem = Problem::new("batch_max_rows is 0, less than 1", "10000 is the default");
            return Err(self.error(Some(zero.span()), problem));
        }
        if let Some(wrong) = workers.as_ref().filter(|w| !(1..=WORKERS_MAX).contains(w.get_ref())) {
            let what = format!("workers is {}, not from 1 to {WORKERS_MAX}", wrong.get_ref());
            let hint = "1 is the default: one session applies everything";
            return Err(self.error(Some(wrong.span()), Problem::new(what, hint)));
        }
        Ok(Apply {
            batch_max_rows: rows.as_ref().map_or(over.batch_max_rows, |r| *r.get_ref()),
            batch_max_delay: self.value(delay, over.batch_max_delay, parse_duration)?,
            workers: workers.as_ref().map_or(over.workers, |w| *w.get_ref()),
        })
    }

    fn targets(&self, raw: &[raw::Target], apply: &Apply) -> Result<Vec<Target>, Error> {
        let mut names = HashSet::new();
        let mut targets = Vec::with_capacity(raw.len());
        for target in raw {
            let name = self.required(&target.name, target_name)?;
            if !names.insert(name.clone()) {
                let problem = Problem::new(format!("target \"{name}\" is declared twice"), "give each its own name");
                return Err(self.error(Some(target.name.span()), problem));
            }
            targets.push(Target {
                name,
                conninfo: self.required(&target.conninfo, conninfo)?,
                apply: self.apply(apply, [&target.batch_max_rows, &target.workers], target.batch_max_delay.as_ref())?,
            });
        }
        Ok(targets)
    }
}

fn conninfo(text: &str) -> Result<Conninfo, Problem> {
    Conninfo::parse(text).map_err(|e| {
        let hint = "write a URI (postgresql://user@host:5432/database) or key=value pairs, as for psql";
        Problem::new(e.to_string(), hint)
    })
}

/// PostgreSQL's own rule, so that the slot's name cannot be refused later.
fn slot_name(text: &str) -> Result<String, Problem> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name(text, allowed, "slot", "slot names are of a-z, 0-9 and _, up to 63 characters")
}

/// Target names stand in origin names, labels and paths, hence the narrow choice.
fn target_name(text: &str) -> Result<String, Problem> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    name(text, allowed, "target", "target names are of a-z, 0-9, _ and -, up to 63 characters")
}

/// Publications are ordinary identifiers: anything goes once it is quoted.
fn publication_name(text: &str) -> Result<String, Problem> {
    name(text, |b| b != 0, "publication", "names of publications have 1 to 63 bytes")
}

fn name(text: &str, allowed: impl Fn(u8) -> bool, what: &str, hint: &str) -> Result<String, Problem> {
    let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(Problem::new(format!("\"{}\" is not a {what} name", text.escape_default()), hint)),
    }
}

fn segment_size(text: &str) -> Result<u64, Problem> {
    let size = parse_size(text)?;
    match (MIB..=4 * GIB).contains(&size) {
        true => Ok(size),
        false => {
            let message = format!("segment_size is {size} bytes, not between {MIB} and {}", 4 * GIB);
            Err(Problem::new(message, "\"64MiB\" is the default"))
        }
    }
}

fn directory(text: &str) -> Result<PathBuf, Problem> {
    match text.is_empty() || text.contains('\0') {
        true => Err(Problem::new("dir is not a path", "\"walcast-log\" is the default")),
        false => Ok(PathBuf::from(text)),
    }
}

/// What a program can be given.
fn argument(text: &str) -> Result<String, Problem> {
    match text.is_empty() || text.contains('\0') {
        true => Err(Problem::new(
            "on_error has an empty part",
            "write a program and its arguments as [\"/path\", \"argument\"]",
        )),
        false => Ok(text.to_owned()),
    }
}

fn time_for_a_program(text: &str) -> Result<Duration, Problem> {
    match parse_duration(text)? {
        time if time < Duration::from_millis(1) => {
            Err(Problem::new("on_error_timeout leaves the program no time", "\"30s\" is the default"))
        }
        time => Ok(time),
    }
}

/// `host:port` with a host name or address; an empty text is no server.
fn listen_address(text: &str) -> Result<Option<String>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let named = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(':') && port.parse::<u16>().is_ok());
    match named || text.parse::<SocketAddr>().is_ok() {
        true => Ok(Some(text.to_owned())),
        false => Err(Problem::new(
            format!("\"{}\" is not an address to listen on", text.escape_default()),
            "write host:port such as \"127.0.0.1:9464\", or \"\" for no HTTP server",
        )),
    }
}
