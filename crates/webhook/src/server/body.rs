//! Reading a request's body within its limits.

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::SemaphorePermit;

use super::shared::Shared;

/// Bodies up to this size don't wait for room: 256 of them are 16 MiB.
const SMALL: usize = 64 << 10;

/// A body in memory, and the room that it takes.
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TimedOut,
    Broken,
}

/// Reads the whole body.
pub(super) async fn read(request: Request<Incoming>, shared: &Shared) -> Result<Held<'_>, BodyError> {
    tokio::time::timeout(shared.limits.body_read, collect(request, shared))
        .await
        .unwrap_or(Err(BodyError::TimedOut))
}

async fn collect(request: Request<Incoming>, shared: &Shared) -> Result<Held<'_>, BodyError> {
    let limit = shared.limits.body;
    let declared = request.headers().contains_key(CONTENT_LENGTH);
    let waits = request.headers().contains_key(http::header::EXPECT);
    let mut body = request.into_body();
    let size = if declared {
        usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)
    } else {
        limit
    };
    if size > limit {
        // A peer that asks before it sends is told at once; another one would not listen before it has sent it all.
        if !waits {
            discard(&mut body, limit).await;
        }
        return Err(BodyError::TooLarge);
    }
    let room = if size <= SMALL {
        None
    } else {
        let kibibytes = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
        Some(
            shared
                .room
                .acquire_many(kibibytes)
                .await
                .map_err(|_| BodyError::Broken)?,
        )
    };
    let bytes = gather(&mut body, if declared { size } else { 0 }, limit).await?;
    Ok(Held { bytes, _room: room })
}

/// Most bodies come in one piece and stay where they are; others are copied together.
async fn gather(body: &mut Incoming, expected: usize, limit: usize) -> Result<Bytes, BodyError> {
    let first = next(body).await?.unwrap_or_default();
    if first.len() == expected || body.is_end_stream() {
        return if first.len() > limit {
            Err(BodyError::TooLarge)
        } else {
            Ok(first)
        };
    }
    let mut all = Vec::with_capacity(expected.max(first.len()));
    all.extend_from_slice(&first);
    drop(first);
    while let Some(piece) = next(body).await? {
        if all.len() + piece.len() > limit {
            discard(body, limit).await;
            return Err(BodyError::TooLarge);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

/// The next piece of data; trailers are skipped.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Takes up to `most` further bytes off the wire and drops them, so that a peer that sends a little too much gets to read
/// the answer before its connection is reset.
async fn discard(body: &mut Incoming, most: usize) {
    let mut seen = 0;
    while seen <= most {
        match next(body).await {
            Ok(Some(piece)) => seen += piece.len(),
            Ok(None) | Err(_) => return,
        }
    }
}
