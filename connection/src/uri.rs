//! Connection URIs: `postgresql://user:password@host:port,host/dbname?key=value`.

use crate::conninfo::ConninfoError;

type Pairs = Vec<(String, String)>;

/// What follows the scheme, when `text` has one of the two that mean PostgreSQL.
pub(crate) fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// Splits what follows the scheme into pairs, keys unchecked.
pub(crate) fn parse(text: &str) -> Result<Pairs, ConninfoError> {
    let mut pairs = Pairs::new();
    let rest = userinfo(text, &mut pairs)?;
    let rest = hosts(rest, &mut pairs)?;
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if let Some(dbname) = path.strip_prefix('/') {
        push(&mut pairs, "dbname", dbname)?;
    }
    for parameter in query.into_iter().flat_map(|query| query.split('&')).filter(|p| !p.is_empty()) {
        pairs.push(query_parameter(parameter)?);
    }
    Ok(pairs)
}

/// Stores a part that is there; an empty one leaves the default.
fn push(pairs: &mut Pairs, key: &str, raw: &str) -> Result<(), ConninfoError> {
    if !raw.is_empty() {
        pairs.push((key.to_owned(), decode(raw, key)?));
    }
    Ok(())
}

fn userinfo<'a>(text: &'a str, pairs: &mut Pairs) -> Result<&'a str, ConninfoError> {
    let end = text.find(['@', '/']).filter(|&end| text[end..].starts_with('@'));
    let Some((userinfo, rest)) = end.map(|end| (&text[..end], &text[end + 1..])) else { return Ok(text) };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    push(pairs, "user", user)?;
    push(pairs, "password", password)?;
    Ok(rest)
}

/// Reads `host:port,[::1]:port,…` up to the path or the query. The lists are joined again by commas, as libpq does.
fn hosts<'a>(text: &'a str, pairs: &mut Pairs) -> Result<&'a str, ConninfoError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    let mut rest = text;
    loop {
        let (host, after) = host(rest)?;
        let (port, after) = port(after);
        if host.contains('@') || port.contains('@') {
            return Err(ConninfoError::AtSign);
        }
        hosts.push(decode(host, "host")?);
        ports.push(decode(port, "port")?);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => {
                rest = after;
                break;
            }
        }
    }
    for (key, list) in [("host", hosts), ("port", ports)] {
        if list.iter().any(|entry| !entry.is_empty()) {
            pairs.push((key.to_owned(), list.join(",")));
        }
    }
    Ok(rest)
}

fn host(text: &str) -> Result<(&str, &str), ConninfoError> {
    let Some(inside) = text.strip_prefix('[') else {
        return Ok(text.split_at(text.find([':', '/', '?', ',']).unwrap_or(text.len())));
    };
    let (address, rest) = inside.split_once(']').ok_or(ConninfoError::Bracket("misses its closing bracket"))?;
    if address.is_empty() {
        return Err(ConninfoError::Bracket("is empty"));
    }
    if !rest.is_empty() && !rest.starts_with([':', '/', '?', ',']) {
        return Err(ConninfoError::Bracket("is followed by something else than a port, a path or a query"));
    }
    Ok((address, rest))
}

fn port(text: &str) -> (&str, &str) {
    match text.strip_prefix(':') {
        Some(port) => port.split_at(port.find(['/', '?', ',']).unwrap_or(port.len())),
        None => ("", text),
    }
}

fn query_parameter(text: &str) -> Result<(String, String), ConninfoError> {
    let (key, value) = text.split_once('=').ok_or(ConninfoError::QueryWithoutEquals)?;
    if value.contains('=') {
        return Err(ConninfoError::QueryTwoEquals);
    }
    let key = decode(key, "query parameter")?;
    let value = decode(value, &key)?;
    // As JDBC writes it.
    if key == "ssl" && value == "true" {
        return Ok(("sslmode".to_owned(), "require".to_owned()));
    }
    Ok((key, value))
}

fn decode(raw: &str, part: &str) -> Result<String, ConninfoError> {
    if !raw.contains('%') {
        return Ok(raw.to_owned());
    }
    let broken = || ConninfoError::PercentEncoding(part.to_owned());
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { percent(bytes.next(), bytes.next()).ok_or_else(broken)? } else { byte };
        decoded.push(byte);
    }
    String::from_utf8(decoded).map_err(|_| broken())
}

/// The byte that two hexadecimal digits mean; never NUL, which no C string can hold.
fn percent(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let value = digit(high)? * 16 + digit(low)?;
    u8::try_from(value).ok().filter(|&byte| byte != 0)
}
