//! `/v2`: manifests, blobs and uploads, behind rights and locks.

use http::Method;
use serde_json::{Value, json};

use super::Acr;
use super::rights::claims_allow;
use crate::message::{Answer, Request};
use crate::store::{Part, Route, manifest_unknown, name_unknown};

/// Bytes of a request that uploads.
const LARGEST_PIECE: usize = 20_000_000;

impl Acr {
    pub(super) async fn content(&self, request: &Request, kind: &'static str) -> Answer {
        let Some(route) = Route::parse(&request.path) else {
            return Answer::error(kind, 404, "NOT_FOUND", "not found");
        };
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let action = match route.part {
            Part::Tags => "metadata_read",
            _ if reads => "pull",
            _ => "push",
        };
        if let Some(refused) = self.refuse(request, &route.repository, action, kind) {
            return refused;
        }
        match &route.part {
            Part::Tags => self.names(request, &route.repository).await,
            Part::Manifest(reference) => self.manifest(request, &route, reference, reads).await,
            Part::Blob(_) => self.blob(request, &route).await,
            _ if !self.attributes(&route.repository, None).write => disallowed(kind),
            _ if request.body.len() > LARGEST_PIECE => Answer::status(kind, 413),
            _ => self.storage.serve(request, &route).await,
        }
    }

    /// Why a request may not be answered; each action wants its own right.
    pub(super) fn refuse(
        &self,
        request: &Request,
        repository: &str,
        action: &str,
        kind: &'static str,
    ) -> Option<Answer> {
        let allowed = match self.claims(request.bearer()) {
            Some(claims) => claims_allow(&claims, repository, action),
            None => self
                .basic_rights(request)
                .is_some_and(|rights| rights.allows(repository, action)),
        };
        if allowed {
            return None;
        }
        // Who writes must be able to read, too.
        let actions: &[&str] = if action == "push" { &["pull", "push"] } else { &[action] };
        let scope = format!("repository:{repository}:{}", actions.join(","));
        let detail = |action| json!({"Type": "repository", "Name": repository, "Action": action});
        let details = Value::Array(actions.iter().map(detail).collect());
        let error = self.claims(request.bearer()).map(|_| "insufficient_scope");
        Some(self.unauthorized(kind, Some(&scope), error, &details))
    }

    async fn manifest(&self, request: &Request, route: &Route, reference: &str, reads: bool) -> Answer {
        let repository = &route.repository;
        let by_digest = reference.starts_with("sha256:");
        let of_tag = self.attributes(repository, Some(reference).filter(|_| !by_digest));
        let of_repository = self.attributes(repository, None);
        if !reads {
            if of_tag.write && of_repository.write {
                return self.storage.serve(request, route).await;
            }
            return disallowed("put-manifest");
        }
        if !of_tag.read || !of_repository.read {
            return disallowed("manifest");
        }
        let answer = self.storage.serve(request, route).await;
        let digest = answer
            .headers
            .get("docker-content-digest")
            .and_then(|digest| digest.to_str().ok());
        let quarantined = digest.is_some_and(|digest| {
            let settings = self.settings();
            settings
                .quarantined
                .iter()
                .any(|(of, what)| of == repository && what == digest)
        });
        match (quarantined, by_digest) {
            (false, _) => answer,
            (true, false) => manifest_unknown(),
            (true, true) => Answer::error("manifest", 405, "UNKNOWN", "The operation is disallowed."),
        }
    }

    /// Blobs come from a data host where there is one, by a signed URL.
    async fn blob(&self, request: &Request, route: &Route) -> Answer {
        let stored = self.storage.serve(request, route).await;
        let host = self.settings().data_host.clone();
        let Some(host) = host.filter(|_| stored.status != 404) else {
            return stored;
        };
        let target = format!("https://{host}{}?sig=emulated&se=2030-01-01", request.path);
        Answer::status("blob", 307)
            .header("location", &target)
            .header("content-type", "text/html; charset=utf-8")
            .body(format!(
                "<a href=\"{}\">Temporary Redirect</a>.\n\n",
                target.replace('&', "&amp;")
            ))
    }

    /// The data host: anyone who has the signature gets the blob, and `Authorization` is an error.
    pub(super) async fn data(&self, request: &Request) -> Answer {
        if request.header("authorization").is_some() {
            return Answer::status("data", 400).body("Authentication information is not given in the correct format.");
        }
        if request.parameter("sig").as_deref() != Some("emulated") {
            return Answer::status("data", 403);
        }
        match Route::parse(&request.path) {
            Some(route) if matches!(route.part, Part::Blob(_)) => {
                self.storage.serve(request, &route).await.kind("data")
            }
            _ => Answer::status("data", 404),
        }
    }

    /// `/v2/{repository}/tags/list`
    async fn names(&self, request: &Request, repository: &str) -> Answer {
        let Some(tags) = self.listed(repository).await else {
            return name_unknown("tags");
        };
        let page = self.page(request, tags.into_iter().map(|tag| tag.name).collect(), Clone::clone);
        let answer = Answer::json("tags", 200, &json!({"name": repository, "tags": page.entries}));
        page.linked(answer)
    }
}

/// 405, as for every lock.
pub(super) fn disallowed(kind: &'static str) -> Answer {
    let message = "The operation is disallowed on this registry, repository or image. View troubleshooting steps at \
                   https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation";
    let body = json!({"errors": [{"code": "REGISTRY_DISALLOWED_OPERATION", "detail": {}, "message": message}]});
    Answer::json(kind, 405, &body)
}
