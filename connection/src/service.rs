//! The service file: named groups of connection parameters.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::conninfo::{Conninfo, ConninfoError};
use crate::environment::Environment;

/// Fills in the parameters of the service that the text or `PGSERVICE` names.
pub(crate) fn fill(info: &mut Conninfo, environment: &Environment) -> Result<(), ConninfoError> {
    let service = info.value("service").or_else(|| environment.variable("PGSERVICE")).filter(|name| !name.is_empty());
    let Some(service) = service.map(str::to_owned) else { return Ok(()) };
    for path in files(info, environment) {
        if let Some(pairs) = group_of(&path, &service)? {
            return pairs.iter().try_for_each(|(key, value)| info.fill(key, value));
        }
    }
    Err(ConninfoError::NoService(service))
}

/// The user's own file, then the system's.
fn files(info: &Conninfo, environment: &Environment) -> Vec<PathBuf> {
    let given = info.value("servicefile").or_else(|| environment.variable("PGSERVICEFILE")).map(PathBuf::from);
    let own = given.or_else(|| environment.home().map(|home| home.join(".pg_service.conf")));
    let system = environment.variable("PGSYSCONFDIR").unwrap_or("/etc/postgresql-common");
    own.into_iter().chain([Path::new(system).join("pg_service.conf")]).collect()
}

type Pairs = Vec<(String, String)>;

fn group_of(path: &Path, service: &str) -> Result<Option<Pairs>, ConninfoError> {
    let complain = |problem| ConninfoError::ServiceFile { path: path.display().to_string(), problem };
    match std::fs::read_to_string(path) {
        Ok(text) => group(&text, service).map_err(complain),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(complain(error.to_string())),
    }
}

/// The pairs of `[service]`; only the first group of that name counts.
pub(crate) fn group(text: &str, service: &str) -> Result<Option<Pairs>, String> {
    let mut found: Option<Pairs> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            found = (line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) == Some(service)).then(Pairs::new);
        } else if let Some(pairs) = &mut found {
            pairs.push(pair(line).map_err(|problem| format!("line {}: {problem}", index + 1))?);
        }
    }
    Ok(found)
}

fn pair(line: &str) -> Result<(String, String), &'static str> {
    let (key, value) = line.split_once('=').ok_or("expected key=value")?;
    match key {
        "service" | "servicefile" => Err("a service cannot name another one"),
        _ => Ok((key.trim().to_owned(), value.trim().to_owned())),
    }
}
