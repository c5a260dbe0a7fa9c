//! Lists a collection page by page and object by object: in memory is one object at a time, however large a page is.

use std::marker::PhantomData;
use std::pin::Pin;

use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

/// The largest object that is read; the API server takes none beyond 3 MB.
const LARGEST_OBJECT: usize = 8 << 20;

/// The largest list metadata that is read.
const LARGEST_METADATA: usize = 64 << 10;

/// Why a list could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The API server refused, or could not be reached.
    #[error("failed to list {what}: {source}")]
    Request {
        /// What was listed.
        what: String,
        /// The cause.
        #[source]
        source: kube::Error,
    },
    /// The body broke off.
    #[error("failed to read the list of {what}: {source}")]
    Body {
        /// What was listed.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What was sent is no list.
    #[error("failed to read the list of {what}: {problem}")]
    Malformed {
        /// What was listed.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl ListError {
    /// The HTTP status that the API server answered with; 0 if there is none.
    pub fn code(&self) -> u16 {
        match self {
            ListError::Request {
                source: kube::Error::Api(status),
                ..
            } => status.code,
            _ => 0,
        }
    }
}

/// A list that is being read. An object that can't be decoded is left out.
pub(crate) struct Listing<K> {
    client: kube::Client,
    /// The collection, as `/api/v1/pods`.
    path: String,
    params: ListParams,
    page: Option<(Pin<Box<dyn AsyncBufRead + Send>>, Splitter)>,
    is_read: bool,
    version: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Listing<K> {
    /// Lists the objects of the collection at `path` that `params` selects, so many a page.
    pub(crate) fn new(client: &kube::Client, path: &str, params: ListParams) -> Listing<K> {
        Listing {
            client: client.clone(),
            path: path.to_owned(),
            params,
            page: None,
            is_read: false,
            version: String::new(),
            kind: PhantomData,
        }
    }

    /// The next objects; none when all were read.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<K>>, ListError> {
        while !self.is_read {
            let (mut body, mut splitter) = match self.page.take() {
                Some(page) => page,
                None => (self.request().await?, Splitter::default()),
            };
            let mut objects = Vec::new();
            let chunk = body.fill_buf().await;
            let chunk = chunk.map_err(|source| ListError::Body {
                what: self.what(),
                source,
            })?;
            let length = chunk.len();
            let fed = splitter.feed(chunk, &mut |item| objects.extend(self.decode(item)));
            fed.map_err(|problem| self.malformed(problem))?;
            body.as_mut().consume(length);
            if length == 0 {
                let metadata = splitter.finish().map_err(|problem| self.malformed(problem))?;
                self.end_page(metadata);
            } else {
                self.page = Some((body, splitter));
            }
            if !objects.is_empty() {
                return Ok(Some(objects));
            }
        }
        Ok(None)
    }

    /// The version of the collection, once all was read: what a watch begins from.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    async fn request(&mut self) -> Result<Pin<Box<dyn AsyncBufRead + Send>>, ListError> {
        let what = self.what();
        let request = kube::core::Request::new(&self.path).list(&self.params);
        let body = match request {
            Ok(request) => self.client.request_stream(request).await,
            Err(error) => Err(kube::Error::BuildRequest(error)),
        };
        match body {
            Ok(body) => Ok(Box::pin(body)),
            Err(source) => Err(ListError::Request { what, source }),
        }
    }

    fn end_page(&mut self, metadata: ListMeta) {
        self.params.continue_token = metadata.continue_.filter(|token| !token.is_empty());
        if self.params.continue_token.is_none() {
            self.is_read = true;
            self.version = metadata.resource_version.unwrap_or_default();
        }
    }

    fn decode(&self, item: &[u8]) -> Option<K> {
        let object = serde_json::from_slice(item);
        object
            .inspect_err(|error| tracing::warn!(what = self.what(), %error, "failed to read an object of a list"))
            .ok()
    }

    fn malformed(&self, problem: &'static str) -> ListError {
        let what = self.what();
        ListError::Malformed { what, problem }
    }

    /// The collection's name.
    fn what(&self) -> String {
        self.path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// Cuts the JSON of a Kubernetes list into its items while it arrives.
#[derive(Debug, Default)]
struct Splitter {
    /// Open braces and brackets.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    /// The last string at depth 1, without its quotes: the key that a value follows.
    key: Vec<u8>,
    /// The bytes of the value that is being gathered.
    gathered: Vec<u8>,
    gathering: Gathering,
    metadata: ListMeta,
    /// The outermost object was closed.
    is_whole: bool,
}

/// What the present bytes belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gathering {
    /// Nothing that is kept.
    #[default]
    Nothing,
    /// A string at depth 1.
    Key,
    /// The list's own metadata.
    Metadata,
    /// An item that is kept.
    Item,
}

impl Splitter {
    /// Takes the next bytes of the list.
    fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), &'static str> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let used = if self.in_string {
                self.string(rest)?
            } else {
                self.step(byte, take)?;
                1
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes bytes within a string, which is most of what there is; how many.
    fn string(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        if std::mem::take(&mut self.is_escaped) {
            self.keep(bytes.get(..1).unwrap_or_default())?;
            return Ok(1);
        }
        let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        if plain == Some(0) {
            self.is_escaped = bytes.first() == Some(&b'\\');
            self.in_string = self.is_escaped;
            if !self.in_string && self.gathering == Gathering::Key {
                self.gathering = Gathering::Nothing;
                return Ok(1);
            }
        }
        let used = plain.unwrap_or(bytes.len()).max(1);
        self.keep(bytes.get(..used).unwrap_or_default())?;
        Ok(used)
    }

    /// Takes one byte outside of strings.
    fn step(&mut self, byte: u8, take: &mut impl FnMut(&[u8])) -> Result<(), &'static str> {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 {
                    self.key.clear();
                    self.gathering = Gathering::Key;
                    return Ok(());
                }
                self.keep(&[byte])
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.begin(byte);
                self.keep(&[byte])
            }
            b'}' | b']' => {
                self.keep(&[byte])?;
                self.depth = self.depth.checked_sub(1).ok_or("a bracket too many is closed")?;
                self.end(take)
            }
            _ => self.keep(&[byte]),
        }
    }

    /// A value begins that may be one to gather.
    fn begin(&mut self, byte: u8) {
        let gathering = match (self.depth, byte, self.key.as_slice()) {
            (2, b'{', b"metadata") => Gathering::Metadata,
            (3, b'{', b"items") => Gathering::Item,
            _ => return,
        };
        self.gathering = gathering;
        self.gathered.clear();
    }

    /// A value ended.
    fn end(&mut self, take: &mut impl FnMut(&[u8])) -> Result<(), &'static str> {
        match (self.gathering, self.depth) {
            (Gathering::Metadata, 1) => {
                self.metadata = serde_json::from_slice(&self.gathered).map_err(|_| "its metadata is none")?;
                self.gathering = Gathering::Nothing;
            }
            (Gathering::Item, 2) => {
                take(&self.gathered);
                self.gathering = Gathering::Nothing;
                // One large object must not hold its room for the rest of the list.
                self.gathered.clear();
                self.gathered.shrink_to(LARGEST_METADATA);
            }
            (_, 0) => self.is_whole = true,
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let (into, limit) = match self.gathering {
            Gathering::Nothing => return Ok(()),
            Gathering::Key => (&mut self.key, LARGEST_METADATA),
            Gathering::Metadata => (&mut self.gathered, LARGEST_METADATA),
            Gathering::Item => (&mut self.gathered, LARGEST_OBJECT),
        };
        if into.len() + bytes.len() > limit {
            return Err("an object is too large");
        }
        into.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<ListMeta, &'static str> {
        if self.is_whole {
            Ok(self.metadata)
        } else {
            Err("it broke off")
        }
    }
}

#[cfg(test)]
mod tests;
