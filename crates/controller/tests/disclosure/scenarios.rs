//! What goes wrong, one thing at a time.

use catamaran_scripted_registry::{Certificate, What, Wire};

use super::secrets::{Broken, Kind};

const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// What goes wrong with Secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are none.
    Missing,
    /// They may not be read.
    Forbidden,
    /// The answer is no Secret, and holds what one would.
    Garbled,
    /// The answer is not even text.
    Binary,
    /// The credentials can't be read, or not be used.
    Content(Broken),
    /// What was written comes back garbled.
    GarbledWrites,
}

impl Refusal {
    pub(super) const ALL: [(&'static str, Refusal); 7] = [
        ("missing", Refusal::Missing),
        ("forbidden", Refusal::Forbidden),
        ("garbled", Refusal::Garbled),
        ("binary", Refusal::Binary),
        ("cut", Refusal::Content(Broken::Cut)),
        ("fine-grained", Refusal::Content(Broken::FineGrained)),
        ("garbled-writes", Refusal::GarbledWrites),
    ];
}

/// What goes wrong in a scenario, and until when it is watched.
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// What both registries do.
    pub(super) trouble: Option<Trouble>,
    /// What the API server does about the Secret that is read.
    pub(super) refuses: Option<Refusal>,
    pub(super) until: Until,
}

#[derive(Clone)]
pub(super) enum Trouble {
    Fault(&'static str, What),
    Wire(Wire),
    Certificate(Certificate),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Both sides were probed.
    Probed,
    /// They were probed, and one pass over the tags has ended.
    Passed,
    /// The fallback has become the active side, and an Event says so.
    FailedOver,
    /// Tags that one side lacks were copied, or could not be.
    Copied,
}

impl Scenario {
    fn new(name: impl Into<String>, kind: Kind, trouble: Option<Trouble>) -> Scenario {
        Scenario {
            name: name.into(),
            kind,
            trouble,
            refuses: None,
            until: Until::Passed,
        }
    }

    fn until(self, until: Until) -> Scenario {
        Scenario { until, ..self }
    }
}

/// What a registry can do wrong, with an error that repeats what was sent wherever there is one.
fn troubles() -> Vec<(String, Trouble, Until)> {
    let mut all = Vec::new();
    let mut add = |name: String, trouble| all.push((name, trouble, Until::Passed));
    for status in [307, 400, 401, 403, 404, 405, 429, 500, 503] {
        add(format!("echo-{status}"), Trouble::Fault("/", What::Echo(status)));
    }
    for (word, path) in [("token", "token"), ("tags", "tags"), ("manifests", "/manifests/")] {
        for status in [307, 401, 403, 500] {
            add(
                format!("echo-{status}-{word}"),
                Trouble::Fault(path, What::Echo(status)),
            );
        }
    }
    let denied = What::error(403, "DENIED", "client with IP '203.0.113.7' is not allowed access");
    let named = [
        ("denied", Trouble::Fault("/", denied)),
        ("html", Trouble::Fault("/", What::html(200))),
        ("truncated", Trouble::Fault("/", What::Truncated)),
        ("lying", Trouble::Fault("/manifests/", What::digest(DIGEST))),
        ("strange-token", Trouble::Fault("token", What::json(r#"{"token": 5}"#))),
        ("circular", Trouble::Fault("tags", What::CircularPages)),
        ("close", Trouble::Wire(Wire::Close)),
        ("plain", Trouble::Wire(Wire::Plain)),
        ("expired", Trouble::Certificate(Certificate::Expired)),
        ("self-signed", Trouble::Certificate(Certificate::SelfSigned)),
        (
            "foreign",
            Trouble::Fault("/v2/", What::challenge(r#"Bearer realm="https://evil.test/token""#)),
        ),
    ];
    for (name, trouble) in named {
        add(name.to_owned(), trouble);
    }
    all.push(("reset".to_owned(), Trouble::Wire(Wire::Reset), Until::FailedOver));
    all.push(("hang".to_owned(), Trouble::Fault("/v2/", What::Hang), Until::Probed));
    all
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let word = kind.word();
        all.push(Scenario::new(format!("{word}-well"), kind, None).until(Until::Copied));
        for (path, status) in [("/blobs/uploads/", 403), ("/blobs/uploads/", 500)] {
            let trouble = Trouble::Fault(path, What::Echo(status));
            let name = format!("{word}-upload-{status}");
            all.push(Scenario::new(name, kind, Some(trouble)).until(Until::Copied));
        }
        for (name, trouble, until) in troubles() {
            all.push(Scenario::new(format!("{word}-{name}"), kind, Some(trouble)).until(until));
        }
        for (name, refusal) in Refusal::ALL {
            let scenario = Scenario::new(format!("{word}-{name}"), kind, None);
            all.push(Scenario {
                refuses: Some(refusal),
                ..scenario
            });
        }
    }
    all
}
