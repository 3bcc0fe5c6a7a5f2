//! The text form of recorded messages: `<version>.txt` in this folder.
//!
//! ```text
//! session streamed proto_version=2 streaming=on two_phase=off binary=off
//! 53000002e501
//!   StreamStart { xid: 741, first: true }
//! ```
//!
//! A session's messages stand in the order in which the server sent them, each as hexadecimal digits and, indented, as
//! what [`decode`] made of them when they were recorded.

use decoder::{Context, decode};

/// One reading of a slot with one set of options.
pub(crate) struct Session {
    pub(crate) title: String,
    pub(crate) messages: Vec<Recorded>,
}

/// One message, and the context in which it is to be decoded.
pub(crate) struct Recorded {
    pub(crate) context: Context,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
}

impl Session {
    /// The context of a session's first message, from its title.
    pub(crate) fn start(title: &str) -> Context {
        let option = |name: &str| {
            let word = title.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            word.unwrap_or_else(|| panic!("session \"{title}\" has no {name}"))
        };
        let protocol_version = option("proto_version").parse().expect("a number");
        Context { protocol_version, in_stream: false, parallel: option("streaming") == "parallel" }
    }
}

/// Reads a file of sessions; panics at what [`render`] would not have written.
pub(crate) fn parse(file: &str) -> Vec<Session> {
    let mut lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    let mut sessions = Vec::new();
    while let Some(line) = lines.next() {
        let title = line.strip_prefix("session ").unwrap_or_else(|| panic!("expected a session, got \"{line}\""));
        let mut context = Session::start(title);
        let mut messages = Vec::new();
        while let Some(digits) = lines.next_if(|line| !line.starts_with("session ")) {
            let text = lines.next().and_then(|line| line.strip_prefix("  ")).expect("the decoded text");
            let bytes = from_hex(digits);
            messages.push(Recorded { context, bytes: bytes.clone(), text: text.to_owned() });
            if let Ok(message) = decode(&bytes, context) {
                context.advance(&message);
            }
        }
        sessions.push(Session { title: title.to_owned(), messages });
    }
    sessions
}

pub(crate) fn from_hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ascii"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|e| panic!("\"{pair}\": {e}"))).collect()
}
