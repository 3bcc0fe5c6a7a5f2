//! A session that reads: everything in text, as the server's output functions write it.

use bytes::BytesMut;
use connection::{Conninfo, PINNED_SETTINGS, ServerError, TextRow, Wire, data_row};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::error::{Error, Side};

/// Besides [`PINNED_SETTINGS`]: whatever the text form of a value depends on, and nothing that ends a long comparison.
const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "walcast verify"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "off"),
    ("client_min_messages", "warning"),
    ("jit", "off"),
    // Tables are compared beside each other already; the server has others to serve.
    ("max_parallel_workers_per_gather", "0"),
    // Enough for the groups of one scan.
    ("work_mem", "32MB"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// A parameter in text; `None` is NULL.
pub(crate) type Value<'a> = Option<&'a str>;

/// A session with the source or the target.
pub(crate) struct Session {
    wire: Wire,
    side: Side,
}

impl Session {
    /// Opens one.
    pub(crate) async fn connect(conninfo: &Conninfo, side: Side) -> Result<Session, Error> {
        let settings: Vec<_> = PINNED_SETTINGS.iter().chain(SETTINGS).copied().collect();
        let opened = Wire::connect(conninfo, &settings).await;
        Ok(Session { wire: opened.map_err(|source| Error::Connect { side, source: Box::new(source) })?, side })
    }

    /// Whom it is with.
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u32 {
        self.wire.server_version() / 10_000
    }

    /// Runs SQL without parameters.
    pub(crate) async fn simple(&mut self, sql: &str) -> Result<Vec<TextRow>, Error> {
        let side = self.side;
        self.wire.simple_query(sql).await.map_err(|source| Error::Session { side, source: Box::new(source) })
    }

    /// Runs one statement and gives its rows.
    pub(crate) async fn query(&mut self, sql: &str, parameters: &[Value<'_>]) -> Result<Vec<TextRow>, Error> {
        let mut rows = Vec::new();
        self.each(sql, parameters, |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Runs one statement and gives each row as it comes. After an error of `take` the rest is read and thrown away.
    pub(crate) async fn each(
        &mut self,
        sql: &str,
        parameters: &[Value<'_>],
        mut take: impl FnMut(TextRow) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.parse(sql)?;
        self.bind(parameters)?;
        self.collect(|_, row| take(row)).await
    }

    /// Runs one statement for each set of parameters, in one round trip; gives rows with the number of their set.
    pub(crate) async fn each_of<'a>(
        &mut self,
        sql: &str,
        sets: impl Iterator<Item = Vec<Value<'a>>>,
        take: impl FnMut(usize, TextRow) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.parse(sql)?;
        for set in sets {
            self.bind(&set)?;
        }
        self.collect(take).await
    }

    fn parse(&mut self, sql: &str) -> Result<(), Error> {
        let side = self.side;
        frontend::parse("", sql, [], self.wire.out()).map_err(|source| Error::Encode { side, source })
    }

    fn bind(&mut self, parameters: &[Value<'_>]) -> Result<(), Error> {
        let side = self.side;
        let put = |value: &Value<'_>, buffer: &mut BytesMut| {
            Ok(value.map_or(IsNull::Yes, |text| {
                buffer.extend_from_slice(text.as_bytes());
                IsNull::No
            }))
        };
        let out = self.wire.out();
        let bound = frontend::bind("", "", [], parameters, put, [], out).map_err(|error| match error {
            frontend::BindError::Serialization(error) => error,
            frontend::BindError::Conversion(error) => std::io::Error::other(error),
        });
        let executed = bound.and_then(|()| frontend::execute("", 0, out));
        executed.map_err(|source| Error::Encode { side, source })
    }

    async fn collect(&mut self, mut take: impl FnMut(usize, TextRow) -> Result<(), Error>) -> Result<(), Error> {
        let side = self.side;
        frontend::sync(self.wire.out());
        let (mut result, mut set) = (Ok(()), 0);
        loop {
            let message = match self.wire.next_message().await {
                Ok(message) => message,
                Err(source) => return result.and(Err(Error::Session { side, source: Box::new(source) })),
            };
            match message.tag {
                b'D' if result.is_ok() => result = take(set, text_row(message.body)),
                b'C' => set += 1,
                b'E' if result.is_ok() => {
                    result = Err(Error::Refused { side, source: Box::new(ServerError::parse(message.body)) });
                }
                b'Z' => return result,
                b'1' | b'2' | b'D' | b'E' | b'n' => {}
                _ => result = result.and(Err(Error::Answer { side, what: "a message that no query asked for" })),
            }
        }
    }

    /// Ends the session in good order.
    pub(crate) async fn close(self) {
        self.wire.close().await;
    }
}

fn text_row(body: &[u8]) -> TextRow {
    data_row(body).map(|field| field.map(|bytes| String::from_utf8_lossy(bytes).into_owned())).collect()
}

/// The field, which may not be NULL.
pub(crate) fn text(row: &TextRow, at: usize, side: Side) -> Result<&str, Error> {
    row.get(at).and_then(|field| field.as_deref()).ok_or(Error::Answer { side, what: "a field is missing or NULL" })
}

/// The field as a number.
pub(crate) fn number<T: std::str::FromStr>(row: &TextRow, at: usize, side: Side) -> Result<T, Error> {
    text(row, at, side)?.parse().map_err(|_| Error::Answer { side, what: "a field is not a number" })
}
