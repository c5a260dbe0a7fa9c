//! GitHub Container Registry: tokens even for public packages, `denied` for wrong credentials, strict `Accept`, pages from
//! the oldest tag to the newest, waits that stand in the message only, and redirects away for what it does not know.
//!
//! Sources: GitHub's documentation of the container registry, and what users report of error bodies and limits. Not known,
//! and chosen here: tokens live for five minutes, and a token whose owner may not read a package is refused where tokens are
//! issued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::clock::Clock;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};
use crate::store::{Part, Route, Storage, name_unknown};

/// Where blobs are redirected to.
pub const BLOBS: &str = "pkg-containers.githubusercontent.com";
/// The registry's name.
pub const HOST: &str = "ghcr.io";
const SIGNATURE: &str = "sig=signed-for-its-holder";
const UPLOADS: &str = "/blobs/uploads/";
/// What uploads are called once they were begun.
const UPLOAD: &str = "/blobs/upload/";
/// Bytes of a request.
const LARGEST_PIECE: usize = 4 << 20;
/// Tags in a page when the client does not say.
const USUAL_PAGE: usize = 100;

/// The registry, its token endpoint and its blob host.
pub struct Ghcr {
    storage: Arc<dyn Storage>,
    clock: Clock,
    settings: Mutex<Settings>,
}

struct Settings {
    public: BTreeSet<String>,
    /// Personal access tokens to the packages that their owner may read; `*` is all.
    accounts: BTreeMap<String, Vec<String>>,
    /// Those of them whose owner may write what they may read.
    writers: BTreeSet<String>,
    /// Tokens that were issued.
    tokens: BTreeMap<String, Issued>,
    issued: u64,
    life: Duration,
    largest_page: usize,
    faults: Vec<(&'static str, Answer, usize)>,
}

struct Issued {
    package: String,
    writes: bool,
    /// Seconds since 1970.
    until: i64,
}

impl Ghcr {
    /// Every package private, nobody known.
    pub fn new(storage: Arc<dyn Storage>, clock: Clock) -> Ghcr {
        Ghcr {
            storage,
            clock,
            settings: Mutex::new(Settings {
                public: BTreeSet::new(),
                accounts: BTreeMap::new(),
                writers: BTreeSet::new(),
                tokens: BTreeMap::new(),
                issued: 0,
                life: Duration::from_mins(5),
                largest_page: 10_000,
                faults: Vec::new(),
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a package public.
    pub fn publish(&self, package: &str) {
        self.settings().public.insert(package.to_owned());
    }

    /// A personal access token whose owner may read these packages (`*`: all); the user name does not matter.
    pub fn add_token(&self, token: &str, packages: &[&str]) {
        let packages = packages.iter().map(|package| (*package).to_owned()).collect();
        self.settings().accounts.insert(token.to_owned(), packages);
    }

    /// The same, and may write them.
    pub fn add_writer(&self, token: &str, packages: &[&str]) {
        self.add_token(token, packages);
        self.settings().writers.insert(token.to_owned());
    }

    /// A personal access token ends.
    pub fn expire_token(&self, token: &str) {
        self.settings().accounts.remove(token);
    }

    /// The most tags in a page, whatever the client asks for. At first 10,000.
    pub fn set_largest_page(&self, tags: usize) {
        self.settings().largest_page = tags.max(1);
    }

    /// Answers the next `times` requests of a kind (`"token"`, `"tags"`, `"manifest"`, `"blob"`, `"challenge"`) with this.
    pub fn fail(&self, kind: &'static str, answer: Answer, times: usize) {
        self.settings().faults.push((kind, answer, times));
    }

    /// 429 as it is sent: the wait is a Go duration in the message, and in no header.
    pub fn throttle(&self, kind: &'static str, wait: &str, times: usize) {
        let message = format!("toomanyrequests: retry-after: {wait}, allowed: 44000/minute");
        self.fail(kind, Answer::error(kind, 429, "TOOMANYREQUESTS", &message), times);
    }

    /// 403 for the secondary limit, as plain text.
    pub fn limit_secondarily(&self, kind: &'static str, times: usize) {
        let text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
        self.fail(
            kind,
            Answer::status(kind, 403)
                .header("content-type", "text/plain")
                .body(text),
            times,
        );
    }

    /// Sends the next `times` requests of a kind to the website, as routes are that it does not know.
    pub fn misroute(&self, kind: &'static str, times: usize) {
        self.fail(kind, elsewhere(kind, "/v2/x"), times);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.settings().faults.clear();
    }

    fn fault(&self, kind: &'static str) -> Option<Answer> {
        let mut settings = self.settings();
        let hit = settings
            .faults
            .iter_mut()
            .find(|(of, _, left)| *of == kind && *left > 0)?;
        hit.2 -= 1;
        Some(hit.1.clone())
    }

    async fn respond(&self, request: &Request) -> Answer {
        let route = Route::parse(&request.path.replace(UPLOAD, UPLOADS));
        let kind = kind(request, route.as_ref());
        if let Some(answer) = self.fault(kind) {
            return answer;
        }
        if request.host == BLOBS {
            return self.stored(request).await;
        }
        let answer = match route {
            _ if request.path == "/token" => self.token(request).await,
            None if request.path == "/v2/" => Self::challenge("challenge", None),
            Some(route) => self.content(request, &route).await,
            _ => elsewhere("other", &request.path),
        };
        answer.kind(kind).header("x-github-request-id", "D1E5:3F2A:0:1:67")
    }

    async fn token(&self, request: &Request) -> Answer {
        let denied = || Answer::error("token", 403, "DENIED", "denied");
        let scope = request.parameter("scope").unwrap_or_default();
        let scope = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
        let package = scope.map(|(package, _)| package.to_owned());
        let writes = scope.is_some_and(|(_, actions)| actions.split(',').any(|action| action == "push"));
        // As recorded: reading what does not exist is refused as if it were another's.
        let exists = match &package {
            Some(package) => self.storage.tags(package).await.is_some(),
            None => true,
        };
        let mut settings = self.settings();
        let public = package.as_ref().is_none_or(|package| settings.public.contains(package));
        if request.header("authorization").is_some() {
            let Some((_, password)) = request.basic() else {
                return Answer::error("token", 401, "UNAUTHORIZED", "authentication required");
            };
            // A wrong credential is refused even where none is needed.
            let Some(readable) = settings.accounts.get(&password) else {
                return denied();
            };
            let reads = |package: &String| readable.iter().any(|of| of == "*" || of == package);
            let may = package.as_ref().is_some_and(reads)
                && if writes {
                    settings.writers.contains(&password)
                } else {
                    exists
                };
            if !may && (writes || !public) {
                return denied();
            }
        } else if !public || writes {
            return Answer::error("token", 401, "UNAUTHORIZED", "authentication required");
        }
        settings.issued += 1;
        let token = format!("djE6{}", settings.issued);
        let issued = Issued {
            package: package.unwrap_or_default(),
            writes,
            until: self.clock.seconds() + i64::try_from(settings.life.as_secs()).unwrap_or(i64::MAX),
        };
        settings.tokens.insert(token.clone(), issued);
        Answer::json("token", 200, &json!({ "token": token }))
    }

    fn may(&self, request: &Request, package: &str) -> bool {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let settings = self.settings();
        let token = request.bearer().and_then(|token| settings.tokens.get(token));
        token.is_some_and(|issued| {
            issued.package == package && self.clock.seconds() < issued.until && (reads || issued.writes)
        })
    }

    fn challenge(kind: &'static str, package: Option<&str>) -> Answer {
        let package = package.unwrap_or("user/image");
        let challenge =
            format!(r#"Bearer realm="https://{HOST}/token",service="{HOST}",scope="repository:{package}:pull""#);
        Answer::error(kind, 401, "UNAUTHORIZED", "authentication required").header("www-authenticate", &challenge)
    }

    async fn content(&self, request: &Request, route: &Route) -> Answer {
        if matches!(route.part, Part::Referrers(_)) {
            return elsewhere("other", &request.path);
        }
        if !self.may(request, &route.repository) {
            return Self::challenge("challenge", Some(&route.repository));
        }
        match &route.part {
            _ if !matches!(request.method, Method::GET | Method::HEAD) => self.write(request, route).await,
            Part::Tags => self.tags(request, &route.repository).await,
            Part::Manifest(_) => {
                let answer = self.storage.serve(request, route).await;
                let media_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
                if answer.status == 200 && !media_type.is_some_and(|media_type| request.accepts(media_type)) {
                    let message = "OCI index found, but Accept header does not support OCI indexes";
                    return Answer::error("manifest", 404, "MANIFEST_UNKNOWN", message);
                }
                answer
            }
            Part::Blob(digest) => {
                let stored = self.storage.serve(request, route).await;
                if stored.status == 404 {
                    return stored;
                }
                let place = format!("https://{BLOBS}/ghcr1/{}/{digest}?{SIGNATURE}", route.repository);
                Answer::status("blob", 307).header("location", &place)
            }
            _ => elsewhere("other", &request.path),
        }
    }

    /// Uploads go on at `blobs/upload/`, and take 4 MiB in a request (oras-project/rust-oci-client 35).
    async fn write(&self, request: &Request, route: &Route) -> Answer {
        if request.body.len() > LARGEST_PIECE {
            return Answer::status("upload", 413);
        }
        let mut answer = self.storage.serve(request, route).await;
        let place = answer.headers.get("location").and_then(|place| place.to_str().ok());
        if let Some(place) = place.map(|place| place.replace(UPLOADS, UPLOAD)) {
            answer.headers.remove("location");
            answer = answer.header("location", &place);
        }
        answer
    }

    /// From the oldest to the newest; what `last` means is the registry's own business.
    async fn tags(&self, request: &Request, package: &str) -> Answer {
        let Some(mut tags) = self.storage.tags(package).await else {
            return name_unknown("tags");
        };
        tags.sort_by(|one, other| (one.created, &other.name).cmp(&(other.created, &one.name)));
        let largest = self.settings().largest_page;
        let asked = request.parameter("n").and_then(|n| n.parse().ok());
        let size = asked.unwrap_or(USUAL_PAGE).clamp(1, largest);
        let last = request.parameter("last");
        let from = last
            .and_then(|last| Some(tags.iter().position(|tag| tag.name == last)? + 1))
            .unwrap_or(0);
        let page: Vec<_> = tags.iter().skip(from).take(size).map(|tag| tag.name.as_str()).collect();
        let answer = Answer::json("tags", 200, &json!({ "name": package, "tags": page }));
        match page.last().filter(|_| from + page.len() < tags.len()) {
            None => answer,
            Some(last) => answer.header(
                "link",
                &format!("</v2/{package}/tags/list?last={last}&n={size}>; rel=\"next\""),
            ),
        }
    }

    /// Blob storage: a signed address will do, and a credential besides is an error.
    async fn stored(&self, request: &Request) -> Answer {
        let refused = request.query != SIGNATURE || request.header("authorization").is_some();
        let parts = request
            .path
            .strip_prefix("/ghcr1/")
            .and_then(|path| path.rsplit_once('/'));
        match parts {
            Some((package, digest)) if !refused => {
                let route = Route {
                    repository: package.to_owned(),
                    part: Part::Blob(digest.to_owned()),
                };
                self.storage.serve(request, &route).await
            }
            _ => Answer::status("blob", 403),
        }
    }
}

impl Service for Ghcr {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(self.respond(request))
    }
}

fn kind(request: &Request, route: Option<&Route>) -> &'static str {
    match route.map(|route| &route.part) {
        _ if request.path == "/token" => "token",
        _ if request.host == BLOBS => "stored-blob",
        None if request.path == "/v2/" => "challenge",
        Some(Part::Tags) => "tags",
        Some(Part::Manifest(_)) => "manifest",
        Some(Part::Blob(_)) => "blob",
        Some(Part::Uploads | Part::Upload(_)) => "upload",
        _ => "other",
    }
}

fn elsewhere(kind: &'static str, path: &str) -> Answer {
    let place = path.trim_start_matches("/v2/");
    Answer::status(kind, 303).header(
        "location",
        &format!("https://github.com/-/v2/packages/container/package/{place}"),
    )
}
