//! Bodies that end badly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As announced.
    Well,
    /// With the connection.
    Broken,
    /// Never.
    Silent,
    /// Never: what was sent is sent again.
    Again,
}

/// A body in pieces, each after a pause, with an end of its own.
pub(crate) struct Scripted {
    rest: Bytes,
    again: Bytes,
    piece: usize,
    pause: Option<Duration>,
    sleeping: Option<Pin<Box<Sleep>>>,
    end: End,
    announced: Option<u64>,
}

impl Scripted {
    pub(crate) fn whole(body: Bytes) -> Scripted {
        Scripted {
            announced: Some(body.len() as u64),
            ..Scripted::ending(body, End::Well)
        }
    }

    /// Sends what there is, and then ends so.
    pub(crate) fn ending(body: Bytes, end: End) -> Scripted {
        Scripted {
            piece: body.len().max(1),
            again: body.clone(),
            rest: body,
            pause: None,
            sleeping: None,
            end,
            announced: None,
        }
    }

    /// One byte in so long.
    pub(crate) fn dripping(body: Bytes, pause: Duration) -> Scripted {
        Scripted {
            piece: 1,
            pause: Some(pause),
            ..Scripted::whole(body)
        }
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(sleeping) = self.sleeping.as_mut() {
            if sleeping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleeping = None;
        }
        if self.rest.is_empty() && self.end == End::Again {
            self.rest = self.again.clone();
        }
        if self.rest.is_empty() {
            return match self.end {
                End::Well => Poll::Ready(None),
                End::Broken => Poll::Ready(Some(Err(io::Error::other("the script ends here")))),
                End::Silent | End::Again => Poll::Pending,
            };
        }
        let piece = self.piece.min(self.rest.len());
        let data = self.rest.split_to(piece);
        self.sleeping = self.pause.map(|pause| Box::pin(sleep(pause)));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.end == End::Well
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::new, |_| SizeHint::with_exact(self.rest.len() as u64))
    }
}
