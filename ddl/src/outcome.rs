//! What applying a message did.

/// What applying a message did, and did not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was done to which object. Empty if the target was as wanted already.
    pub done: Vec<Done>,
    /// What was not done, and why: to be reported, the target goes on.
    pub skipped: Vec<Skipped>,
    /// Tables whose rows have to be copied again: the stream has not the values that the source wrote into them.
    pub recopy: Vec<Table>,
    /// Whether something waits for what the target lacks (`walcast.pending_object`).
    pub waits: bool,
}

/// What was done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was done.
    pub verb: Verb,
    /// The object's kind, as in `pg_identify_object`: `table`, `function`, `role`.
    pub kind: String,
    /// The object as SQL calls it: `TABLE public.t`.
    pub object: String,
}

/// What can be done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// It was made.
    Created,
    /// It was altered, renamed, granted or commented on.
    Altered,
    /// It was dropped.
    Dropped,
    /// It is a materialized view, and was filled again.
    Refreshed,
}

/// Something that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The object as SQL calls it, or the command.
    pub object: String,
    /// Why, in one line.
    pub why: String,
}

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// Its schema, not quoted.
    pub schema: String,
    /// Its name, not quoted.
    pub name: String,
}
