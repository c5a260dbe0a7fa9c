//! Hears everything that is logged, in both forms, at the level of the most talkative.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// What was logged on this thread since it was opened.
pub(super) struct Ears {
    text: Heard,
    json: Heard,
    /// With one subscriber alone in the process, whatever another test's thread logs first is taken for heard by nobody, for good.
    _second: Dispatch,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Heard {
    fn take(&self) -> String {
        let heard = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8(heard).unwrap()
    }
}

impl Ears {
    /// Our crates and the API server's client at their most talkative, the others as users see them.
    pub(super) fn open() -> Ears {
        let (text, json) = (Heard::default(), Heard::default());
        let talkative = || {
            Targets::new()
                .with_default(LevelFilter::DEBUG)
                .with_target("catamaran", LevelFilter::TRACE)
                .with_target("kube", LevelFilter::TRACE)
        };
        let writer = |heard: &Heard| {
            let heard = heard.clone();
            move || heard.clone()
        };
        let in_text = fmt::layer().with_ansi(false).with_writer(writer(&text));
        let in_json = fmt::layer().json().flatten_event(true).with_writer(writer(&json));
        let subscriber = tracing_subscriber::registry()
            .with(in_text.with_filter(talkative()))
            .with(in_json.with_filter(talkative()));
        Ears {
            text,
            json,
            _second: Dispatch::new(tracing_subscriber::registry()),
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(super) fn heard(&self) -> [(&'static str, String); 2] {
        [
            ("the log in text", self.text.take()),
            ("the log in JSON", self.json.take()),
        ]
    }
}
