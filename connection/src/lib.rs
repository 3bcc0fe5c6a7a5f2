//! Connections to PostgreSQL: conninfo as in libpq, TLS, and a raw protocol session.
