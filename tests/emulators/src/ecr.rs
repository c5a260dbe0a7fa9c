//! Amazon Elastic Container Registry: Basic with a password of twelve hours, the account's interface (JSON 1.1, signatures
//! checked), archived images, and a pull-through cache that imports whatever is asked for by tag.
//!
//! Sources: the Amazon ECR API reference and user guide; recorded traffic of others for the pages of names, the plain text of 401, and
//! uploads (dotnet/sdk-container-builds 279 and 424). Not known, and chosen here for the worse: HEAD by tag imports too.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::clock::Clock;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};
use crate::store::{Memory, Part, Route, Storage as _, Tag, manifest_unknown, name_unknown};

/// How long a password lives.
const LIFE: i64 = 12 * 3600;

/// Bytes of a piece of an upload, but for the last, and at most (Amazon ECR service quotas).
const LEAST_PIECE: usize = 5 << 20;
const LARGEST_PIECE: usize = 10 << 20;
/// Tags in a page.
const PAGE: usize = 100;

/// One account's registry in one region, and the account's interface.
pub struct Ecr {
    account: String,
    region: String,
    storage: Arc<Memory>,
    keys: Arc<Aws>,
    clock: Clock,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    /// Password to its end.
    passwords: BTreeMap<String, i64>,
    archived: BTreeSet<(String, String)>,
    /// Prefix, upstream registry and what it holds.
    rules: Vec<(String, String, Arc<Memory>)>,
    imports: Vec<String>,
    /// Actions that are denied.
    denied: BTreeSet<String>,
    faults: Vec<(String, Answer, usize)>,
    /// Bytes of the pieces of each upload.
    pieces: BTreeMap<String, Vec<usize>>,
    page_cap: usize,
}

impl Ecr {
    /// An empty registry; anyone who has a key in `keys` may do everything.
    pub fn new(account: &str, region: &str, storage: Arc<Memory>, keys: Arc<Aws>, clock: Clock) -> Ecr {
        Ecr {
            account: account.to_owned(),
            region: region.to_owned(),
            storage,
            keys,
            clock,
            settings: Mutex::new(Settings {
                page_cap: 1000,
                ..Settings::default()
            }),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry's name.
    pub fn host(&self) -> String {
        format!("{}.dkr.ecr.{}.amazonaws.com", self.account, self.region)
    }

    /// The name of the account's interface.
    pub fn api(&self) -> String {
        format!("api.ecr.{}.amazonaws.com", self.region)
    }

    /// Archives an image, by its digest: it is described, and can't be pulled.
    pub fn archive(&self, repository: &str, digest: &str) {
        self.settings()
            .archived
            .insert((repository.to_owned(), digest.to_owned()));
    }

    /// A pull-through cache rule: what `upstream` holds is imported below `prefix` when it is asked for by tag.
    pub fn cache(&self, prefix: &str, upstream: &str, content: Arc<Memory>) {
        self.settings()
            .rules
            .push((prefix.to_owned(), upstream.to_owned(), content));
    }

    /// What was imported, `repository:tag` in order.
    pub fn imports(&self) -> Vec<String> {
        self.settings().imports.clone()
    }

    /// Denies an action of the interface, such as `DescribeImages`.
    pub fn deny(&self, action: &str) {
        self.settings().denied.insert(action.to_owned());
    }

    /// Answers the next `times` requests of a kind with this: an action, or `"manifest"`, `"tags"`, `"blob"`, `"challenge"`.
    pub fn fail(&self, kind: &str, answer: Answer, times: usize) {
        self.settings().faults.push((kind.to_owned(), answer, times));
    }

    /// `ThrottlingException`, which is a 400, for the next `times` calls of an action.
    pub fn throttle(&self, action: &str, times: usize) {
        self.fail(
            action,
            refused("api", 400, "ThrottlingException", "Rate exceeded"),
            times,
        );
    }

    /// Makes every password that was issued worthless.
    pub fn revoke_passwords(&self) {
        self.settings().passwords.clear();
    }

    /// Ends the life of every password that was issued.
    pub fn expire_passwords(&self) {
        let now = self.clock.seconds();
        self.settings().passwords.values_mut().for_each(|until| *until = now);
    }

    /// The most images in a page, whatever the client asks for. At first 1000.
    pub fn set_page_cap(&self, images: usize) {
        self.settings().page_cap = images.max(1);
    }

    fn fault(&self, kind: &str) -> Option<Answer> {
        let mut settings = self.settings();
        let hit = settings
            .faults
            .iter_mut()
            .find(|(of, _, left)| of == kind && *left > 0)?;
        hit.2 -= 1;
        Some(hit.1.clone())
    }

    async fn respond(&self, request: &Request) -> Answer {
        if request.host == self.api() {
            return self.call(request).await;
        }
        let route = Route::parse(&request.path);
        let kind = match route.as_ref().map(|route| &route.part) {
            Some(Part::Tags) => "tags",
            Some(Part::Manifest(_)) => "manifest",
            Some(Part::Blob(_)) => "blob",
            _ => "challenge",
        };
        if let Some(answer) = self.fault(kind) {
            return answer.kind(kind);
        }
        if self.knew(request) {
            // As recorded: without a challenge.
            let message = "Your authorization token has expired. Reauthenticate and try again.";
            let body = json!({ "errors": [{ "code": "DENIED", "message": message }] });
            return Answer::json(kind, 403, &body);
        }
        if !self.knows(request) {
            let challenge = format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", self.host());
            return Answer::status(kind, 401)
                .header("content-type", "text/plain; charset=utf-8")
                .header("www-authenticate", &challenge)
                .body("Not Authorized\n");
        }
        match route {
            Some(route) => self.content(request, &route).await.kind(kind),
            None => Answer::json(kind, 200, &json!({})),
        }
    }

    fn knows(&self, request: &Request) -> bool {
        let settings = self.settings();
        let known = |(user, password): (String, String)| {
            user == "AWS"
                && settings
                    .passwords
                    .get(&password)
                    .is_some_and(|until| self.clock.seconds() < *until)
        };
        request.basic().is_some_and(known)
    }

    /// Whether it is a password that was good.
    fn knew(&self, request: &Request) -> bool {
        let settings = self.settings();
        let until = request
            .basic()
            .and_then(|(_, password)| settings.passwords.get(&password).copied());
        until.is_some_and(|until| self.clock.seconds() >= until)
    }

    async fn content(&self, request: &Request, route: &Route) -> Answer {
        match &route.part {
            Part::Manifest(reference) if matches!(request.method, Method::GET | Method::HEAD) => {
                if !reference.starts_with("sha256:") {
                    self.import(request, &route.repository, reference).await;
                }
                let answer = self.storage.serve(request, route).await;
                let digest = answer
                    .headers
                    .get("docker-content-digest")
                    .and_then(|value| value.to_str().ok());
                let archived = digest.is_some_and(|digest| self.is_archived(&route.repository, digest));
                if archived { manifest_unknown() } else { answer }
            }
            Part::Tags => match self.storage.tags(&route.repository).await {
                None => name_unknown("tags"),
                Some(tags) => self.names(request, &route.repository, &tags),
            },
            Part::Upload(id) => self.upload(request, route, id).await,
            _ => self.storage.serve(request, route).await,
        }
    }

    /// Names by pages, which are linked absolutely.
    fn names(&self, request: &Request, repository: &str, tags: &[Tag]) -> Answer {
        let last = request.parameter("last").unwrap_or_default();
        let mut names: Vec<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
        names.retain(|name| *name > last.as_str());
        let more = names.len() > PAGE;
        names.truncate(PAGE);
        let answer = Answer::json("tags", 200, &json!({ "name": repository, "tags": names }));
        match names.last().filter(|_| more) {
            None => answer,
            Some(last) => {
                let next = format!("https://{}/v2/{repository}/tags/list?last={last}&n={PAGE}", self.host());
                answer.header("link", &format!("<{next}>; rel=\"next\""))
            }
        }
    }

    /// A piece of an upload, which is answered with 201, or its end, which is refused where a piece but the last was too small.
    async fn upload(&self, request: &Request, route: &Route, id: &str) -> Answer {
        let length = request.body.len();
        if request.method == Method::PATCH {
            self.settings().pieces.entry(id.to_owned()).or_default().push(length);
            let mut answer = self.storage.serve(request, route).await;
            if answer.status == 202 {
                answer.status = 201;
            }
            return answer;
        }
        if request.method == Method::PUT {
            let mut pieces = self.settings().pieces.remove(id).unwrap_or_default();
            pieces.extend((length > 0).then_some(length));
            let (_, before) = pieces.split_last().unwrap_or((&0, &[]));
            if pieces.iter().any(|piece| *piece > LARGEST_PIECE) {
                return Answer::status("upload", 413);
            }
            if before.iter().any(|piece| *piece < LEAST_PIECE) {
                let message = "All layer parts except the last part should be at least 5MB";
                return Answer::error("upload", 400, "BLOB_UPLOAD_INVALID", message);
            }
        }
        self.storage.serve(request, route).await
    }

    fn is_archived(&self, repository: &str, digest: &str) -> bool {
        self.settings()
            .archived
            .contains(&(repository.to_owned(), digest.to_owned()))
    }

    /// Imports what a rule covers and the cache lacks: the manifest, everything that it leads to, and the tag.
    async fn import(&self, request: &Request, repository: &str, tag: &str) {
        let rule = self.settings().rules.iter().find_map(|(prefix, _, upstream)| {
            let path = repository.strip_prefix(prefix.as_str())?.strip_prefix('/')?;
            Some((path.to_owned(), upstream.clone()))
        });
        let Some((path, upstream)) = rule else { return };
        if self.storage.manifest(repository, tag).is_some() {
            return;
        }
        if let Some(digest) = self.copy(request, &upstream, &path, repository, tag).await {
            self.storage.tag(repository, tag, &digest);
            self.settings().imports.push(format!("{repository}:{tag}"));
        }
    }

    fn copy<'a>(
        &'a self,
        request: &'a Request,
        upstream: &'a Memory,
        path: &'a str,
        repository: &'a str,
        reference: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send + 'a>> {
        Box::pin(async move {
            let (media_type, body) = upstream.manifest(path, reference)?;
            let manifest: Value = serde_json::from_slice(&body).ok()?;
            let digests = |list: &str| {
                let entries = manifest[list].as_array().into_iter().flatten();
                entries
                    .filter_map(|entry| entry["digest"].as_str().map(str::to_owned))
                    .collect::<Vec<_>>()
            };
            for child in digests("manifests") {
                self.copy(request, upstream, path, repository, &child).await;
            }
            let config = manifest["config"]["digest"].as_str().map(str::to_owned);
            for blob in digests("layers").into_iter().chain(config) {
                let route = Route {
                    repository: path.to_owned(),
                    part: Part::Blob(blob),
                };
                let whole = Request {
                    method: Method::GET,
                    headers: http::HeaderMap::new(),
                    ..request.clone()
                };
                self.storage
                    .put_blob(repository, upstream.serve(&whole, &route).await.body);
            }
            Some(self.storage.put_manifest(repository, None, &media_type, body))
        })
    }

    async fn call(&self, request: &Request) -> Answer {
        let target = request.header("x-amz-target").unwrap_or_default();
        let action = target
            .strip_prefix("AmazonEC2ContainerRegistry_V20150921.")
            .unwrap_or_default()
            .to_owned();
        let kind = match action.as_str() {
            "GetAuthorizationToken" => "password",
            "DescribeImages" => "images",
            "DescribePullThroughCacheRules" => "rules",
            _ => return refused("api", 400, "UnknownOperationException", ""),
        };
        if let Some(answer) = self.fault(&action) {
            return answer.kind(kind);
        }
        if let Err((name, why)) = self.keys.verify(request, &self.region, "ecr") {
            return refused(kind, 400, name, &why);
        }
        if self.settings().denied.contains(&action) {
            let why = format!("User is not authorized to perform: ecr:{action}");
            return refused(kind, 400, "AccessDeniedException", &why);
        }
        let input: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = match kind {
            "password" => self.password(),
            "images" => self.images(&input).await,
            _ => self.rules(),
        };
        let date = self.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer.kind(kind).header("date", &date)
    }

    fn password(&self) -> Answer {
        let mut settings = self.settings();
        let password = format!("password-{}-{}", settings.passwords.len(), self.clock.seconds());
        let until = self.clock.seconds() + LIFE;
        settings.passwords.insert(password.clone(), until);
        let token = BASE64_STANDARD.encode(format!("AWS:{password}"));
        let data = json!({ "authorizationToken": token, "expiresAt": until, "proxyEndpoint": format!("https://{}", self.host()) });
        amazon(&json!({ "authorizationData": [data] }))
    }

    #[expect(clippy::too_many_lines, reason = "one action of the interface")]
    async fn images(&self, input: &Value) -> Answer {
        let repository = input["repositoryName"].as_str().unwrap_or_default();
        let unknown = |name: &str, what: &str| {
            refused(
                "images",
                400,
                name,
                &format!("{what} does not exist in the registry with id '{}'", self.account),
            )
        };
        if input["registryId"] != self.account.as_str() {
            return refused("images", 400, "InvalidParameterException", "registryId");
        }
        let Some(tags) = self.storage.tags(repository).await else {
            return unknown(
                "RepositoryNotFoundException",
                &format!("The repository with name '{repository}'"),
            );
        };
        let mut images: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for tag in &tags {
            images.entry(&tag.digest).or_default().push(&tag.name);
        }
        if let Some(wanted) = input["imageIds"][0]["imageTag"].as_str() {
            images.retain(|_, names| names.contains(&wanted));
            if images.is_empty() {
                return unknown(
                    "ImageNotFoundException",
                    &format!("The image with imageId {{imageTag:'{wanted}'}}"),
                );
            }
        }
        // Archived images are listed for who asks for them, by a filter or by name.
        let is_named = input["imageIds"].is_array();
        let usual = if is_named { "ANY" } else { "ACTIVE" };
        let wanted = input["filter"]["imageStatus"].as_str().unwrap_or(usual);
        images.retain(|digest, _| match wanted {
            "ANY" => true,
            "ARCHIVED" => self.is_archived(repository, digest),
            _ => !self.is_archived(repository, digest),
        });
        let cap = self.settings().page_cap;
        let most = input["maxResults"]
            .as_u64()
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(100)
            .min(cap);
        let from: usize = input["nextToken"]
            .as_str()
            .and_then(|token| token.parse().ok())
            .unwrap_or(0);
        let details: Vec<_> = images
            .iter()
            .skip(from)
            .take(most)
            .map(|(digest, names)| {
                let status = if self.is_archived(repository, digest) {
                    "ARCHIVED"
                } else {
                    "ACTIVE"
                };
                json!({
                    "registryId": self.account, "repositoryName": repository, "imageDigest": digest, "imageTags": names,
                    "imageStatus": status, "imagePushedAt": 1_795_176_000.0,
                })
            })
            .collect();
        let mut page = json!({ "imageDetails": details });
        if from + most < images.len() {
            page["nextToken"] = (from + most).to_string().into();
        }
        amazon(&page)
    }

    fn rules(&self) -> Answer {
        let settings = self.settings();
        let rules: Vec<_> = settings
            .rules
            .iter()
            .map(|(prefix, upstream, _)| {
                json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": upstream, "registryId": self.account })
            })
            .collect();
        amazon(&json!({ "pullThroughCacheRules": rules }))
    }
}

impl Service for Ecr {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(self.respond(request))
    }
}

fn amazon(body: &Value) -> Answer {
    Answer::json("api", 200, body).header("content-type", "application/x-amz-json-1.1")
}

fn refused(kind: &'static str, status: u16, name: &str, message: &str) -> Answer {
    Answer::json(kind, status, &json!({ "__type": name, "message": message }))
        .header("content-type", "application/x-amz-json-1.1")
}
