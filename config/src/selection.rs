//! Which tables are replicated: the one place that decides it.
//!
//! A pattern is `schema.table`. An unquoted part is folded to lower case, as SQL does, and `*` in it stands for any
//! number of characters; a part in double quotes is taken as it is (`""` is a quote, `*` is a star). `*` alone means
//! every table of every schema.

use crate::Problem;

/// The schema of walcast's own objects; it is never replicated.
pub const OWN_SCHEMA: &str = "walcast";

/// Which tables are replicated: those that match one of `tables` and none of `exclude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    tables: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Selection {
    /// From the patterns of the configuration.
    pub fn new(tables: Vec<Pattern>, exclude: Vec<Pattern>) -> Selection {
        Selection { tables, exclude }
    }

    /// Whether this table is replicated. System catalogs and walcast's own schema never are.
    pub fn selects(&self, schema: &str, table: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(schema, table));
        !is_internal(schema) && any(&self.tables) && !any(&self.exclude)
    }

    /// The patterns as LIKE has them.
    pub fn patterns_for_like(&self) -> impl Iterator<Item = LikePattern> {
        let of = |patterns: &[Pattern], excluded| patterns.iter().map(|p| p.for_like(excluded)).collect::<Vec<_>>();
        of(&self.tables, false).into_iter().chain(of(&self.exclude, true))
    }

    /// Whether every table is replicated, those of the future included: `tables = ["*"]`, `exclude = []`.
    pub fn is_everything(&self) -> bool {
        self.exclude.is_empty() && self.tables.iter().any(Pattern::is_everything)
    }
}

/// A pattern for SQL's LIKE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikePattern {
    /// What matches is left out.
    pub excluded: bool,
    /// Of the schema.
    pub schema: String,
    /// Of the table.
    pub table: String,
}

/// Schemas whose tables are nobody's data: PostgreSQL's own and walcast's.
fn is_internal(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema" || schema == OWN_SCHEMA
}

/// A pattern of table names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    schema: Glob,
    table: Glob,
}

impl Pattern {
    /// Reads `schema.table` or `*`.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn parse(text: &str) -> Result<Pattern, Problem> {
        if text.trim() == "*" {
            return Ok(Pattern::everything());
        }
        let complaint = || Problem::new(format!("\"{}\" is not a table pattern", text.escape_default()), HINT);
        let (schema, rest) = Glob::parse(text.trim()).ok_or_else(complaint)?;
        let table = rest.strip_prefix('.').and_then(Glob::parse);
        match table {
            Some((table, "")) => Ok(Pattern { schema, table }),
            _ => Err(complaint()),
        }
    }

    /// The pattern `*`.
    pub fn everything() -> Pattern {
        let any = || Glob(vec![Piece::Any]);
        Pattern { schema: any(), table: any() }
    }

    /// Whether this table's name matches.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.matches(table)
    }

    fn for_like(&self, excluded: bool) -> LikePattern {
        LikePattern { excluded, schema: self.schema.for_like(), table: self.table.for_like() }
    }

    fn is_everything(&self) -> bool {
        self.schema.is_any() && self.table.is_any()
    }
}

const HINT: &str = "write schema.table; * stands for any characters, and \"Quoted\" parts are taken as they are";

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
}

impl Glob {
    /// The part at the beginning of `text`, and what follows it.
    fn parse(text: &str) -> Option<(Glob, &str)> {
        match text.strip_prefix('"') {
            Some(quoted) => Glob::parse_quoted(quoted),
            None => Glob::parse_plain(text),
        }
    }

    fn parse_quoted(mut text: &str) -> Option<(Glob, &str)> {
        let mut name = String::new();
        loop {
            let (before, after) = text.split_once('"')?;
            name.push_str(before);
            match after.strip_prefix('"') {
                Some(rest) => {
                    name.push('"');
                    text = rest;
                }
                None if name.is_empty() => return None,
                None => return Some((Glob(vec![Piece::Text(name)]), after)),
            }
        }
    }

    fn parse_plain(text: &str) -> Option<(Glob, &str)> {
        let (part, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        let strange = part.is_empty() || part.contains(|c: char| c == '"' || c.is_whitespace() || c.is_control());
        if strange {
            return None;
        }
        let mut pieces = Vec::new();
        for (i, literal) in part.split('*').enumerate() {
            if i > 0 && pieces.last() != Some(&Piece::Any) {
                pieces.push(Piece::Any);
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.to_lowercase()));
            }
        }
        Some((Glob(pieces), rest))
    }

    fn for_like(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Any => "%".to_owned(),
            Piece::Text(text) => text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"),
        };
        self.0.iter().map(piece).collect()
    }

    fn is_any(&self) -> bool {
        self.0 == [Piece::Any]
    }

    fn matches(&self, name: &str) -> bool {
        match_pieces(&self.0, name)
    }
}

/// Matches greedily from the left: the first place where a literal after `*` fits is the right one, except for the last
/// literal, which has to reach the end.
fn match_pieces(pieces: &[Piece], name: &str) -> bool {
    match pieces {
        [] => name.is_empty(),
        [Piece::Any] => true,
        [Piece::Any, Piece::Text(last)] => name.ends_with(last.as_str()),
        [Piece::Any, Piece::Text(text), rest @ ..] => {
            name.split_once(text.as_str()).is_some_and(|(_, after)| match_pieces(rest, after))
        }
        [Piece::Any, rest @ ..] => match_pieces(rest, name),
        [Piece::Text(text), rest @ ..] => {
            name.strip_prefix(text.as_str()).is_some_and(|after| match_pieces(rest, after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn selection(tables: &[&str], exclude: &[&str]) -> Selection {
        let patterns = |texts: &[&str]| texts.iter().map(|t| pattern(t)).collect();
        Selection::new(patterns(tables), patterns(exclude))
    }

    #[test]
    fn stars_match_any_number_of_characters() {
        let cases = [
            ("public.*", "public", "t", true),
            ("public.*", "other", "t", false),
            ("*.t", "any", "t", true),
            ("a*.b*c", "abc", "bc", true),
            ("a*.b*c", "abc", "bcd", false),
            ("s.a*b*c", "s", "aXbXbYc", true),
            ("s.a*b*c", "s", "acb", false),
            ("s.*ab", "s", "aab", true),
            ("s.a**b", "s", "ab", true),
            ("s.ab*ba", "s", "aba", false),
        ];
        for (text, schema, table, expected) in cases {
            assert_eq!(pattern(text).matches(schema, table), expected, "{text} on {schema}.{table}");
        }
    }

    #[test]
    fn unquoted_parts_fold_and_quoted_parts_are_literal() {
        assert!(pattern("Public.T").matches("public", "t"));
        assert!(!pattern("Public.T").matches("Public", "T"));
        assert!(pattern(r#""Public"."T.*""#).matches("Public", "T.*"));
        assert!(!pattern(r#""Public"."T.*""#).matches("Public", "T.x"));
        assert!(pattern(r#"s."a""b""#).matches("s", "a\"b"));
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for text in ["", "t", ".", "a.", ".b", "a.b.c", "\"a", "\"\".t", "a.\"b\"c", "a b.c", "a\".b", "**"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exclusion_wins_and_internal_schemas_are_never_selected() {
        let some = selection(&["public.*", "sales.orders"], &["public.tmp_*"]);
        assert!(some.selects("public", "t") && some.selects("sales", "orders"));
        assert!(!some.selects("public", "tmp_1") && !some.selects("sales", "other"));
        let all = selection(&["*"], &[]);
        for schema in ["pg_catalog", "pg_toast", "information_schema", "walcast"] {
            assert!(!all.selects(schema, "t"), "{schema}");
        }
    }

    #[test]
    fn like_has_its_own_wildcards() {
        let patterns: Vec<_> =
            selection(&[r#""a%b\"."c_d*""#, "public.t_*x"], &["*.tmp*"]).patterns_for_like().collect();
        let texts: Vec<_> = patterns.iter().map(|p| (p.excluded, p.schema.as_str(), p.table.as_str())).collect();
        let expected = [(false, r"a\%b\\", r"c\_d*"), (false, "public", r"t\_%x"), (true, "%", "tmp%")];
        assert_eq!(texts, expected);
    }

    #[test]
    fn everything_means_no_exclusion() {
        assert!(selection(&["*"], &[]).is_everything());
        assert!(selection(&["public.*", "*.*"], &[]).is_everything());
        assert!(!selection(&["*"], &["public.x"]).is_everything());
        assert!(!selection(&["public.*"], &[]).is_everything());
    }
}
