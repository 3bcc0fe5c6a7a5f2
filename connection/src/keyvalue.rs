//! Connection strings of `key = value` pairs.

use std::iter::Peekable;
use std::str::Chars;

use crate::conninfo::ConninfoError;

type Pairs = Vec<(String, String)>;

/// Splits `host=/tmp dbname = 'o\'b'` into its pairs, keys unchecked.
pub(crate) fn parse(text: &str) -> Result<Pairs, ConninfoError> {
    let mut rest = text.chars().peekable();
    let mut pairs = Pairs::new();
    loop {
        skip_space(&mut rest);
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let key = key(&mut rest)?;
        let value = value(&mut rest, &key)?;
        pairs.push((key, value));
    }
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

fn skip_space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|&c| is_space(c)).is_some() {}
}

fn key(rest: &mut Peekable<Chars<'_>>) -> Result<String, ConninfoError> {
    let mut key = String::new();
    while let Some(c) = rest.next_if(|&c| c != '=' && !is_space(c)) {
        key.push(c);
    }
    skip_space(rest);
    match rest.next_if_eq(&'=') {
        Some(_) => Ok(key),
        // The word is not named: it may be the rest of a password with a space in it.
        None => Err(ConninfoError::MissingEquals),
    }
}

fn value(rest: &mut Peekable<Chars<'_>>, key: &str) -> Result<String, ConninfoError> {
    skip_space(rest);
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            None if quoted => return Err(ConninfoError::UnterminatedQuote(shown_key(key))),
            None => return Ok(value),
            Some('\'') if quoted => return Ok(value),
            Some(c) if !quoted && is_space(c) => return Ok(value),
            Some('\\') => value.extend(rest.next()),
            Some(c) => value.push(c),
        }
    }
}

/// A key that libpq knows; anything else may be a piece of a password.
fn shown_key(key: &str) -> String {
    crate::keyword::Keyword::find(key).map_or("a key", |known| known.name).to_owned()
}
