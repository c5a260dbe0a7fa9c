//! The process that verifies: a mirror's machine with the operator's clients, and nothing else.

use std::collections::BTreeSet;
use std::time::Instant;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_controller::mirrors::Comparison;
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::Verdict;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::side::Sides;
use catamaran_registry::{Budgets, Client, Connection, Credentials, Limits, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ground::Place;
use crate::plan::{ACCOUNT, AZURE, Difference, GITHUB, Kind, PASSWORD, PAT, REST, Size, USER, name};
use crate::talk::{Talk, peak};

/// The argument that makes this program verify; the task follows.
pub const ROLE: &str = "--verify";
/// Requests a minute that nothing here reaches.
const UNBOUND: u32 = 100_000_000;

/// Which side is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Primary {
    /// Azure, with GitHub as the fallback.
    Azure,
    /// GitHub, with Azure as the fallback.
    Github,
}

/// How GitHub's digests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// With a personal access token, from the REST interface.
    Rest,
    /// Anonymously, tag by tag.
    Head,
}

/// What is to be verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The registries.
    pub place: Place,
    /// How much they hold.
    pub size: Size,
    /// The direction.
    pub primary: Primary,
    /// The credential for GitHub.
    pub access: Access,
}

/// What a pass ended with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passed {
    /// How long it took.
    pub seconds: f64,
    /// Tags that are the same on both sides.
    pub in_sync: usize,
    /// Confirmed differences.
    pub found: BTreeSet<Difference>,
    /// The process' largest resident size so far, in bytes.
    pub peak: u64,
}

/// The process, seen from the one that counts.
pub struct Worker(Talk);

impl Worker {
    /// Starts it; its budgets are the default ones.
    pub fn start(task: &Task) -> Worker {
        let text = serde_json::to_string(task).expect("a task can be told");
        Worker(Talk::start(&[ROLE, &text]))
    }

    /// Lets it ask as fast as it can.
    pub fn unbind(&mut self) {
        self.0.tell("unbind");
    }

    /// One pass.
    pub fn pass(&mut self) -> Passed {
        self.0.say("pass")
    }
}

/// Verifies when told to, until the input ends.
pub async fn work(task: Task) {
    let policy = mirror(&task);
    let budgets = Budgets::new();
    let clients = Sides::from_fn(|side| client(&task, policy.sides[side].provider, &budgets));
    let mut comparison = Comparison::new(policy, clients, InUse::default());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.as_str() {
            "unbind" => {
                budgets.set_limit(AZURE, UNBOUND);
                budgets.set_limit(GITHUB, UNBOUND);
                println!("{}", json!({}));
            }
            _ => println!("{}", json!(pass(&task, &mut comparison).await)),
        }
    }
}

async fn pass(task: &Task, comparison: &mut Comparison) -> Passed {
    let begun = Instant::now();
    let pass = comparison.pass().await.expect("the pass comes to its end");
    let seconds = begun.elapsed().as_secs_f64();
    assert!(pass.is_complete(), "{pass:?}");
    let mirror = comparison.mirror();
    for place in mirror.groups() {
        // As it is written for the webhook.
        drop(mirror.group(place).encode());
    }
    let found = mirror.diverged().filter_map(|divergence| {
        let kind = kind(task.primary, divergence.verdict)?;
        Some((divergence.repository, divergence.tag, kind))
    });
    Passed {
        seconds,
        found: found.collect(),
        in_sync: mirror.summary().in_sync,
        peak: peak("self").expect("this process has a status"),
    }
}

fn kind(primary: Primary, verdict: Verdict) -> Option<Kind> {
    match (verdict, primary) {
        (Verdict::MissingOnPrimary, Primary::Azure) | (Verdict::MissingOnFallback, Primary::Github) => {
            Some(Kind::NotOnAzure)
        }
        (Verdict::MissingOnPrimary, Primary::Github) | (Verdict::MissingOnFallback, Primary::Azure) => {
            Some(Kind::NotOnGithub)
        }
        (Verdict::Mismatched, _) => Some(Kind::Differs),
        (Verdict::InSync | Verdict::Pending, _) => None,
    }
}

fn mirror(task: &Task) -> MirrorPolicy {
    let azure = json!({"registry": AZURE, "provider": "azure"});
    let github = json!({"registry": GITHUB, "provider": "github", "prefix": ACCOUNT});
    let [primary, fallback] = match task.primary {
        Primary::Azure => [azure, github],
        Primary::Github => [github, azure],
    };
    let repositories: Vec<_> = (0..task.size.repositories)
        .map(|repository| json!({"name": name(repository)}))
        .collect();
    let mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "bench", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": primary, "fallback": fallback, "repositories": repositories,
            // Two looks confirm a difference; nobody waits here.
            "parity": {"gracePeriod": "0s"},
        },
    });
    let mirror: RegistryMirror = serde_json::from_value(mirror).expect("the mirror is one");
    policy(&mirror).expect("its policy makes sense")
}

fn client(task: &Task, provider: Provider, budgets: &Budgets) -> Client {
    let basic = |username: &str, password: &str| Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    };
    let (registry, credentials) = match (provider, task.access) {
        (Provider::Azure, _) => (AZURE, basic(USER, PASSWORD)),
        (_, Access::Rest) => (GITHUB, basic(ACCOUNT, PAT)),
        (_, Access::Head) => (GITHUB, Credentials::Anonymous),
    };
    let connection = Connection {
        registry: registry.to_owned(),
        provider,
        credentials,
        extra_ca: Some(task.place.ca.as_bytes().to_vec()),
        resolve: [registry, REST]
            .map(|host| (host.to_owned(), task.place.address))
            .into(),
        ..Connection::default()
    };
    Client::with_budgets(connection, Limits::default(), budgets).expect("a client is set up")
}
