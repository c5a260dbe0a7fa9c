//! GitHub's REST interface, as far as package versions go: who may read them, pages from the newest version to the oldest,
//! `ETag`s that cost nothing, and a limit by the hour.
//!
//! Source: GitHub's REST documentation, "Packages", "Rate limits" and "Using pagination".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};
use crate::store::Storage;

/// The interface's name.
pub const HOST: &str = "api.github.com";

/// What a test has happen between two pages.
type Meanwhile = Box<dyn Fn() + Send>;

/// Package versions of one storage.
pub struct GithubRest {
    storage: Arc<dyn Storage>,
    clock: Clock,
    settings: Mutex<Settings>,
}

struct Settings {
    tokens: BTreeSet<String>,
    users: BTreeSet<String>,
    /// Untagged versions of a package, such as the platforms of its images.
    untagged: BTreeMap<String, usize>,
    remaining: u32,
    resets: i64,
    meanwhile: Option<(usize, Meanwhile)>,
    fault: Option<Answer>,
}

impl GithubRest {
    /// Nobody is known; every owner is an organisation.
    pub fn new(storage: Arc<dyn Storage>, clock: Clock) -> GithubRest {
        let resets = clock.seconds() + 3600;
        GithubRest {
            storage,
            clock,
            settings: Mutex::new(Settings {
                tokens: BTreeSet::new(),
                users: BTreeSet::new(),
                untagged: BTreeMap::new(),
                remaining: 5000,
                resets,
                meanwhile: None,
                fault: None,
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A classic personal access token with `read:packages`.
    pub fn add_token(&self, token: &str) {
        self.settings().tokens.insert(token.to_owned());
    }

    /// An owner that is a user and no organisation.
    pub fn add_user(&self, owner: &str) {
        self.settings().users.insert(owner.to_owned());
    }

    /// A user becomes an organisation.
    pub fn remove_user(&self, owner: &str) {
        self.settings().users.remove(owner);
    }

    /// So many versions of a package have no tag.
    pub fn set_untagged(&self, package: &str, versions: usize) {
        self.settings().untagged.insert(package.to_owned(), versions);
    }

    /// Requests that are left until the hour is over.
    pub fn set_remaining(&self, requests: u32) {
        self.settings().remaining = requests;
    }

    /// Requests that are left.
    pub fn remaining(&self) -> u32 {
        self.settings().remaining
    }

    /// Has something happen once, after a page was answered.
    pub fn after_page(&self, page: usize, act: impl Fn() + Send + 'static) {
        self.settings().meanwhile = Some((page, Box::new(act)));
    }

    /// Answers everything with this; `None`: behaves again.
    pub fn set_fault(&self, answer: Option<Answer>) {
        self.settings().fault = answer;
    }

    async fn respond(&self, request: &Request) -> Answer {
        if let Some(answer) = self.settings().fault.clone() {
            return answer.kind("versions");
        }
        if !request
            .bearer()
            .is_some_and(|token| self.settings().tokens.contains(token))
        {
            return message(401, "Bad credentials");
        }
        let mut segments = request.path.trim_matches('/').split('/');
        let named = (
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
            segments.next(),
        );
        let (Some(kind), Some(owner), Some("packages"), Some("container"), Some(name), Some("versions"), None) = named
        else {
            return message(404, "Not Found");
        };
        let user = self.settings().users.contains(owner);
        if kind != if user { "users" } else { "orgs" } {
            return self.counted(message(404, "Not Found"));
        }
        let package = format!("{owner}/{}", name.replace("%2F", "/"));
        let Some(tags) = self.storage.tags(&package).await else {
            return self.counted(message(404, "Package not found."));
        };
        let versions = self.versions(&package, tags);
        self.page(request, &versions)
    }

    /// The newest first, by the oldest of its tags; then those without a tag.
    fn versions(&self, package: &str, mut tags: Vec<crate::store::Tag>) -> Vec<Value> {
        tags.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        let mut versions: Vec<(String, Vec<String>)> = Vec::new();
        let mut places = BTreeMap::new();
        for tag in tags {
            let place = *places.entry(tag.digest.clone()).or_insert(versions.len());
            match versions.get_mut(place) {
                Some((_, names)) => names.push(tag.name),
                None => versions.push((tag.digest, vec![tag.name])),
            }
        }
        versions.reverse();
        let untagged = self.settings().untagged.get(package).copied().unwrap_or_default();
        let untagged = (0..untagged).map(|n| {
            (
                format!("sha256:{}", hex(format!("{package} {n}").as_bytes())),
                Vec::new(),
            )
        });
        let all = versions.into_iter().chain(untagged).enumerate();
        all.map(|(id, (digest, tags))| {
            json!({
                "id": id, "name": digest, "created_at": "2026-11-20T00:00:00Z", "updated_at": "2026-11-20T00:00:00Z",
                "metadata": { "package_type": "container", "container": { "tags": tags } },
            })
        })
        .collect()
    }

    fn page(&self, request: &Request, versions: &[Value]) -> Answer {
        let number = |name: &str| request.parameter(name).and_then(|value| value.parse::<usize>().ok());
        let size = number("per_page").unwrap_or(30).clamp(1, 100);
        let page = number("page").unwrap_or(1).max(1);
        let last = versions.len().div_ceil(size).max(1);
        let shown: Vec<_> = versions.iter().skip((page - 1) * size).take(size).cloned().collect();
        let body = Value::from(shown);
        let etag = format!("W/\"{}\"", hex(body.to_string().as_bytes()));
        let answer = if request.header("if-none-match") == Some(&etag) {
            // Free: it does not count.
            Answer::status("versions-unchanged", 304)
        } else {
            self.counted(Answer::json("versions", 200, &body))
        };
        let link = |to: usize, relation: &str| {
            let place = format!("https://{HOST}{}?per_page={size}&page={to}", request.path);
            format!("<{place}>; rel=\"{relation}\"")
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([link(page - 1, "prev"), link(1, "first")]);
        }
        if page < last {
            links.extend([link(page + 1, "next"), link(last, "last")]);
        }
        let answer = answer.header("etag", &etag);
        let mut settings = self.settings();
        if settings.meanwhile.as_ref().is_some_and(|(after, _)| *after == page)
            && let Some((_, act)) = settings.meanwhile.take()
        {
            drop(settings);
            act();
        }
        if links.is_empty() {
            answer
        } else {
            answer.header("link", &links.join(", "))
        }
    }

    /// The same answer, or a refusal when the hour's requests are used up.
    fn counted(&self, answer: Answer) -> Answer {
        let mut settings = self.settings();
        let spent = settings.remaining == 0;
        settings.remaining = settings.remaining.saturating_sub(1);
        let answer = if spent {
            message(403, "API rate limit exceeded for user ID 1.")
        } else {
            answer
        };
        let date = self.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer
            .header("date", &date)
            .header("x-ratelimit-remaining", &settings.remaining.to_string())
            .header("x-ratelimit-reset", &settings.resets.to_string())
    }
}

impl Service for GithubRest {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(self.respond(request))
    }
}

fn message(status: u16, text: &str) -> Answer {
    Answer::json(
        "versions",
        status,
        &json!({ "message": text, "documentation_url": "https://docs.github.com/rest" }),
    )
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
