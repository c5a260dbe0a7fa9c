//! The body of a request, in one piece and within bounds.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::{BODY_BYTES, REQUEST_TIMEOUT};
use crate::metrics::Refusal;

/// Reads a whole body. One that says it is too large is refused before a byte of it is read.
pub(super) async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_BYTES {
        return Err(Refusal::BodyTooLarge);
    }
    let read = tokio::time::timeout(REQUEST_TIMEOUT, collect(body, announced)).await;
    read.map_err(|_| Refusal::BodyTimeout)?
}

async fn collect(mut body: Incoming, announced: usize) -> Result<Bytes, Refusal> {
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    // Most reviews are one frame: nothing is copied.
    let Some(second) = next(&mut body).await? else { return bounded(first) };
    let mut whole = BytesMut::with_capacity(announced.max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(data) = next(&mut body).await? {
        if whole.len() + data.len() > BODY_BYTES {
            return Err(Refusal::BodyTooLarge);
        }
        whole.extend_from_slice(&data);
    }
    bounded(whole.freeze())
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    while let Some(frame) = body.frame().await {
        // Trailers say nothing that is needed.
        if let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn bounded(body: Bytes) -> Result<Bytes, Refusal> {
    if body.len() > BODY_BYTES { Err(Refusal::BodyTooLarge) } else { Ok(body) }
}
