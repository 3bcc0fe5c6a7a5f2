//! Names and texts inside SQL, and names inside messages.

/// An identifier, always in double quotes.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant. Backslashes are safe under both settings of `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!(" E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}

/// A table's name for a message: readable, and in one line whatever it contains.
pub fn shown_table(schema: &str, table: &str) -> String {
    format!("{}.{}", shown(schema), shown(table))
}

fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.chars().all(plain) {
        true => name.to_owned(),
        false => quote_identifier(&name.chars().map(visible).collect::<String>()),
    }
}

/// Control characters in their escaped form, everything else as it is.
fn visible(c: char) -> String {
    if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x01_hostile_identifiers_stay_identifiers() {
        assert_eq!(quote_identifier("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(quote_identifier("user"), "\"user\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn x15_a_name_is_shown_in_one_line() {
        assert_eq!(shown_table("public", "t_1"), "public.t_1");
        assert_eq!(shown_table("public", "a\nb\u{1b}[1m"), "public.\"a\\nb\\u{1b}[1m\"");
        assert_eq!(shown_table("Ä", "a\"b"), "\"Ä\".\"a\"\"b\"");
    }
}
