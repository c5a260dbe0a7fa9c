//! The file with the shared secrets: a mounted Secret, read again every 10 s, because it is rotated in place.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::keys::Keys;

/// How long its content is used before it is read again.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);
/// What is read of the file at most, in bytes.
const MAX_SIZE: u64 = 16 * 1024;

/// The file with the shared secrets, and what was last in it.
pub struct KeyFile {
    path: PathBuf,
    last: Mutex<(Instant, Option<Keys>)>,
}

impl KeyFile {
    /// Reads it once. A file without a usable secret is logged and read again: until it has one, notifications are refused and
    /// nothing else is affected.
    pub fn open(path: PathBuf) -> KeyFile {
        let keys = read(&path);
        KeyFile {
            path,
            last: Mutex::new((Instant::now(), keys)),
        }
    }

    /// The secrets; `None` while the file holds none: emptying or removing it revokes them. A mounted Secret is exchanged
    /// in one step, so it is never half there.
    pub(super) fn keys(&self) -> Option<Keys> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.elapsed() >= REREAD_INTERVAL {
            *last = (Instant::now(), read(&self.path));
        }
        last.1.clone()
    }
}

fn read(path: &PathBuf) -> Option<Keys> {
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text));
    let problem = match opened {
        Err(error) => error.to_string(),
        Ok(_) => match Keys::read(&text) {
            Ok(keys) => return Some(keys),
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(file = %path.display(), problem, "the shared secret for notifications can't be used");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_file_without_a_secret_gives_no_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(KeyFile::open(path.clone()).keys().is_none());
        std::fs::write(&path, "short").unwrap();
        assert!(KeyFile::open(path.clone()).keys().is_none());
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert!(KeyFile::open(path).keys().is_some());
    }

    #[test]
    fn replaced_key_file_is_read_and_removed_one_revokes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let file = KeyFile::open(path.clone());
        let long_ago = || Instant::now().checked_sub(REREAD_INTERVAL).unwrap();
        std::fs::write(&path, "0123456789abcdef\nfedcba9876543210\n").unwrap();
        file.last.lock().unwrap().0 = long_ago();
        assert!(file.keys().is_some());
        std::fs::remove_file(path).unwrap();
        assert!(file.keys().is_some(), "it is used until it is read again");
        file.last.lock().unwrap().0 = long_ago();
        assert!(file.keys().is_none());
    }
}
