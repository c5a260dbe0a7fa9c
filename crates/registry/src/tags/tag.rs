//! A tag as a registry lists it.

use catamaran_core::digest::Digest;

/// A tag as a registry lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub name: String,
    /// Its digest, where the registry lists digests.
    pub digest: Option<Digest>,
    /// What the registry forbids about it, where it says so.
    pub locked: Option<Lock>,
}

/// What a registry forbids about a tag (`changeableAttributes`; Azure's image locks and quarantine).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four attributes that the service sets one by one"
)]
pub struct Lock {
    /// It is left out of lists (`listEnabled: false`), and can be pulled all the same.
    pub hidden: bool,
    /// Nobody can pull it (`readEnabled: false`), though it is there.
    pub unreadable: bool,
    /// Nobody can overwrite or delete it (`writeEnabled: false`).
    pub unwritable: bool,
    /// Its manifest waits for a scanner (`quarantineState`): the registry says that it is not there.
    pub quarantined: bool,
}

impl Lock {
    /// Whether the content is there and can't be pulled.
    pub fn withholds(&self) -> bool {
        self.unreadable || self.quarantined
    }

    /// What is locked, for people: `locked against reading (readEnabled is false)`.
    pub fn describe(&self) -> &'static str {
        match self {
            Lock { quarantined: true, .. } => "in quarantine: it can be pulled once it is released",
            Lock { unreadable: true, .. } => "locked against reading (readEnabled is false)",
            Lock { hidden: true, .. } => "hidden from lists (listEnabled is false)",
            Lock { unwritable: true, .. } => "locked against writing (writeEnabled is false)",
            Lock { .. } => "not locked",
        }
    }

    /// The lock, if anything is forbidden.
    pub(crate) fn any(self) -> Option<Lock> {
        (self != Lock::default()).then_some(self)
    }
}

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's digest.
    pub digest: Digest,
    /// Whether the content was hashed; otherwise the registry's word stands for it.
    pub verified: bool,
}
