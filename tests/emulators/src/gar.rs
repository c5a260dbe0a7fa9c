//! Google Artifact Registry: tokens from `/v2/token` for an access token of Google's, all tags at once with the manifests that have
//! them, and uploads by one request only.
//!
//! Sources: Google Cloud's documentation ("Artifact Registry: Docker API", which says that chunked uploads are not supported;
//! "Configure authentication to Artifact Registry for Docker"), and what Google's own client reads of a list (go-containerregistry,
//! `pkg/v1/google/list.go`); that `/v2/` names no service in its challenge, and repositories do, is reported by users of other
//! clients. Not known, and chosen here: anyone who is known gets a token, and rights are looked at with the request; tokens live for an
//! hour; an upload in pieces is answered with 405.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use serde_json::json;

use crate::clock::Clock;
use crate::google::Google;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};
use crate::store::{Part, Route, Storage, name_unknown};

/// One of the registry's hosts.
pub struct Gar {
    host: String,
    storage: Arc<dyn Storage>,
    google: Arc<Google>,
    clock: Clock,
    settings: Mutex<Settings>,
}

#[derive(Default)]
struct Settings {
    /// Principals, or `allUsers`, that may read; `true`: write, too.
    granted: BTreeMap<String, bool>,
    /// Tokens to the principals that they were issued to, and their ends (seconds since 1970).
    tokens: BTreeMap<String, (String, i64)>,
}

/// A user who is not known.
const EVERYONE: &str = "allUsers";

impl Gar {
    /// Nobody may do anything.
    pub fn new(host: &str, storage: Arc<dyn Storage>, google: Arc<Google>, clock: Clock) -> Gar {
        Gar {
            host: host.to_owned(),
            storage,
            google,
            clock,
            settings: Mutex::default(),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `roles/artifactregistry.reader`, or `.writer`, for a principal or `allUsers`.
    pub fn grant(&self, principal: &str, writes: bool) {
        self.settings().granted.insert(principal.to_owned(), writes);
    }

    /// Takes all registry tokens back.
    pub fn revoke(&self) {
        self.settings().tokens.clear();
    }

    async fn respond(&self, request: &Request) -> Answer {
        if request.path == "/v2/token" {
            return self.token(request);
        }
        let Some(route) = Route::parse(&request.path) else {
            return self.challenge("challenge", None);
        };
        let kind = kind(&route);
        let principal = match request.bearer() {
            Some(token) => match self.holder(token) {
                Some(principal) => principal,
                None => return self.challenge(kind, Some(&route.repository)),
            },
            None => return self.challenge(kind, Some(&route.repository)),
        };
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let granted = self.settings().granted.get(&principal).copied();
        if !granted.is_some_and(|writes| writes || reads) {
            let action = if reads { "downloadArtifacts" } else { "uploadArtifacts" };
            let message = format!(
                "Permission \"artifactregistry.repositories.{action}\" denied on resource \"{}\" (or it may not exist)",
                route.repository
            );
            return Answer::error(kind, 403, "DENIED", &message);
        }
        match (&route.part, &request.method) {
            (Part::Tags, _) => self.tags(&route.repository).await,
            (Part::Upload(_), &Method::PATCH) => {
                Answer::error("piece", 405, "UNSUPPORTED", "The operation is unsupported.")
            }
            _ => self.storage.serve(request, &route).await.kind(kind),
        }
    }

    fn holder(&self, token: &str) -> Option<String> {
        let settings = self.settings();
        let (principal, until) = settings.tokens.get(token)?;
        (self.clock.seconds() < *until).then(|| principal.clone())
    }

    fn token(&self, request: &Request) -> Answer {
        if request.parameter("service").is_some_and(|service| service != self.host) {
            return Answer::error("token", 400, "BAD_REQUEST", "unknown service");
        }
        let principal = match (request.header("authorization"), request.basic()) {
            (None, _) => EVERYONE.to_owned(),
            (Some(_), Some((user, token))) if user == "oauth2accesstoken" => match self.google.principal(&token) {
                Some(principal) => principal,
                None => return Answer::error("token", 401, "UNAUTHORIZED", "authentication failed"),
            },
            _ => return Answer::error("token", 401, "UNAUTHORIZED", "authentication failed"),
        };
        let mut settings = self.settings();
        let token = format!("gar-{}", settings.tokens.len());
        let until = self.clock.seconds() + 3600;
        settings.tokens.insert(token.clone(), (principal, until));
        Answer::json("token", 200, &json!({ "token": token, "expires_in": 3600 }))
    }

    fn challenge(&self, kind: &'static str, repository: Option<&str>) -> Answer {
        let host = &self.host;
        let realm = format!("Bearer realm=\"https://{host}/v2/token\"");
        let challenge = repository.map_or(realm.clone(), |repository| {
            format!("{realm},service=\"{host}\",scope=\"repository:{repository}:pull\"")
        });
        Answer::error(kind, 401, "UNAUTHORIZED", "Unauthenticated request.").header("www-authenticate", &challenge)
    }

    async fn tags(&self, repository: &str) -> Answer {
        let Some(tags) = self.storage.tags(repository).await else {
            return name_unknown("tags");
        };
        let names: Vec<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
        let mut manifests = serde_json::Map::new();
        for tag in &tags {
            let manifest = manifests.entry(tag.digest.clone()).or_insert_with(|| {
                json!({
                    "imageSizeBytes": "1000", "layerId": "", "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "timeCreatedMs": tag.created.as_millisecond().to_string(),
                    "timeUploadedMs": tag.updated.as_millisecond().to_string(), "tag": [],
                })
            });
            if let Some(list) = manifest["tag"].as_array_mut() {
                list.push(tag.name.clone().into());
            }
        }
        let body = json!({"child": [], "manifest": manifests, "name": repository, "tags": names});
        Answer::json("tags", 200, &body)
    }
}

impl Service for Gar {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(self.respond(request))
    }
}

fn kind(route: &Route) -> &'static str {
    match route.part {
        Part::Tags => "tags",
        Part::Manifest(_) => "manifest",
        Part::Blob(_) => "blob",
        Part::Uploads => "begin-upload",
        Part::Upload(_) => "upload",
        Part::Referrers(_) => "other",
    }
}
