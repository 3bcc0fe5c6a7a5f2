//! The web page in a real browser.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::http::{free_address, get};
use crate::service::{CATCH_UP, Mirror, until};

const BROWSER_TIME: Duration = Duration::from_secs(90);
const SIZE: (u32, u32) = (1200, 760);
/// With this variable the test makes the picture in the documents anew.
const UPDATE: &str = "WALCAST_UPDATE_DOCS";

/// Runs the browser to its end and gives what it printed. It finds nobody but this machine.
fn browse(directory: &Path, arguments: &[&str]) -> String {
    let output = directory.join("browser.out");
    let mut command = Command::new("chromium");
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]);
    command.arg(format!("--user-data-dir={}", directory.join("browser").display())).args(arguments);
    command.stdin(Stdio::null()).stdout(fs::File::create(&output).unwrap()).stderr(Stdio::null());
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("cannot run chromium: {error}; hint: run `scripts/setup.sh tests`, which installs Debian's package \"chromium\"")
    });
    until("the browser ends", BROWSER_TIME, || child.try_wait().unwrap().is_some());
    fs::read_to_string(output).unwrap()
}

/// Width and height of a picture.
fn png_size(file: &Path) -> (u32, u32) {
    let bytes = fs::read(file).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{}", file.display());
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn the_page_shows_source_log_and_targets_with_curves_in_a_browser() {
    let mirror = Mirror::new(2);
    let (address, directory) = (free_address(), tempfile::tempdir().unwrap());
    mirror.reconfigure(|text| text.replace("listen = \"\"", &format!("listen = \"{address}\"")));
    mirror.everywhere("CREATE TABLE \"<b>hostile</b>\" (id bigserial PRIMARY KEY, body text)");
    mirror.set_up();
    let service = mirror.run();
    mirror.catch_up(&service);
    let points = if std::env::var_os(UPDATE).is_some() { 30 } else { 6 };
    let mut rounds = 0_u32;
    until("there is some past", 2 * CATCH_UP, || {
        rounds += 1;
        let rows = 1 + rounds * 7919 % 400;
        mirror.at_source(&format!(
            "INSERT INTO \"<b>hostile</b>\" (body) SELECT repeat('x', 100) FROM generate_series(1, {rows})"
        ));
        let (_, body) = get(address, "/history").expect("walcast answers");
        let history: serde_json::Value = serde_json::from_str(&body).unwrap();
        let past = history["targets"]["tokyo"]["lag_seconds"].as_array().map_or(0, Vec::len);
        match past {
            past if past >= points / 3 && past < points / 2 => mirror.walcast(&["pause", "tokyo"]),
            _ => mirror.walcast(&["resume", "tokyo"]),
        };
        past >= points
    });
    // What a name holds is shown as text.
    mirror.at_target(1, "INSERT INTO \"<b>hostile</b>\" (id) VALUES (1000000)");
    mirror.at_source("INSERT INTO \"<b>hostile</b>\" (id) VALUES (1000000)");
    mirror.until_stopped(1);

    let url = format!("http://{address}/");
    let page = browse(directory.path(), &["--virtual-time-budget=6000", "--dump-dom", &url]);
    for text in ["<h2>Source</h2>", "<h2>berlin</h2>", "<h2>tokyo</h2>"] {
        assert!(page.contains(text), "{text} is not in\n{page}");
    }
    assert!(page.matches(">streaming</span>").count() == 2 && page.contains(">stopped</span>"), "{page}");
    assert!(page.contains("&lt;b&gt;hostile&lt;/b&gt;") && !page.contains("<b>hostile"), "{page}");
    assert_eq!(page.matches("<path d=\"M").count(), 2, "{page}");
    let applied = mirror.target_status(0)["applied_lsn"].as_str().unwrap().to_owned();
    assert!(page.contains(applied.split('/').next().unwrap()), "{applied} is not in\n{page}");

    let picture = directory.path().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    let size = format!("--window-size={},{}", SIZE.0, SIZE.1);
    browse(directory.path(), &["--virtual-time-budget=6000", &screenshot, &size, &url]);
    assert_eq!(png_size(&picture), SIZE);
    if std::env::var_os(UPDATE).is_some() {
        fs::copy(&picture, Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/page.png")).unwrap();
    }
    mirror.at_target(1, "DELETE FROM \"<b>hostile</b>\" WHERE id = 1000000");
    mirror.walcast(&["resume", "tokyo"]);
    mirror.finish(service);
}
