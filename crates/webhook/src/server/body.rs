//! Reading a request's body within its limits.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use catamaran_listener::PeerAddress;
use http::Request;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::room::Taken;
use super::shared::Shared;

/// Bodies up to this size don't wait for room, and are reviewed at once: all connections' together are 12 MiB.
pub(super) const SMALL: usize = 32 << 10;

/// What is kept of a body that there is no room for: its uid stands at its beginning.
const BEGINNING: usize = 16 << 10;

/// A body in memory, and the room that it takes.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    room: Option<Taken>,
}

impl Held {
    /// It needed room, so it may need time as well.
    pub(super) fn is_large(&self) -> bool {
        self.room.is_some()
    }
}

/// What became of a body.
pub(super) enum Read {
    /// All of it.
    Whole(Held),
    /// There was no room in time: its beginning, the rest was dropped.
    NoRoom(Bytes),
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TimedOut,
    Broken,
}

/// Reads the body.
pub(super) async fn read(request: Request<Incoming>, shared: &Shared) -> Result<Read, BodyError> {
    let limit = shared.limits.body;
    let declared = request.headers().contains_key(CONTENT_LENGTH);
    let waits = request.headers().contains_key(http::header::EXPECT);
    let peer = request.extensions().get::<PeerAddress>().copied();
    let mut body = request.into_body();
    let size = if declared {
        usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX)
    } else {
        limit
    };
    let read = async {
        if size > limit {
            // A peer that asks before it sends is told at once; another one would not listen before it has sent it all.
            if !waits {
                discard(&mut body, limit).await;
            }
            return Err(BodyError::TooLarge);
        }
        let Ok(room) = room(peer, size, shared).await else {
            return Ok(Read::NoRoom(beginning(&mut body, limit).await?));
        };
        let bytes = gather(&mut body, if declared { size } else { 0 }, limit).await?;
        Ok(Read::Whole(Held { bytes, room }))
    };
    tokio::time::timeout(shared.limits.body_read, read)
        .await
        .unwrap_or(Err(BodyError::TimedOut))
}

/// There is no room, and there was none for a while.
struct NoRoom;

async fn room(peer: Option<PeerAddress>, size: usize, shared: &Shared) -> Result<Option<Taken>, NoRoom> {
    if size <= SMALL {
        return Ok(None);
    }
    let address = peer.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |PeerAddress(address)| {
        address
    });
    let taken = tokio::time::timeout(shared.limits.patience, shared.room.take(address, size)).await;
    taken.ok().flatten().map(Some).ok_or(NoRoom)
}

/// The beginning of a body; the rest is taken off the wire, so that the peer gets to read the answer.
async fn beginning(body: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while let Some(piece) = next(body).await? {
        seen += piece.len();
        if seen > limit {
            return Err(BodyError::TooLarge);
        }
        let rest = BEGINNING.saturating_sub(kept.len()).min(piece.len());
        kept.extend_from_slice(&piece[..rest]);
    }
    Ok(kept.freeze())
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
