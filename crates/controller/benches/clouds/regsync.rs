//! regsync, the nearest tool that compares two registries, in its mode that only looks.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ground::Ground;
use crate::plan::{ACCOUNT, AZURE, GITHUB, PASSWORD, USER, name};
use crate::talk::peak;

/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What it ended with.
pub struct Checked {
    /// How long it took.
    pub seconds: f64,
    /// Its largest resident size, in bytes.
    pub peak: u64,
    /// The tags that it would copy, by repository and tag.
    pub found: BTreeSet<(String, String)>,
}

/// Has it compare everything, from Azure to GitHub.
///
/// # Panics
///
/// When it can't be started or fails: then nothing was measured.
pub fn check(program: &Path, ground: &Ground) -> Checked {
    let folder = tempfile::tempdir().expect("there is room for two files");
    let (config, ca) = (folder.path().join("regsync.yaml"), folder.path().join("ca.pem"));
    let syncs: Vec<_> = (0..ground.size.repositories)
        .map(|repository| {
            let name = name(repository);
            json!({"source": format!("{AZURE}/{name}"), "target": format!("{GITHUB}/{ACCOUNT}/{name}"), "type": "repository"})
        })
        .collect();
    // JSON is YAML.
    let content = json!({
        "version": 1, "defaults": {"skipDockerConfig": true}, "sync": syncs,
        "creds": [{"registry": AZURE, "user": USER, "pass": PASSWORD, "repoAuth": true},
            {"registry": GITHUB, "repoAuth": true}],
    });
    std::fs::write(&config, content.to_string()).expect("the configuration is written");
    std::fs::write(&ca, &ground.place.ca).expect("the authority is written");
    let output = std::fs::File::create(folder.path().join("log")).expect("the log is made");
    let begun = Instant::now();
    let mut child = Command::new(program)
        .arg("check")
        .arg("--config")
        .arg(&config)
        .env("SSL_CERT_FILE", &ca)
        .env("HTTPS_PROXY", format!("http://{}", ground.place.proxy))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .expect("regsync starts");
    let mut most = 0;
    let status = loop {
        most = peak(&child.id().to_string()).unwrap_or_default().max(most);
        match child.try_wait().expect("regsync is a child of this process") {
            Some(status) => break status,
            None => std::thread::sleep(LOOK),
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let log = std::fs::read_to_string(folder.path().join("log")).expect("the log is there");
    assert!(status.success(), "regsync failed: {log}");
    Checked {
        seconds,
        peak: most,
        found: log.lines().filter_map(found).collect(),
    }
}

/// `… msg="Image sync needed" source=kracr.azurecr.io/team/app-0000:0000014 target=…`
fn found(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once("msg=\"Image sync needed\" source=")?;
    let source = rest.split_whitespace().next()?;
    let (repository, tag) = source.strip_prefix(AZURE)?.strip_prefix('/')?.rsplit_once(':')?;
    Some((repository.to_owned(), tag.to_owned()))
}
