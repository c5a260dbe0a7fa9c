//! Finds connections on which nothing moves, without a timer for each request.
//!
//! The stream and the service note which phase a connection is in, one atomic store each; a slow tick sees whether that is
//! still the same as so many ticks ago.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limits::Limits;

/// The time between two looks at a connection.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request.
    Idle,
    /// Reading a request's line and headers.
    Head,
    /// Reading a body and answering it: the request has a time limit of its own.
    Request,
    /// Sending the answer.
    Write,
}

/// The phase of one connection, and how often it changed.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU32);

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        // Only the connection's own task writes.
        let changes = (self.0.load(Ordering::Relaxed) >> 2).wrapping_add(1);
        self.0.store(changes << 2 | phase as u32, Ordering::Relaxed);
    }

    fn read(&self) -> (Phase, u32) {
        let value = self.0.load(Ordering::Relaxed);
        let phase = [Phase::Idle, Phase::Head, Phase::Request, Phase::Write][(value & 3) as usize];
        (phase, value >> 2)
    }

    fn phase(&self) -> Phase {
        self.read().0
    }
}

/// Looks at one connection's progress.
#[derive(Debug)]
pub(super) struct Watch {
    last: (Phase, u32),
    ticks: u32,
}

impl Watch {
    pub(super) fn new(progress: &Progress) -> Self {
        Watch {
            last: progress.read(),
            ticks: 0,
        }
    }

    /// To be called every [`TICK`]: whether the connection has been in its phase for longer than allowed.
    pub(super) fn overdue(&mut self, progress: &Progress, limits: &Limits) -> bool {
        let now = progress.read();
        if now != self.last {
            *self = Watch { last: now, ticks: 0 };
            return false;
        }
        self.ticks += 1;
        let limit = match now.0 {
            Phase::Idle => limits.idle,
            Phase::Head => limits.head_read,
            Phase::Request => return false,
            Phase::Write => limits.write,
        };
        TICK * self.ticks >= limit
    }
}

/// A stream that notes when a request begins and when its answer is gone.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && this.progress.phase() == Phase::Idle {
            this.progress.enter(Phase::Head);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) && this.progress.phase() == Phase::Write {
            this.progress.enter(Phase::Idle);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_lasts_is_overdue_and_one_that_recurs_is_not() {
        let limits = Limits {
            head_read: Duration::from_secs(2),
            idle: Duration::from_secs(3),
            ..Limits::default()
        };
        let progress = Progress::default();
        let mut watch = Watch::new(&progress);
        for (tick, overdue) in [(1, false), (2, false), (3, true)] {
            assert_eq!(watch.overdue(&progress, &limits), overdue, "idle, tick {tick}");
        }
        progress.enter(Phase::Head);
        for (tick, overdue) in [(0, false), (1, false), (2, true)] {
            assert_eq!(
                watch.overdue(&progress, &limits),
                overdue,
                "reading headers, tick {tick}"
            );
        }
        for _ in 0..10 {
            progress.enter(Phase::Request);
            progress.enter(Phase::Head);
            assert!(!watch.overdue(&progress, &limits), "another request each time");
        }
        progress.enter(Phase::Request);
        assert!(
            (0..100).all(|_| !watch.overdue(&progress, &limits)),
            "a request keeps its own time"
        );
    }
}
