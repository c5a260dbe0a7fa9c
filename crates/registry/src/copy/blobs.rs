//! One blob, from one registry to the other.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use catamaran_core::digest::Verifier;
use tokio::sync::mpsc;

use super::parts::Blob;
use super::placed::Pieces;
use super::push::{Mounted, Upload};
use super::{Copier, CopyError, Count, Image};
use crate::protocol::Uploads;
use crate::session::Session;
use crate::wire::ask::Stream;
use crate::wire::failure::Failure;
use crate::wire::reply::Reply;

/// Bytes of a piece that is sent as it comes: three of them are in memory.
const LARGEST_STREAMED: usize = 1 << 20;
/// Larger pieces are not held in memory: registries that want them get blobs by one request.
const LARGEST_PIECE: usize = 10 << 20;
/// S3 and stores like it take parts of at least 5 MiB, but for the last, and say so at the end.
const LEAST_OF_STORES: usize = 5 << 20;
/// Repositories that are asked for one blob: a look costs a request, an upload that is spared a few and its bytes.
const MOST_SIBLINGS: usize = 4;

impl Copier {
    /// Sees to it that the target's repository has a blob: it has it already, or another repository has it, or it is sent.
    pub(super) async fn place_blob(&self, image: &Image, blob: &Blob) -> Result<(), CopyError> {
        if blob.size > self.settings.limits.blob_bytes {
            return Err(CopyError::Unsupported(format!(
                "the blob {} has {} bytes, more than {}",
                blob.digest, blob.size, self.settings.limits.blob_bytes
            )));
        }
        let flight = self.placed.flight(&blob.digest);
        let _alone = flight.lock().await;
        let count = self.place_alone(image, blob).await?;
        self.placed.note(&blob.digest, &image.to);
        self.settings.tally.add(count, 1);
        if count == Count::BlobsSent {
            self.settings.tally.add(Count::Bytes, blob.size);
        }
        Ok(())
    }

    /// What was done.
    async fn place_alone(&self, image: &Image, blob: &Blob) -> Result<Count, CopyError> {
        if self.placed.is_in(&blob.digest, &image.to) {
            return Ok(Count::BlobsSkipped);
        }
        if self.has_blob(&image.to, blob).await? {
            return Ok(Count::BlobsSkipped);
        }
        let begun = match self.mount(image, blob).await? {
            Some(Mounted::Done) => return Ok(Count::BlobsMounted),
            Some(Mounted::Begun(upload)) => Some(upload),
            None => None,
        };
        if blob.size > self.piece_bytes() as u64 {
            let upload = self.begun(image, begun).await?;
            self.send_large(image, blob, upload).await?;
        } else {
            self.send_at_once(image, blob, begun).await?;
        }
        Ok(Count::BlobsSent)
    }

    /// Asks for the blob of another repository that is known to have it. A registry that can't answers with an upload that
    /// has begun, which is then used; one that refuses the other repository is as one that can't.
    async fn mount(&self, image: &Image, blob: &Blob) -> Result<Option<Mounted>, CopyError> {
        let known = self.placed.elsewhere(&blob.digest, &image.to);
        let from = match known {
            Some(from) => Some(from),
            None => self.sibling(image, blob).await,
        };
        let Some(from) = from else {
            return Ok(None);
        };
        let target = &self.target.session(&image.to);
        match target.mount(&image.to, &blob.digest, &from).await {
            Ok(mounted) => Ok(Some(mounted)),
            Err(failure) if matches!(failure.status, Some(400..=404)) => Ok(None),
            Err(failure) => Err(CopyError::target(failure)),
        }
    }

    /// Another repository that turns out to have a large blob. A look that fails is as one that finds nothing.
    async fn sibling(&self, image: &Image, blob: &Blob) -> Option<Arc<str>> {
        if blob.size <= self.piece_bytes() as u64 {
            return None;
        }
        let target = &self.target.session(&image.to);
        let others = self.settings.siblings.iter().filter(|other| **other != image.to);
        for other in others.take(MOST_SIBLINGS) {
            if let Ok(true) = target.has_blob(other, &blob.digest).await {
                self.placed.note(&blob.digest, other);
                return Some(other.as_str().into());
            }
        }
        None
    }

    async fn begun(&self, image: &Image, begun: Option<Upload>) -> Result<Upload, CopyError> {
        match begun {
            Some(upload) => Ok(upload),
            None => self
                .target
                .session(&image.to)
                .begin_upload(&image.to)
                .await
                .map_err(CopyError::target),
        }
    }

    /// A blob that fits into one piece: nothing is sent before it is known to be right.
    async fn send_at_once(&self, image: &Image, blob: &Blob, begun: Option<Upload>) -> Result<(), CopyError> {
        let target = &self.target.session(&image.to);
        let mut content = Bytes::new();
        let read = async {
            let mut reading = self.reading(image, blob, self.piece_bytes()).await?;
            content = reading.next_piece().await?.unwrap_or_default();
            Ok(())
        };
        if let Err(error) = read.await {
            cancel(target, image, begun.as_ref()).await;
            return Err(error);
        }
        let upload = self.begun(image, begun).await?;
        let ended = target.end_upload(&image.to, &upload, &blob.digest, content).await;
        if ended.is_err() {
            cancel(target, image, Some(&upload)).await;
        }
        ended.map_err(CopyError::target)
    }

    /// Bytes of a piece: as many as the provider wants, and not much more than is set.
    fn piece_bytes(&self) -> usize {
        let provider = self.target.shared().session.provider;
        match provider.uploads() {
            Uploads::InPieces { least } => self.settings.limits.piece_bytes.max(least),
            Uploads::AtOnce => self.settings.limits.piece_bytes,
        }
    }

    /// A blob that takes several pieces, as far as the target takes pieces. One that refuses them is tried with larger ones, then by one
    /// request, and every further blob is sent as it took this one.
    async fn send_large(&self, image: &Image, blob: &Blob, upload: Upload) -> Result<(), CopyError> {
        let target = self.target.session(&image.to);
        let least = usize::try_from(upload.least)
            .unwrap_or(usize::MAX)
            .max(self.piece_bytes());
        let mut upload = upload;
        loop {
            let piece = match self.placed.pieces() {
                Pieces::AsWanted => least,
                Pieces::OfStores => least.max(LEAST_OF_STORES),
                Pieces::Refused => usize::MAX,
            };
            if target.provider.uploads() == Uploads::AtOnce || piece > LARGEST_PIECE {
                return self.send_as_it_comes(image, blob, &upload).await;
            }
            let (refusal, is_at_end) = match self.send_in_pieces(image, blob, upload, piece).await {
                Ok(()) => return Ok(()),
                Err((CopyError::Target(refusal) | CopyError::Denied(refusal), is_at_end)) if is_of_pieces(&refusal) => {
                    (refusal, is_at_end)
                }
                Err((error, _)) => return Err(error),
            };
            tracing::info!(failure = %refusal, piece, "the target may not take pieces of this size");
            let next = if is_at_end && piece < LEAST_OF_STORES {
                Pieces::OfStores
            } else {
                Pieces::Refused
            };
            self.placed.note_pieces(next);
            upload = self.begun(image, None).await?;
        }
    }

    /// With a failure comes whether all pieces had been taken by then.
    async fn send_in_pieces(
        &self,
        image: &Image,
        blob: &Blob,
        mut upload: Upload,
        piece: usize,
    ) -> Result<(), (CopyError, bool)> {
        let target = self.target.session(&image.to);
        let sent = async {
            let sent = self.pieces(image, blob, &mut upload, piece).await;
            sent.map_err(|error| (error, false))?;
            let ended = target.end_upload(&image.to, &upload, &blob.digest, Bytes::new()).await;
            ended.map_err(|failure| (CopyError::target(failure), true))
        };
        let sent = sent.await;
        if sent.is_err() {
            cancel(target, image, Some(&upload)).await;
        }
        sent
    }

    /// A large blob by one request, which is broken off before its last piece when the content turns out to be wrong.
    async fn send_as_it_comes(&self, image: &Image, blob: &Blob, upload: &Upload) -> Result<(), CopyError> {
        let target = &self.target.session(&image.to);
        let sent = self.stream(image, blob, upload).await;
        if sent.is_err() {
            cancel(target, image, Some(upload)).await;
        }
        sent
    }

    async fn stream(&self, image: &Image, blob: &Blob, upload: &Upload) -> Result<(), CopyError> {
        let target = &self.target.session(&image.to);
        let most = self.settings.limits.piece_bytes.min(LARGEST_STREAMED);
        let mut reading = self.reading(image, blob, most).await?;
        let (sender, pieces) = mpsc::channel(1);
        let read = async move {
            loop {
                match reading.next_piece().await {
                    Ok(Some(piece)) => {
                        // Nobody takes it when the target has answered already: then its answer counts.
                        if sender.send(Ok(piece)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        let broken = io::Error::other("the source failed");
                        let _ = sender.send(Err(broken)).await;
                        return Err(error);
                    }
                }
            }
        };
        let content = Stream {
            length: blob.size,
            pieces,
        };
        let time = self.settings.limits.blob;
        let sent = target.stream_upload(&image.to, upload, &blob.digest, content, time);
        let (read, sent) = tokio::join!(read, sent);
        read?;
        sent.map_err(CopyError::target)
    }

    async fn pieces(&self, image: &Image, blob: &Blob, upload: &mut Upload, piece: usize) -> Result<(), CopyError> {
        let target = &self.target.session(&image.to);
        let mut reading = self.reading(image, blob, piece).await?;
        while let Some(piece) = reading.next_piece().await? {
            let sent = target.send_piece(&image.to, upload, piece).await;
            sent.map_err(CopyError::target)?;
        }
        Ok(())
    }

    async fn reading(&self, image: &Image, blob: &Blob, most: usize) -> Result<Reading<'_>, CopyError> {
        let source = &self.source.session(&image.from);
        let time = Some(self.settings.limits.blob);
        let reply = source.open_blob(&image.from, &blob.digest, false, time).await;
        let reply = reply.map_err(CopyError::source)?;
        if let Some(length) = reply.length().filter(|length| *length != blob.size) {
            return Err(CopyError::Corrupt(format!(
                "{}: {length} bytes, where the manifest says {}",
                reply.request, blob.size
            )));
        }
        Ok(Reading {
            copier: self,
            blob: blob.clone(),
            verifier: Some(blob.digest.verifier()),
            reply,
            rest: Bytes::new(),
            read: 0,
            most: most.max(1),
        })
    }
}

/// A blob on its way in. The last piece is handed out only when the whole has the right size and digest.
struct Reading<'a> {
    copier: &'a Copier,
    blob: Blob,
    verifier: Option<Verifier>,
    reply: Reply,
    /// What came from the network beyond the last piece.
    rest: Bytes,
    read: u64,
    /// Bytes of a piece.
    most: usize,
}

impl Reading<'_> {
    /// The next piece, full but for the last one; `None` when the blob is through.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, CopyError> {
        if self.verifier.is_none() {
            return Ok(None);
        }
        let most = self.most;
        let missing = usize::try_from(self.blob.size - self.read).unwrap_or(usize::MAX);
        let mut piece = BytesMut::with_capacity(most.min(missing + self.rest.len()));
        loop {
            let take = self.rest.len().min(most - piece.len());
            piece.extend_from_slice(&self.rest.split_to(take));
            if piece.len() == most && (self.read < self.blob.size || !self.rest.is_empty()) {
                return Ok(Some(piece.freeze()));
            }
            let next = self.reply.piece().await.map_err(CopyError::source)?;
            let Some(next) = next else { break };
            self.read += next.len() as u64;
            if self.read > self.blob.size {
                return Err(self.damaged("more bytes than the manifest says"));
            }
            self.copier.settings.pace.take(next.len()).await;
            if let Some(verifier) = &mut self.verifier {
                verifier.update(&next);
            }
            self.rest = next;
        }
        if self.read < self.blob.size {
            return Err(self.damaged("fewer bytes than the manifest says"));
        }
        if !self.verifier.take().is_some_and(Verifier::matches) {
            return Err(self.damaged("another digest than it is asked for by"));
        }
        Ok(Some(piece.freeze()).filter(|piece| !piece.is_empty()))
    }

    fn damaged(&self, why: &str) -> CopyError {
        CopyError::Corrupt(format!("{}: {why}", self.reply.request))
    }
}

/// Whether a refusal may be about an upload's pieces: that it has any, how large they are, or how they came.
fn is_of_pieces(refusal: &Failure) -> bool {
    let is_other = matches!(refusal.status, Some(401 | 408 | 413 | 429));
    refusal
        .status
        .is_some_and(|status| (400..500).contains(&status) || status == 501)
        && !is_other
}

async fn cancel(target: &Session, image: &Image, upload: Option<&Upload>) {
    if let Some(upload) = upload {
        target.cancel_upload(&image.to, upload).await;
    }
}
