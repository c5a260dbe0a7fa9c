//! Writing the answer: always `allowed: true`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::push_string;

/// The version that this webhook speaks.
pub(crate) const V1: &str = "admission.k8s.io/v1";
/// Its predecessor: still answered, so that an API server that asks in it gets an answer that it can read.
pub(crate) const V1BETA1: &str = "admission.k8s.io/v1beta1";

/// An answer in the making. The API server accepts it only with the version and the uid of the request.
#[derive(Debug, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) patch: Option<String>,
    pub(crate) warning: Option<String>,
}

impl Answer<'_> {
    /// The `AdmissionReview` to send back.
    pub(crate) fn write(&self) -> Vec<u8> {
        let patch = self.patch.as_deref().unwrap_or_default();
        let warning = self.warning.as_deref().unwrap_or_default();
        let mut out = String::with_capacity(256 + self.uid.len() + patch.len().div_ceil(3) * 4 + warning.len());
        out.push_str("{\"apiVersion\":\"");
        out.push_str(if self.api_version == V1BETA1 { V1BETA1 } else { V1 });
        out.push_str("\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":");
        push_string(&mut out, self.uid);
        out.push_str(",\"allowed\":true");
        if !patch.is_empty() {
            out.push_str(",\"patchType\":\"JSONPatch\",\"patch\":\"");
            STANDARD.encode_string(patch, &mut out);
            out.push('"');
        }
        if !warning.is_empty() {
            out.push_str(",\"warnings\":[");
            push_string(&mut out, warning);
            out.push(']');
        }
        out.push_str("}}");
        out.into_bytes()
    }
}
