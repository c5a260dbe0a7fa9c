//! Reads and writes Secrets without ever logging or returning a part of one in an error. kube's own calls log an answer that
//! can't be parsed as a warning, and their error repeats values of it.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde::de::Error as _;

/// The Secret of a name; `None` when there is none.
pub async fn get_opt(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, kube::Error> {
    let request = Request::new(api.resource_url())
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    match answer(api, request).await {
        Ok(secret) => Ok(Some(secret)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a Secret; returns it as stored.
pub async fn create(api: &Api<Secret>, params: &PostParams, secret: &Secret) -> Result<Secret, kube::Error> {
    let body = serde_json::to_vec(secret).map_err(kube::Error::SerdeError)?;
    let request = Request::new(api.resource_url()).create(params, body);
    answer(api, request.map_err(kube::Error::BuildRequest)?).await
}

/// Replaces a Secret; returns it as stored. A `resourceVersion` that is not current is a conflict (409).
pub async fn replace(
    api: &Api<Secret>,
    name: &str,
    params: &PostParams,
    secret: &Secret,
) -> Result<Secret, kube::Error> {
    let body = serde_json::to_vec(secret).map_err(kube::Error::SerdeError)?;
    let request = Request::new(api.resource_url()).replace(name, params, body);
    answer(api, request.map_err(kube::Error::BuildRequest)?).await
}

async fn answer(api: &Api<Secret>, request: http::Request<Vec<u8>>) -> Result<Secret, kube::Error> {
    let unreadable = || kube::Error::SerdeError(serde_json::Error::custom("the API server's answer is no Secret"));
    let text = match api.clone().into_client().request_text(request).await {
        // It holds the bytes.
        Err(kube::Error::FromUtf8(_)) => return Err(unreadable()),
        text => text?,
    };
    serde_json::from_str(&text).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests;
