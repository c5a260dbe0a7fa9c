//! One registry as it is reached with one credential: when it is probed, with what, and which mirrors are told.
//!
//! All mirrors that use a registry in the same way share one [`Endpoint`]. While all is well one probe begins in each interval,
//! whatever the number of mirrors. A probe that fails, or that takes longer than is usual here, makes the endpoint suspect: further
//! probes begin one [`HEDGE_GAP`] after the other, beside those that have not ended, until one succeeds or until every mirror has
//! seen as many failures as it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::subjects::{Failing, Subject};
use super::targets::{Target, Targets};
use super::vantage::{Others, Report, Vantage, Vantages};
use super::{Outcome, Probe, backoff, distance, later};
use crate::side::Side;

mod schedule;
#[cfg(test)]
mod tests;

use schedule::Schedule;

/// Between the beginnings of two probes of a suspect endpoint.
pub const HEDGE_GAP: Duration = Duration::from_millis(250);

/// Probes of one endpoint under way at a time.
const MOST_UNDER_WAY: usize = 6;

/// How much later than its time limit the end of a probe may be reported.
const LATE: Duration = Duration::from_secs(1);

/// A probe that has not ended after this and its own time limit is taken for lost.
const LOST_AFTER: Duration = Duration::from_mins(1);

/// Repositories that a report names at most.
const MOST_REPORTED: usize = 8;

/// Probes of a suspect endpoint beyond the highest threshold of its mirrors, and at most in all.
const FURTHER: u32 = 4;
const MOST_HEDGES: u32 = 24;

/// One side of a mirror, which is told what probes find.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watcher {
    /// The mirror's UID.
    pub mirror: Arc<str>,
    /// Which of its sides.
    pub side: Side,
}

/// What a watcher asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The generation of the spec that this follows from. With a later one nothing counts that began before.
    pub generation: i64,
    /// Between the beginnings of two probes while all is well; at least 1 s. The shortest of all watchers counts.
    pub period: Duration,
    /// Failures in a row that the watcher waits for; at least 1.
    pub threshold: u32,
    /// What is asked for, the most important first; without any `/v2/` stands for it.
    pub targets: Vec<Target>,
}

/// What an endpoint hears of.
#[derive(Clone, Debug)]
pub enum Input {
    /// A side watches this endpoint, or asks for something else than before.
    Watched(Watcher, Watch),
    /// It does so no more.
    Left(Watcher),
    /// A decision waits for the answer of a probe that begins at this time, which may be yet to come, or later.
    Wanted(Timestamp),
    /// Another replica, on this node, says what it sees.
    Report {
        /// The replica's name.
        replica: Arc<str>,
        /// The node that it runs on.
        node: Arc<str>,
        /// What it sees.
        report: Report,
    },
    /// Another replica has gone.
    Gone(Arc<str>),
    /// A probe ended.
    Ended(Box<Ended>),
    /// How probes are spread.
    Pace(Pace),
    /// Time has passed: [`Endpoint::wake_at`].
    Time,
}

/// How a probe ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its number.
    pub number: u64,
    /// What it found.
    pub probe: Probe,
    /// What the answer, or the failure, came from.
    pub layer: Layer,
    /// Why there was no client to ask with, where a person must act; `Ok` if there was a client.
    pub client: Result<(), Option<ClientProblem>>,
}

/// Which part of a registry a probe's outcome is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The way to it: DNS, TCP, TLS, and whatever comes before a request for a manifest.
    Host,
    /// Its token endpoint.
    Token,
    /// One repository: the request for a manifest.
    Manifest,
    /// What serves its blobs.
    Blob,
}

/// Why a side has no client: a Secret or an identity that a person must correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProblem {
    /// The condition reason.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// How the probes of one replica lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Endpoints that share this one's requests: those of the same host and credential with another timeout; 1 or 2.
    pub share: u32,
    /// By which part of an interval, in thousandths, they begin later than those of others. Replicas that are out of step see an
    /// outage sooner.
    pub phase: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { share: 1, phase: 0 }
    }
}

/// What an endpoint wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Probe it; ends with [`Input::Ended`].
    Probe(Send),
    /// Tell these watchers what a probe found.
    Reading(Vec<Watcher>, Arc<Reading>),
    /// Tell these watchers that a probe takes long, or that another replica has seen one fail.
    Suspected(Vec<Watcher>),
    /// Tell these watchers what other replicas see.
    Vantages(Vec<Watcher>, Arc<Vantages>),
}

/// One probe to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// What the answer repeats.
    pub number: u64,
    /// The manifest to ask for.
    pub target: Option<Target>,
    /// Whether to read the first byte of a blob as well.
    pub blob: bool,
    /// Whether to get a token of its own, as a kubelet would.
    pub fresh_token: bool,
}

/// What watchers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was found.
    pub probe: Probe,
    /// What was asked for.
    pub target: Option<Target>,
    /// Why there was no client to ask with.
    pub client: Result<(), Option<ClientProblem>>,
}

/// One registry as it is reached with one credential.
#[derive(Debug)]
pub struct Endpoint {
    node: Arc<str>,
    timeout: Duration,
    /// Where requests for manifests are limited, and only HEAD is free of it.
    heads_only: bool,
    watchers: BTreeMap<Watcher, Watching>,
    targets: Targets,
    failing: Failing,
    /// Repositories whose manifest was refused, or not there, when it was asked for last. A blob says nothing of that.
    unclear: BTreeSet<String>,
    under_way: Vec<UnderWay>,
    schedule: Schedule,
    /// Probes that were begun.
    begun: u64,
    suspicion: Option<Suspicion>,
    others: Others,
    /// When the latest probe ended that succeeded or failed.
    latest: Option<Timestamp>,
    /// When another replica asked for what is found here, and whether a probe that began since has ended.
    asked: Option<Timestamp>,
    answered: bool,
    /// Suspicion has come to its end with failures: it is down until it answers.
    down: bool,
}

#[derive(Debug)]
struct Watching {
    watch: Watch,
    /// The first probe that counts.
    since: u64,
}

#[derive(Clone, Debug)]
struct UnderWay {
    send: Send,
    at: Timestamp,
    /// What probes that began later have seen work.
    outdone: Vec<Subject>,
}

/// Something may be wrong.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// Another replica has raised it.
    told: bool,
    /// Probes that were begun since.
    sent: u32,
}

impl Endpoint {
    /// An endpoint that nobody watches yet, whose probes may take so long.
    pub fn new(timeout: Duration, heads_only: bool) -> Endpoint {
        Endpoint {
            node: Arc::default(),
            timeout,
            heads_only,
            watchers: BTreeMap::new(),
            targets: Targets::default(),
            failing: Failing::default(),
            unclear: BTreeSet::new(),
            under_way: Vec::new(),
            schedule: Schedule::default(),
            begun: 0,
            suspicion: None,
            others: Others::default(),
            latest: None,
            asked: None,
            answered: false,
            down: false,
        }
    }

    /// The same, of a replica on this node.
    #[must_use]
    pub fn on_node(mut self, node: &str) -> Endpoint {
        self.node = node.into();
        self
    }

    /// Takes in one input; what is to be done now, in this order.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Watched(watcher, watch) => self.watched(watcher, watch, &mut outputs),
            Input::Left(watcher) => self.left(&watcher),
            Input::Wanted(after) => {
                if !self.under_way.iter().any(|probe| probe.at >= after) {
                    self.schedule.want(after);
                }
            }
            Input::Report { replica, node, report } => {
                if self.others.heard(&replica, &node, report, now) {
                    self.alarm(now, &mut outputs);
                }
                self.show_vantages(&mut outputs);
            }
            Input::Gone(replica) => {
                if self.others.gone(&replica) {
                    self.show_vantages(&mut outputs);
                }
            }
            Input::Ended(ended) => self.ended(*ended, now, &mut outputs),
            Input::Pace(pace) => self.schedule.set_pace(pace),
            Input::Time => {}
        }
        if self.others.forget_silent(now) {
            self.show_vantages(&mut outputs);
        }
        self.under_way
            .retain(|probe| distance(probe.at, now) < self.timeout.saturating_add(LOST_AFTER));
        if self.suspicion.is_none() && !self.down && self.slow_at().is_some_and(|slow| slow <= now) {
            self.schedule.alarmed(now);
            self.suspect(false, &mut outputs);
        }
        while self.due(now).is_some_and(|due| due <= now) {
            outputs.push(self.begin(now));
        }
        outputs
    }

    /// When [`Input::Time`] is to come, if nothing else does before; none while nobody watches.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.watchers.is_empty() {
            return None;
        }
        let lost = |probe: &UnderWay| later(probe.at, self.timeout.saturating_add(LOST_AFTER));
        let slow = self.slow_at().filter(|_| self.suspicion.is_none() && !self.down);
        let lost = self.under_way.iter().map(lost);
        lost.chain(slow).chain(self.others.wake_at()).chain(self.due(now)).min()
    }

    /// Whether nobody watches it.
    pub fn is_idle(&self) -> bool {
        self.watchers.is_empty()
    }

    fn watched(&mut self, watcher: Watcher, watch: Watch, outputs: &mut Vec<Output>) {
        let before = self.watchers.get(&watcher);
        if before.is_some_and(|before| before.watch == watch) {
            return;
        }
        let same = before.is_some_and(|before| before.watch.generation == watch.generation);
        let since = before.filter(|_| same).map_or(self.begun, |before| before.since);
        // Somebody may wait for what the new spec comes to.
        let first = before.and_then(|before| before.watch.targets.first());
        if !same || first != watch.targets.first() {
            if let Some(target) = watch.targets.first() {
                self.targets.want(target);
            }
            self.schedule.want_soon();
        }
        let gone = self.watchers.remove(&watcher);
        self.targets.add(&watch.targets);
        if let Some(gone) = gone {
            self.targets.remove(&gone.watch.targets);
        }
        if !self.others.is_empty() {
            let vantages = self.vantages_of(self.others.of(&watch.targets));
            outputs.push(Output::Vantages(vec![watcher.clone()], vantages));
        }
        self.watchers.insert(watcher, Watching { watch, since });
        self.watchers_changed();
    }

    fn left(&mut self, watcher: &Watcher) {
        if let Some(gone) = self.watchers.remove(watcher) {
            self.targets.remove(&gone.watch.targets);
            self.watchers_changed();
        }
    }

    fn watchers_changed(&mut self) {
        let targets = &self.targets;
        self.failing.retain_paths(|path| targets.has_path(path));
        self.unclear.retain(|path| targets.has_path(path));
        let periods = self.watchers.values().map(|watching| watching.watch.period);
        self.schedule.set_period(periods.min());
    }

    /// When the oldest probe under way becomes suspect.
    fn slow_at(&self) -> Option<Timestamp> {
        let oldest = self.under_way.iter().map(|probe| probe.at).min()?;
        self.schedule.slow_at(oldest, self.timeout)
    }

    /// Another replica has seen it fail: whether it does so here is asked at once, and reported.
    fn alarm(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        self.asked = Some(now);
        self.schedule.want(now);
        if self.suspicion.is_none() && !self.down {
            self.suspect(true, outputs);
        }
    }

    fn show_vantages(&self, outputs: &mut Vec<Output>) {
        let mut groups: Vec<(Arc<Vantages>, Vec<Watcher>)> = Vec::new();
        for (watcher, watching) in &self.watchers {
            let others = self.others.of(&watching.watch.targets);
            if let Some((_, watchers)) = groups.iter_mut().find(|(vantages, _)| vantages.others == others) {
                watchers.push(watcher.clone());
            } else {
                groups.push((self.vantages_of(others), vec![watcher.clone()]));
            }
        }
        let shown = groups.into_iter();
        outputs.extend(shown.map(|(vantages, watchers)| Output::Vantages(watchers, vantages)));
    }

    fn vantages_of(&self, others: Vec<Vantage>) -> Arc<Vantages> {
        let own = Arc::clone(&self.node);
        Arc::new(Vantages { own, others })
    }

    /// Whether what fails is more than single repositories.
    fn fails_in_general(&self) -> bool {
        self.failing.is_general(self.targets.is_one_path())
    }

    /// What this replica says of it; none before a first probe has succeeded or failed.
    pub fn report(&self) -> Option<Report> {
        let failing: Vec<String> = self.failing.paths().take(MOST_REPORTED).map(str::to_owned).collect();
        Some(Report {
            at: self.latest?,
            fails: self.fails_in_general(),
            down: self.down,
            failing,
            // Those that were told would only tell it back.
            suspects: self.suspicion.is_some_and(|suspicion| !suspicion.told),
        })
    }

    /// Whether another replica waits for what a probe finds that began since it asked. It is asked for once.
    pub fn take_answer(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    fn suspect(&mut self, told: bool, outputs: &mut Vec<Output>) {
        self.suspicion = Some(Suspicion { sent: 0, told });
        outputs.push(Output::Suspected(self.watchers.keys().cloned().collect()));
    }

    /// Failures that a suspect endpoint is probed for at most.
    fn most_hedges(&self) -> u32 {
        let thresholds = self.watchers.values().map(|watching| watching.watch.threshold);
        thresholds.max().unwrap_or(1).saturating_add(FURTHER).min(MOST_HEDGES)
    }

    /// When the next probe begins.
    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.watchers.is_empty() || self.under_way.len() >= MOST_UNDER_WAY {
            return None;
        }
        // One that is not reported in time may never be.
        let busy = self
            .under_way
            .iter()
            .any(|probe| distance(probe.at, now) <= self.timeout + LATE);
        self.schedule.due(busy, self.suspicion.is_some(), now)
    }

    fn begin(&mut self, now: Timestamp) -> Output {
        // Every second probe is of what fails; the others go on in turn.
        let wish = self.failing.path().filter(|_| self.begun.is_multiple_of(2));
        let wish = wish.map(str::to_owned);
        let target = self.targets.next(wish.as_deref(), |path| self.failing.is_path(path));
        if target.is_none() {
            // They were those of a manifest that nobody names any more.
            self.failing.forget(&Subject::Blobs);
        }
        let kind = self.schedule.begin(now);
        // A blob that is served says nothing of a manifest that is not.
        let asks_manifest = |target: &Target| wish.is_some() || self.unclear.contains(&target.path);
        let may_read = !self.heads_only && target.as_ref().is_some_and(|target| !asks_manifest(target));
        let send = Send {
            number: self.begun,
            blob: may_read && (kind.blob || self.failing.is(&Subject::Blobs)),
            target,
            fresh_token: kind.fresh_token || self.failing.is(&Subject::Token),
        };
        self.begun += 1;
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.sent += 1;
        }
        self.under_way.push(UnderWay {
            send: send.clone(),
            at: now,
            outdone: Vec::new(),
        });
        if self
            .suspicion
            .is_some_and(|suspicion| suspicion.sent >= self.most_hedges())
        {
            self.suspicion = None;
            self.down = self.fails_in_general();
        }
        Output::Probe(send)
    }

    fn ended(&mut self, ended: Ended, now: Timestamp, outputs: &mut Vec<Output>) {
        let Some(index) = self
            .under_way
            .iter()
            .position(|probe| probe.send.number == ended.number)
        else {
            return;
        };
        let under_way = self.under_way.remove(index);
        self.schedule.ended(&ended.probe, now);
        let target = under_way.send.target.clone();
        let path = target.as_ref().map(|target| target.path.as_str());
        if matches!(ended.probe.outcome, Outcome::Reachable | Outcome::Unavailable(_)) {
            self.latest = Some(ended.probe.at);
            self.answered |= self.asked.take_if(|asked| *asked <= under_way.at).is_some();
        }
        let told = match ended.probe.outcome {
            Outcome::Reachable => self.succeeded(&under_way, &ended.probe),
            Outcome::Unavailable(_) => {
                let subject = match (ended.layer, path) {
                    (Layer::Token, _) => Subject::Token,
                    (Layer::Blob, _) => Subject::Blobs,
                    (Layer::Manifest, Some(path)) => Subject::Path(path.to_owned()),
                    (Layer::Manifest | Layer::Host, _) => Subject::Host,
                };
                if under_way.outdone.contains(&subject) {
                    return;
                }
                self.failed(subject, under_way.at)
            }
            outcome => self.unclear(outcome, target.as_ref()),
        };
        let number = ended.number;
        let told: Vec<Watcher> = told
            .into_iter()
            .filter(|watcher| self.watchers[watcher].since <= number)
            .collect();
        if !told.is_empty() {
            let reading = Reading {
                probe: ended.probe,
                target,
                client: ended.client,
            };
            outputs.push(Output::Reading(told, Arc::new(reading)));
        }
    }

    /// Those whose parts of the registry all work.
    fn succeeded(&mut self, under_way: &UnderWay, probe: &Probe) -> Vec<Watcher> {
        let send = &under_way.send;
        let manifest = send.target.as_ref().filter(|_| !send.blob);
        if let Some(target) = manifest {
            self.unclear.remove(&target.path);
        }
        let path = manifest.map(|target| Subject::Path(target.path.clone()));
        let blob = send.blob.then_some(Subject::Blobs);
        let token = (send.fresh_token || send.target.is_none()).then_some(Subject::Token);
        let asked: Vec<Subject> = [Some(Subject::Host), path, blob, token].into_iter().flatten().collect();
        self.failing.succeeded(under_way.at, &asked);
        for earlier in self.under_way.iter_mut().filter(|other| other.at < under_way.at) {
            earlier.outdone.extend(asked.iter().cloned());
        }
        self.schedule.succeeded(distance(probe.begun, probe.at));
        if self.failing.is_empty() {
            self.suspicion = None;
            self.down = false;
        }
        let general = self.fails_in_general();
        self.tell(|watch| !general && !watch.targets.iter().any(|target| self.failing.is_path(&target.path)))
    }

    fn failed(&mut self, subject: Subject, begun: Timestamp) -> Vec<Watcher> {
        let is_new = !self.failing.is(&subject);
        self.failing.failed(subject.clone(), begun);
        let general = self.fails_in_general();
        if self.suspicion.is_none() && !self.down && (is_new || general) {
            self.suspicion = Some(Suspicion { sent: 0, told: false });
        }
        let Subject::Path(path) = subject else {
            return self.tell(|_| true);
        };
        self.tell(|watch| general || watch.targets.iter().any(|target| target.path == path))
    }

    /// What says nothing of a registry, and was said of one repository, concerns those that name it first.
    fn unclear(&mut self, outcome: Outcome, target: Option<&Target>) -> Vec<Watcher> {
        let of_path = matches!(
            outcome,
            Outcome::CanaryNotFound
                | Outcome::CanaryBlocked
                | Outcome::Unauthorized
                | Outcome::Forbidden
                | Outcome::UnexpectedAnswer
        );
        if let Some(target) = target.filter(|_| of_path) {
            self.unclear.insert(target.path.clone());
        }
        let Some(target) = target.filter(|_| of_path && !self.targets.is_one_path()) else {
            return self.tell(|_| true);
        };
        if self.targets.avoid(target) {
            self.schedule.want_soon();
        }
        self.tell(|watch| watch.targets.first().is_some_and(|first| first.path == target.path))
    }

    fn tell(&self, whom: impl Fn(&Watch) -> bool) -> Vec<Watcher> {
        let told = self.watchers.iter().filter(|(_, watching)| whom(&watching.watch));
        told.map(|(watcher, _)| watcher.clone()).collect()
    }
}
