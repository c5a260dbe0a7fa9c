//! What a request may cost.

use std::time::Duration;

/// What one request may cost. The defaults are those of the threat model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until TCP and TLS are established. Default 5 s.
    pub connect: Duration,
    /// Between two reads of a body. Default 10 s.
    pub read: Duration,
    /// One request with its body. Default 30 s.
    pub total: Duration,
    /// One complete listing, with its waits for the budget. Default 10 min.
    pub listing: Duration,
    /// Bytes of a manifest. Default 4 MiB, as in the distribution project.
    pub manifest_bytes: u64,
    /// Bytes of a token answer. Default 1 MiB.
    pub token_bytes: u64,
    /// Bytes of an error answer that are read. Default 64 KiB.
    pub error_bytes: u64,
    /// Bytes of a page of tags. Default 4 MiB.
    pub page_bytes: u64,
    /// Bytes of all headers of an answer. Default 64 KiB.
    pub header_bytes: usize,
    /// Pages of one listing. Default 10,000.
    pub pages: usize,
    /// Tags of one repository. Default 200,000: more would not fit the memory that the operator is given.
    pub tags: usize,
    /// Bytes of the names of all tags of one repository. Default 13 MiB: a hundred thousand of the longest names.
    pub name_bytes: usize,
    /// Redirects of one manifest or blob. Default 10, as in Go's client, which is containerd's.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            total: Duration::from_secs(30),
            listing: Duration::from_mins(10),
            manifest_bytes: 4 << 20,
            token_bytes: 1 << 20,
            error_bytes: 64 << 10,
            page_bytes: 4 << 20,
            header_bytes: 64 << 10,
            pages: 10_000,
            tags: 200_000,
            name_bytes: 13 << 20,
            redirects: 10,
        }
    }
}
