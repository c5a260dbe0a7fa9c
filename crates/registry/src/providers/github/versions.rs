//! Package versions, GitHub's only list of tags with digests
//! (`GET /orgs/{owner}/packages/container/{name}/versions`, GitHub REST API, "Packages").
//!
//! It needs a classic personal access token and has a limit of its own, so it is used where it saves requests and left
//! alone where it doesn't, or doesn't work: the digests are then read tag by tag from the registry.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::pages::{self, Tagged};
use super::token::GitHubToken;
use crate::auth::credentials::Credentials;
use crate::budget::{Budget, Budgets};
use crate::protocol::site::Site;
use crate::tags::ListedTag;
use crate::wire::answer;
use crate::wire::ask::Ask;
use crate::wire::failure::{Class, Failure, Stage};
use crate::wire::reply::Reply;
use crate::wire::secret::secret_header;
use crate::wire::transport::Http;

/// The one host that the token is sent to besides the registry.
const HOST: &str = "api.github.com";
/// A fifth of what GitHub allows a user in an hour.
const PER_HOUR: u32 = 1000;
/// How long a repository whose versions can't be read, or are not worth it, is left alone.
const REST: Duration = Duration::from_mins(10);
/// So many tags are remembered for unchanged pages, over all repositories; about 10 MB.
const MOST_REMEMBERED: usize = 50_000;

/// The versions of one account's packages.
pub(super) struct Versions {
    authorization: HeaderValue,
    budget: Arc<Budget>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    repositories: HashMap<String, Known>,
    /// Accounts that are known to be users: each is found out once, not with each of its repositories.
    users: HashSet<String>,
    paused_until: Option<Instant>,
}

/// What is known of one repository.
#[derive(Default)]
struct Known {
    pages: Vec<Arc<Page>>,
    paused_until: Option<Instant>,
}

/// A page as it was last read.
struct Page {
    etag: Option<HeaderValue>,
    tags: Vec<Tagged>,
    last: usize,
    next: bool,
}

/// Under which path an owner's packages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Organisation,
    User,
}

impl Versions {
    /// `None` unless the registry is ghcr.io and the credential one that GitHub's REST interface takes for packages.
    pub(super) fn new(site: &Site, budgets: &Budgets) -> Option<Versions> {
        let Credentials::Basic { password, .. } = &site.credentials else {
            return None;
        };
        let token = password.expose();
        let old = token.len() == 40 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let classic = old || GitHubToken::of(token) == Some(GitHubToken::Classic);
        if site.host() != "ghcr.io" || !classic {
            return None;
        }
        Some(Versions {
            authorization: secret_header("Bearer", token)?,
            budget: budgets.for_api(HOST, || Budget::per_hour(PER_HOUR)),
            memory: Mutex::default(),
        })
    }

    /// Adds the digests that versions tell to the tags that the registry lists. A tag that was moved meanwhile stays without.
    pub(super) async fn add_digests(&self, http: &Http, site: &Site, repository: &str, tags: &mut [ListedTag]) {
        if !pages::cheaper(1, tags.len()) || self.paused(repository) {
            return;
        }
        let read = match self.read(http, repository, tags.len()).await {
            Ok(read) => read,
            Err(failure) => {
                let failure = site.credentials.scrub(failure.message);
                tracing::debug!(repository, failure, "package versions can't be read; asking tag by tag");
                return;
            }
        };
        let digests = pages::digests(read.iter().map(|page| page.tags.as_slice()));
        for tag in tags {
            tag.digest = digests.get(tag.name.as_str()).copied().flatten().cloned();
        }
        drop(digests);
        self.remember(repository, read);
    }

    /// Every page; none when they are too many, or the budget is used up: half of the pages would hide a move.
    async fn read(&self, http: &Http, repository: &str, tags: usize) -> Result<Vec<Arc<Page>>, Failure> {
        let mut read: Vec<Arc<Page>> = Vec::new();
        loop {
            let number = read.len() + 1;
            if !self.budget.try_acquire() {
                return Ok(Vec::new());
            }
            let page = self.page(http, repository, number).await?;
            if !pages::cheaper(page.last.max(number), tags) {
                self.pause(repository, REST);
                return Ok(Vec::new());
            }
            let next = page.next;
            read.push(page);
            if !next {
                return Ok(read);
            }
        }
    }

    /// One page. Whether the owner is an organisation or a user is found out with the first.
    async fn page(&self, http: &Http, repository: &str, number: usize) -> Result<Arc<Page>, Failure> {
        let (owner, known) = self.known(repository, number);
        let asked = self.ask(http, repository, owner, number, known.as_ref()).await;
        let absent = matches!(&asked, Err(failure) if failure.status == Some(404));
        let page = match owner {
            Owner::Organisation if absent && number == 1 => {
                let page = self.ask(http, repository, Owner::User, number, None).await;
                if page.is_ok() {
                    self.with(|memory| memory.note_user(repository));
                }
                page
            }
            Owner::User if absent => {
                // It may have become an organisation.
                self.with(|memory| memory.users.remove(account(repository)));
                asked
            }
            _ => asked,
        };
        page.inspect_err(|failure| self.note(repository, failure))
    }

    async fn ask(
        &self,
        http: &Http,
        repository: &str,
        owner: Owner,
        number: usize,
        known: Option<&Arc<Page>>,
    ) -> Result<Arc<Page>, Failure> {
        let mut ask = Ask::new(Method::GET, url(owner, repository, number)?, Stage::Tags);
        ask.authorization = Some(self.authorization.clone());
        ask.headers
            .insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        ask.headers
            .insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        if let Some(etag) = known.and_then(|page| page.etag.clone()) {
            ask.headers.insert(IF_NONE_MATCH, etag);
        }
        let reply = http.exchange(&ask).await?;
        match (reply.status(), known) {
            (StatusCode::NOT_MODIFIED, Some(page)) => {
                self.budget.succeeded();
                Ok(page.clone())
            }
            (StatusCode::OK, _) => {
                self.budget.succeeded();
                page(reply, http.limits.page_bytes).await
            }
            _ => Err(answer::failure(reply, &ask.method, false, http.limits.error_bytes).await),
        }
    }

    fn known(&self, repository: &str, number: usize) -> (Owner, Option<Arc<Page>>) {
        self.with(|memory| {
            let owner = if memory.users.contains(account(repository)) {
                Owner::User
            } else {
                Owner::Organisation
            };
            (owner, memory.of(repository).pages.get(number - 1).cloned())
        })
    }

    fn paused(&self, repository: &str) -> bool {
        let now = Instant::now();
        self.with(|memory| {
            let until = memory.of(repository).paused_until.max(memory.paused_until);
            until.is_some_and(|until| now < until)
        })
    }

    fn pause(&self, repository: &str, length: Duration) {
        self.with(|memory| memory.of(repository).paused_until = Some(Instant::now() + length));
    }

    /// A credential that is refused is refused for every repository; everything else is about this one.
    fn note(&self, repository: &str, failure: &Failure) {
        match &failure.class {
            Class::Unauthorized => self.with(|memory| memory.paused_until = Some(Instant::now() + REST)),
            Class::Throttled { retry_after } => {
                self.budget.throttled(*retry_after);
                let pause = retry_after.unwrap_or(Duration::from_mins(1));
                self.with(|memory| memory.paused_until = Some(Instant::now() + pause));
            }
            _ => self.pause(repository, REST),
        }
    }

    /// Keeps pages for the next pass, as far as there is room.
    fn remember(&self, repository: &str, pages: Vec<Arc<Page>>) {
        self.with(|memory| {
            memory.of(repository).pages = Vec::new();
            let size = |pages: &[Arc<Page>]| pages.iter().map(|page| page.tags.len() + 1).sum::<usize>();
            let held: usize = memory.repositories.values().map(|known| size(&known.pages)).sum();
            if held + size(&pages) <= MOST_REMEMBERED {
                memory.of(repository).pages = pages;
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    fn note_user(&mut self, repository: &str) {
        /// More than any operator mirrors.
        const MOST_USERS: usize = 256;
        if self.users.len() >= MOST_USERS {
            self.users.clear();
        }
        self.users.insert(account(repository).to_owned());
    }

    fn of(&mut self, repository: &str) -> &mut Known {
        /// More than any mirror lists.
        const MOST_REPOSITORIES: usize = 4096;
        if self.repositories.len() >= MOST_REPOSITORIES && !self.repositories.contains_key(repository) {
            self.repositories.clear();
        }
        self.repositories.entry(repository.to_owned()).or_default()
    }
}

async fn page(reply: Reply, most: u64) -> Result<Arc<Page>, Failure> {
    let headers: HeaderMap = reply.headers().clone();
    let broken = reply.not_a_registry("no list of package versions");
    let body = reply.body(most).await?;
    let tags = pages::read(&body).ok_or(broken)?;
    Ok(Arc::new(Page {
        etag: headers.get(ETAG).cloned(),
        tags,
        last: pages::last_page(&headers),
        next: pages::has_next(&headers),
    }))
}

fn account(repository: &str) -> &str {
    repository.split_once('/').map_or(repository, |(account, _)| account)
}

fn url(owner: Owner, repository: &str, number: usize) -> Result<Url, Failure> {
    let parts = repository.split_once('/');
    let base = Url::parse(&format!("https://{HOST}/")).ok();
    let built = parts.zip(base).and_then(|((account, name), mut url)| {
        let accounts = match owner {
            Owner::Organisation => "orgs",
            Owner::User => "users",
        };
        // A slash within the name is encoded: it is one segment.
        url.path_segments_mut()
            .ok()?
            .clear()
            .extend([accounts, account, "packages", "container", name, "versions"]);
        url.query_pairs_mut()
            .append_pair("per_page", "100")
            .append_pair("page", &number.to_string())
            .append_pair("state", "active");
        Some(url)
    });
    built.ok_or_else(|| {
        let message = format!("failed to ask for the versions of {repository:?}: it names no account and package");
        Failure::new(Stage::Tags, Class::BadReference, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;
    use crate::wire::secret::Secret;

    #[test]
    fn a_name_with_slashes_is_one_segment() {
        let built = |owner, repository| url(owner, repository, 3).map(|url| url.to_string()).ok();
        assert_eq!(
            built(Owner::Organisation, "krateo/charts/web").as_deref(),
            Some(
                "https://api.github.com/orgs/krateo/packages/container/charts%2Fweb/versions?per_page=100&page=3&state=active"
            )
        );
        assert!(
            built(Owner::User, "kev/web")
                .unwrap()
                .starts_with("https://api.github.com/users/kev/packages/")
        );
        assert_eq!(built(Owner::User, "web"), None);
    }

    #[test]
    fn only_a_classic_token_for_ghcr_goes_to_the_rest_interface() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        let cases = [
            ("ghcr.io", "ghp_abc", true),
            ("ghcr.io", hex, true),
            ("ghcr.io", "ghs_abc", false),
            ("ghcr.io", "github_pat_abc", false),
            ("ghcr.io", "hunter2", false),
            ("ghcr.io:8443", "ghp_abc", false),
            ("containers.ghe.test", "ghp_abc", false),
            ("evil-ghcr.io", "ghp_abc", false),
        ];
        for (registry, password, expected) in cases {
            let connection = Connection {
                registry: registry.to_owned(),
                credentials: Credentials::Basic {
                    username: "kev".to_owned(),
                    password: Secret::new(password.to_owned()),
                },
                ..Connection::default()
            };
            let versions = Versions::new(&Site::new(&connection).unwrap(), &Budgets::new());
            assert_eq!(versions.is_some(), expected, "{registry} {password}");
        }
        let anonymous = Connection {
            registry: "ghcr.io".to_owned(),
            ..Connection::default()
        };
        assert!(Versions::new(&Site::new(&anonymous).unwrap(), &Budgets::new()).is_none());
    }
}
