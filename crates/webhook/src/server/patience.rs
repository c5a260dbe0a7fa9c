//! A stream whose reader does not wait for ever: for the next request as long as a client may keep a connection, for the
//! rest of one that has begun much shorter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Whether a request has begun to arrive and is not answered yet.
pub(super) type Activity = Arc<AtomicBool>;

pub(super) struct Patience<S> {
    stream: S,
    active: Activity,
    within_request: Duration,
    between_requests: Duration,
    /// The end of the present wait, and whether there is one.
    deadline: Pin<Box<Sleep>>,
    waiting: Option<bool>,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, within_request: Duration, between_requests: Duration) -> (Patience<S>, Activity) {
        let active = Activity::default();
        let deadline = Box::pin(tokio::time::sleep(within_request));
        let shared = Arc::clone(&active);
        (Patience { stream, active, within_request, between_requests, deadline, waiting: None }, shared)
    }

    fn out_of_patience(&mut self, context: &mut Context<'_>) -> bool {
        let active = self.active.load(Ordering::Relaxed);
        if self.waiting != Some(active) {
            self.waiting = Some(active);
            let limit = if active { self.within_request } else { self.between_requests };
            self.deadline.as_mut().reset(Instant::now() + limit);
        }
        self.deadline.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before && !self.active.swap(true, Ordering::Relaxed) {
                    // The limit counts from the first byte of a request, not from the latest.
                    self.waiting = None;
                }
                Poll::Ready(result)
            }
            Poll::Pending if self.out_of_patience(context) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not go on in time")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
