//! What messages need on a target: the functions in schema `walcast` by which it describes its own objects in the same words
//! as the source.
//!
//! A login that is a superuser makes them itself, in the transaction of the first message, and again when they are of
//! another version: a comment on one of them tells. For another login an administrator has to.

use connection::WireError;

use crate::catalog::flag;
use crate::checkpoint;
use crate::error::Error;
use crate::session::Session;

/// Columns: the login is a superuser; the schema is in good hands; the functions are there, and of this version; there are
/// those that act as others.
const LOOK: &str = "\
SELECT me.rolsuper, o.rolsuper OR o.oid = me.oid OR NOT me.rolsuper AND o.oid = d.datdba,
       f.oid IS NOT NULL, coalesce(pg_catalog.obj_description(f.oid, 'pg_proc') = $1, false),
       pg_catalog.to_regprocedure('walcast.run(text, text, text, text)') IS NOT NULL
  FROM pg_catalog.pg_namespace n
  JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
  JOIN pg_catalog.pg_roles me ON me.rolname = current_user
  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
 CROSS JOIN (SELECT pg_catalog.to_regprocedure('walcast.describe(oid, oid)')::pg_catalog.oid) f (oid)
 WHERE n.nspname = 'walcast'";

/// Makes what is missing, and says whose rights statements have to run with: a login that has the token uses the functions
/// that act as others where they are.
pub(super) async fn ensure(
    session: &mut Session,
    functions: &str,
    token: Option<&::ddl::Token>,
) -> Result<::ddl::Rights, Error> {
    checkpoint::make_tables(session).await.map_err(unable)?;
    let version = version(functions);
    let mut found = Found::look(session, &version).await?;
    if found.is_superuser && !found.current {
        // They may set a path of their own for the transaction.
        let noted = format!(
            "{functions}\n;comment on function walcast.describe(oid, oid) is '{version}'; \
             SELECT set_config('search_path', '', true)"
        );
        session.simple(&noted).await?;
        found = Found::look(session, &version).await?;
    }
    match token.filter(|_| found.acting) {
        _ if !found.there => Err(Error::NoFunctions(None)),
        Some(token) => Ok(::ddl::Rights::Owner(token.clone())),
        None if found.is_superuser => Ok(::ddl::Rights::Login),
        None => Err(Error::NoFunctions(None)),
    }
}

/// What [`LOOK`] says.
struct Found {
    is_superuser: bool,
    there: bool,
    current: bool,
    acting: bool,
}

impl Found {
    async fn look(session: &mut Session, version: &str) -> Result<Found, Error> {
        let rows = session.query(LOOK, &[version]).await?;
        let row = rows.first().ok_or(Error::Answer("no schema walcast"))?;
        if !flag(row, 1)? {
            // Whoever owns the schema can put functions of his own there, which would be called with this role's rights.
            return Err(Error::ForeignSchema);
        }
        Ok(Found { is_superuser: flag(row, 0)?, there: flag(row, 2)?, current: flag(row, 3)?, acting: flag(row, 4)? })
    }
}

/// FNV-1a of the text: the same for the same functions.
fn version(functions: &str) -> String {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("walcast {:016x}", functions.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

fn unable(error: Error) -> Error {
    match error {
        Error::Wire(WireError::Server(error)) if error.sqlstate == "42501" => Error::NoFunctions(Some(error)),
        other => other,
    }
}
