//! What writes the registry (OCI distribution specification, "Pushing"), and what refers to what.

use bytes::Bytes;
use catamaran_core::digest::Digest;
use http::header::{LINK, LOCATION};
use http::{Method, Response};
use url::form_urlencoded;

use super::plain::{error, insert, plain};
use crate::body::Scripted;
use crate::content::IMAGE_INDEX;
use crate::state::{Recorded, State};

/// Everything below `/blobs/uploads/`; without an id an upload is begun, or a blob mounted.
pub(super) fn upload(
    request: &Recorded,
    body: &Bytes,
    state: &State,
    repository: &str,
    id: &str,
) -> Response<Scripted> {
    let pairs: Vec<_> = form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let value = |wanted: &str| {
        let pair = pairs.iter().find(|(name, _)| name == wanted);
        pair.map(|(_, value)| value.as_str())
    };
    if id.is_empty() {
        let mounts = state.behaviour(|behaviour| behaviour.mounts);
        if let (true, Some(digest), Some(from)) = (mounts, value("mount"), value("from"))
            && state.content(|content| content.mount(repository, digest, from))
        {
            return located(201, &format!("/v2/{repository}/blobs/{digest}"));
        }
        let id = state.content(|content| content.begin_upload(repository));
        return located(202, &format!("/v2/{repository}/blobs/uploads/{id}?state=0"));
    }
    let known = id.parse().ok().filter(|id| {
        let repository_of =
            |content: &mut crate::content::Content| content.upload(*id).map(|upload| upload.repository.clone());
        state.content(repository_of).as_deref() == Some(repository)
    });
    let Some(id) = known else {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    };
    match request.method {
        Method::PATCH => append(body, state, repository, id, value("state")),
        Method::PUT => finish(body, state, repository, id, value("digest")),
        Method::DELETE => {
            state.content(|content| content.end_upload(id));
            plain(204, "text/plain", Bytes::new())
        }
        _ => error(405, "UNSUPPORTED", "the operation is unsupported"),
    }
}

/// The next piece; the location's state says how many bytes there are, as with registries that keep it in the URL.
fn append(body: &Bytes, state: &State, repository: &str, id: u64, told: Option<&str>) -> Response<Scripted> {
    let length = state.content(|content| {
        let upload = content.upload(id)?;
        if told != Some(upload.body.len().to_string().as_str()) {
            return None;
        }
        upload.body.extend_from_slice(body);
        Some(upload.body.len())
    });
    match length {
        Some(length) => located(202, &format!("/v2/{repository}/blobs/uploads/{id}?state={length}")),
        None => error(416, "BLOB_UPLOAD_INVALID", "blob upload invalid"),
    }
}

fn finish(body: &Bytes, state: &State, repository: &str, id: u64, digest: Option<&str>) -> Response<Scripted> {
    state.content(|content| {
        let Some(mut upload) = content.end_upload(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        upload.body.extend_from_slice(body);
        let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
        let Some(digest) = digest.filter(|digest| digest.matches(&upload.body)) else {
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        };
        content.place_blob(repository, &digest, upload.body.into());
        let mut response = located(201, &format!("/v2/{repository}/blobs/{digest}"));
        insert(&mut response, "docker-content-digest", &digest.to_string());
        response
    })
}

/// A manifest whose parts are all there, under a tag or its own digest.
pub(super) fn put_manifest(
    request: &Recorded,
    body: &Bytes,
    state: &State,
    repository: &str,
    reference: &str,
) -> Response<Scripted> {
    let complete = state.content(|content| content.is_complete(repository, body));
    if !complete {
        return error(
            400,
            "MANIFEST_BLOB_UNKNOWN",
            "manifest references a manifest or blob unknown to registry",
        );
    }
    let wanted = reference.parse::<Digest>().ok();
    if wanted.as_ref().is_some_and(|digest| !digest.matches(body)) {
        return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    let tag = wanted.is_none().then_some(reference);
    let media_type = request.content_type.as_deref().unwrap_or_default();
    let digest = state.content(|content| content.put_manifest(repository, tag, media_type, body.clone()));
    let (locations, referrers) = state.behaviour(|behaviour| (behaviour.locations, behaviour.referrers));
    let mut response = if locations {
        located(201, &format!("/v2/{repository}/manifests/{digest}"))
    } else {
        plain(201, "text/plain", Bytes::new())
    };
    insert(&mut response, "docker-content-digest", &digest.to_string());
    let manifest: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(subject) = manifest["subject"]["digest"].as_str().filter(|_| referrers) {
        insert(&mut response, "oci-subject", subject);
    }
    response
}

/// The referrers API, where there is one, in pages of the size that lists of tags have.
pub(super) fn referrers(request: &Recorded, state: &State, repository: &str, subject: &str) -> Response<Scripted> {
    if !state.behaviour(|behaviour| behaviour.referrers) {
        return error(404, "NOT_FOUND", "page not found");
    }
    let page_size = state.behaviour(|behaviour| behaviour.page_size);
    let first = form_urlencoded::parse(request.query.as_bytes())
        .find(|(name, _)| name == "from")
        .and_then(|(_, from)| from.parse::<usize>().ok())
        .unwrap_or(0);
    let all = state.content(|content| content.referrers(repository, subject));
    let more = all.len() > first + page_size;
    let manifests: Vec<_> = all.into_iter().skip(first).take(page_size).collect();
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": manifests });
    let mut response = plain(200, IMAGE_INDEX, index.to_string().into());
    if more {
        let next = format!("<{}?from={}>; rel=\"next\"", request.path, first + page_size);
        insert(&mut response, LINK, &next);
    }
    response
}

fn located(status: u16, location: &str) -> Response<Scripted> {
    let mut response = plain(status, "text/plain", Bytes::new());
    insert(&mut response, LOCATION, location);
    response
}
