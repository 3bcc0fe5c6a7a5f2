//! Any bytes where the log has a message of the capture: reading ends with a message or an error, and what is shown of a
//! message is one line.

#![no_main]

use ddl::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = Message::parse(input) else { return };
    let shown = message.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    for change in &message.changes {
        let relation = change.before.is_none() && change.after.is_some() && change.class == "pg_class";
        assert!(!relation || message.creates(change.oid));
    }
});
