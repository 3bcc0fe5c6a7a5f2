//! Writes the decoder's recorded messages as the first corpus: `cargo run --example seeds`, in this folder.

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use decoder::Context;

#[path = "../decoder/tests/golden/files.rs"]
mod files;
#[path = "../decoder/tests/golden/format.rs"]
#[allow(dead_code, reason = "the decoder's tests use the rest of it")]
mod format;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/decode");
    fs::create_dir_all(&folder)?;
    for message in files::messages() {
        let mut input = vec![choice(message.context)];
        input.extend_from_slice(&message.bytes);
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        fs::write(folder.join(format!("{:016x}", hasher.finish())), input)?;
    }
    Ok(())
}

/// As the target `decode` reads it.
fn choice(context: Context) -> u8 {
    let version = u8::try_from(context.protocol_version.clamp(1, 4) - 1).unwrap_or(3);
    version | u8::from(context.in_stream) << 2 | u8::from(context.parallel) << 3
}
