//! Data directories: `initdb` once, then copies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::client::{one_line, run};
use crate::error::Error;
use crate::identity;
use crate::installation::Installation;
use crate::owner::Owner;
use crate::scratch::Scratch;

/// The superuser of every cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// What `initdb` is told, and so what two clusters must share to share a template.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct InitOptions {
    pub(crate) installation: Installation,
    pub(crate) password: Option<String>,
    pub(crate) arguments: Vec<String>,
}

/// A data directory that was never started. It is removed with the last cluster that was copied from it.
pub(crate) struct Template {
    options: InitOptions,
    directory: Scratch,
}

impl Template {
    /// The template for `options`, made now unless a living cluster was copied from an equal one.
    pub(crate) fn obtain(options: &InitOptions, owner: Owner) -> Result<Arc<Template>, Error> {
        static TEMPLATES: Mutex<Vec<Weak<Template>>> = Mutex::new(Vec::new());
        let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        templates.retain(|template| template.strong_count() > 0);
        if let Some(found) = templates.iter().filter_map(Weak::upgrade).find(|template| template.options == *options) {
            return Ok(found);
        }
        let made = Arc::new(Template::make(options.clone(), owner)?);
        templates.push(Arc::downgrade(&made));
        Ok(made)
    }

    fn make(options: InitOptions, owner: Owner) -> Result<Template, Error> {
        let directory = Scratch::new(owner)?;
        initdb(&options, owner, directory.path())?;
        Ok(Template { options, directory })
    }

    /// Copies the data directory to `target`, which must not exist, and gives the copy its own identity.
    pub(crate) fn copy_to(&self, target: &Path, owner: Owner) -> Result<(), Error> {
        let mut command = Command::new("cp");
        command.arg("-a").arg(data_dir(self.directory.path())).arg(target);
        owner.apply(&mut command, self.directory.path());
        run(command)?;
        identity::renew(target)
    }
}

fn data_dir(base: &Path) -> PathBuf {
    base.join("data")
}

fn initdb(options: &InitOptions, owner: Owner, base: &Path) -> Result<(), Error> {
    let mut command = Command::new(options.installation.program("initdb"));
    command.arg("-D").arg(data_dir(base)).args(["-U", SUPERUSER, "--locale=C", "-E", "UTF8", "-N"]);
    match &options.password {
        None => command.args(["-A", "trust"]),
        Some(password) => {
            let file = write_password(base, owner, password)?;
            command.args(["-A", "scram-sha-256"]).arg(format!("--pwfile={}", file.display()))
        }
    };
    command.args(&options.arguments);
    owner.apply(&mut command, base);
    run(command).map(drop).map_err(shorten)
}

/// A file of the owner alone, because a command line is everybody's to read.
fn write_password(base: &Path, owner: Owner, password: &str) -> Result<PathBuf, Error> {
    let path = base.join("password");
    crate::server::write_private(&path, password.as_bytes())?;
    owner.take(&path)?;
    Ok(path)
}

fn shorten(error: Error) -> Error {
    match error {
        Error::Failed { program, status, output } => Error::Failed { program, status, output: one_line(&output) },
        other => other,
    }
}
