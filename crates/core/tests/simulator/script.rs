//! Histories: what happens to a world, step by step, written down so that a history can be replayed and made smaller.

use std::time::Duration;

use catamaran_core::pod::message::PullFailure;
use catamaran_core::policy::{
    ActiveSide, FailbackMode, MirrorId, MirrorPolicy, OnMismatch, RepairMode, Repositories, RepositoryRule, SidePolicy,
    UnverifiedTags,
};
use catamaran_core::side::{Side, Sides};
use catamaran_core::tags::TagFilter;

use crate::clock::at;
use crate::world::{Fault, Kind};

pub const HOSTS: [&str; 3] = ["a.example", "b.example", "c.example"];
const PREFIXES: [&str; 3] = ["", "x", "y/z"];
pub const NAMES: [&str; 2] = ["app", "web"];
pub const PATHS: [&str; 8] = ["app", "web", "x/app", "x/web", "y/z/app", "y/z/web", "x/site", "site"];

/// What a history begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub replicas: u8,
    /// Which repositories: see [`Edit::Repositories`].
    pub repositories: u8,
    pub period: u8,
    pub threshold: u8,
    /// Whether each registry's listings bring digests.
    pub digests: [bool; 3],
    /// Seconds between passes.
    pub interval: u16,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Milliseconds pass.
    Wait(u32),
    /// A registry fares so from now on.
    Weather(u8, Sky),
    /// Content is pushed to a registry: path, tag, content.
    Push(u8, u8, u8, u8),
    /// Content is pushed to both sides, as the spec has them: repository, tag, content.
    PushBoth(u8, u8, u8),
    /// Content is pushed to one side, as the spec has it: side, repository, tag, content.
    PushTo(Side, u8, u8, u8),
    /// A tag is deleted: registry, path, tag.
    Delete(u8, u8, u8),
    /// A tag is deleted from one side, as the spec has it: side, repository, tag.
    DeleteFrom(Side, u8, u8),
    /// A repository of a side, as the spec has it, answers 500, or works again.
    Break(Side, u8, bool),
    /// A clean-up takes a layer of what a side, as the spec has it, holds under a tag, or it is pushed again: side, repository, tag.
    Gut(Side, u8, u8, bool),
    /// What a side, as the spec has it, holds under a tag is served with other bytes, or as it is again: side, repository, tag.
    Forge(Side, u8, u8, bool),
    /// A replica is cut off from a registry that others reach, or reaches it again.
    Cut(u8, u8, bool),
    /// A workload begins to use an image of a side: slot, side, repository, tag, how it is named.
    Run(u8, Side, u8, u8, Named),
    /// A workload is deleted.
    Stop(u8),
    /// A kubelet pulls the image of a workload, as a replica's webhook routes it.
    Pull(u8, u8),
    /// Pods are created on so many nodes from now on.
    Nodes(u8),
    /// Pulls by a node from a registry fail in this way from now on, or work again.
    NodePulls(u8, u8, Option<PullFailure>),
    /// A waiting pod asks for its image.
    Asks(u8, bool),
    /// A replica leads; the one that led before notices at once.
    Lead(u8),
    /// A replica leads; the one that led before does not notice yet.
    Usurp(u8),
    /// The one that leads without the lease notices.
    Notice,
    /// Nobody leads for a while.
    Vacate,
    Restart(u8),
    /// A replica stands still for so many milliseconds.
    Pause(u8, u32),
    /// The clock of a replica's machine is set forward or back by so many milliseconds.
    SetClock(u8, i32),
    /// The watch of a replica shows nothing for so many milliseconds.
    HoldWatch(u8, u32),
    /// The watch of a replica shows the object as it was so many versions ago.
    ShowOld(u8, u8),
    /// The next answer of a kind meets a fault.
    Next(Kind, Fault),
    RefuseStatus(u8),
    RefuseEvidence(u8),
    /// Somebody else changes the object: the next write conflicts.
    Touch,
    /// From now on flips are stored apart from the status, as where many mirrors flip at once; or with it again.
    StoreApart(bool),
    /// The status is restored as it was so many versions ago.
    Restore(u8),
    /// The status is wiped.
    Wipe,
    /// Waiting pods were re-pointed.
    Rescued(u8),
    Edit(Edit),
}

/// How a registry fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sky {
    Up,
    Refuses,
    BlackHole,
    ServerError,
    /// Manifests are served, and blobs are not.
    NoBlobs,
    /// Tokens that are known are good, and there are no new ones.
    NoTokens,
    Unauthorized,
    Throttled,
    /// The operator has no client for it: its Secret can't be read.
    NoClient,
}

/// How a workload names its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Tag,
    Digest,
    Both,
}

/// A change of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The registry and prefix of a side.
    Lies(Side, u8, u8),
    Swap,
    /// 0: by use; 1: both listed; 2: one listed; 3: one with a path of its own; 4: the two have each other's path on the fallback.
    Repositories(u8),
    Pin(Option<Side>),
    Suspend(bool),
    /// Makes no sense, until it does again.
    Invalid(bool),
    Strict(bool),
    Proceed(bool),
    Manual(bool),
    /// 0: off; 1: dry run; 2: copy.
    Repair(u8),
}

/// A spec as its author writes it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own in the spec")]
pub struct Draft {
    pub sides: Sides<(u8, u8)>,
    pub repositories: u8,
    pub pin: Option<Side>,
    pub suspended: bool,
    pub invalid: bool,
    pub strict: bool,
    pub proceeds: bool,
    pub manual: bool,
    pub repair: u8,
}

impl Draft {
    pub fn new(setup: &Setup) -> Draft {
        Draft {
            sides: Sides {
                primary: (0, 0),
                fallback: (1, 1),
            },
            repositories: setup.repositories,
            pin: None,
            suspended: false,
            invalid: false,
            strict: false,
            proceeds: false,
            manual: false,
            repair: 0,
        }
    }

    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Lies(side, registry, prefix) => self.sides[side] = (registry % 3, prefix % 3),
            Edit::Swap => std::mem::swap(&mut self.sides.primary, &mut self.sides.fallback),
            Edit::Repositories(which) => self.repositories = which % 5,
            Edit::Pin(side) => self.pin = side,
            Edit::Suspend(suspended) => self.suspended = suspended,
            Edit::Invalid(invalid) => self.invalid = invalid,
            Edit::Strict(strict) => self.strict = strict,
            Edit::Proceed(proceeds) => self.proceeds = proceeds,
            Edit::Manual(manual) => self.manual = manual,
            Edit::Repair(repair) => self.repair = repair % 3,
        }
    }

    /// The spec, parsed; none if it makes no sense.
    pub fn policy(&self, setup: &Setup) -> Option<MirrorPolicy> {
        if self.invalid || self.sides.primary == self.sides.fallback {
            return None;
        }
        let side = |(registry, prefix): (u8, u8)| SidePolicy {
            registry: HOSTS[usize::from(registry)].to_owned(),
            prefix: PREFIXES[usize::from(prefix)].to_owned(),
            ..SidePolicy::default()
        };
        let sides = self.sides.map(side);
        let mut policy = MirrorPolicy::new(
            MirrorId {
                name: "apps".into(),
                uid: "1".into(),
            },
            at(0),
            sides,
        );
        policy.suspended = self.suspended;
        policy.repositories = self.listed(&policy);
        policy.health.period = Duration::from_secs(u64::from(setup.period.max(1)));
        policy.health.timeout = Duration::from_secs(2);
        policy.health.failure_threshold = u32::from(setup.threshold.max(1));
        policy.failover.stable = Duration::from_mins(1);
        policy.failover.active = self.pin.map_or(ActiveSide::Auto, ActiveSide::Fixed);
        if self.manual {
            policy.failover.failback = FailbackMode::Manual;
        }
        if self.proceeds {
            policy.failover.on_mismatch = OnMismatch::Proceed;
        }
        if self.strict {
            policy.rewrite.unverified = UnverifiedTags::Keep;
        }
        policy.parity.interval = Duration::from_secs(u64::from(setup.interval.max(10)));
        policy.parity.grace = Duration::from_secs(20);
        policy.parity.settled = Duration::from_hours(1);
        policy.repair.mode = [RepairMode::Off, RepairMode::DryRun, RepairMode::Copy][usize::from(self.repair)];
        Some(policy)
    }

    fn listed(&self, policy: &MirrorPolicy) -> Repositories {
        let rule = |name: &str, fallback: &str| RepositoryRule {
            name: name.to_owned(),
            paths: Sides {
                primary: policy.sides.primary.path(name).into_owned(),
                fallback: policy.sides.fallback.path(fallback).into_owned(),
            },
            tags: TagFilter::default(),
        };
        let rules = match self.repositories {
            0 => return Repositories::InUse,
            1 => vec![rule("app", "app"), rule("web", "web")],
            2 => vec![rule("app", "app")],
            3 => vec![rule("app", "site"), rule("web", "web")],
            _ => vec![rule("app", "web"), rule("web", "app")],
        };
        Repositories::Listed(rules)
    }
}
