//! The file with the shared secrets: a mounted Secret, read again now and then, because it is rotated in place.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use catamaran_controller::notifications::Keys;

/// How long its content is believed.
const REREAD: Duration = Duration::from_secs(10);
/// A larger file is none of ours.
const LARGEST: u64 = 16 * 1024;

/// The file, and what was last in it.
pub struct KeyFile {
    path: PathBuf,
    last: Mutex<(Instant, Option<Keys>)>,
}

impl KeyFile {
    /// Reads it once. A file that is no use is told in the log and read again: notifications are refused until it is mended,
    /// and nothing else suffers.
    pub fn open(path: PathBuf) -> KeyFile {
        let keys = read(&path);
        KeyFile {
            path,
            last: Mutex::new((Instant::now(), keys)),
        }
    }

    /// The secrets; `None` while the file holds none: emptying or removing it revokes them. A mounted Secret is exchanged
    /// in one step, so it is never half there.
    pub fn keys(&self) -> Option<Keys> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.elapsed() >= REREAD {
            *last = (Instant::now(), read(&self.path));
        }
        last.1.clone()
    }
}

fn read(path: &PathBuf) -> Option<Keys> {
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
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
    fn a_file_without_a_secret_gives_no_keys() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        assert!(KeyFile::open(path.clone()).keys().is_none());
        std::fs::write(&path, "short").unwrap();
        assert!(KeyFile::open(path.clone()).keys().is_none());
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert!(KeyFile::open(path).keys().is_some());
    }

    #[test]
    fn a_file_that_is_exchanged_is_read_again_and_one_that_is_taken_away_revokes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let file = KeyFile::open(path.clone());
        let long_ago = || Instant::now().checked_sub(REREAD).unwrap();
        std::fs::write(&path, "0123456789abcdef\nfedcba9876543210\n").unwrap();
        file.last.lock().unwrap().0 = long_ago();
        assert!(file.keys().is_some());
        std::fs::remove_file(path).unwrap();
        assert!(file.keys().is_some(), "it is believed for a while");
        file.last.lock().unwrap().0 = long_ago();
        assert!(file.keys().is_none());
    }
}
