//! One scenario's own namespace and mirror, and its bars.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::Registry;
use serde_json::Value;

use crate::ground::{Ground, PATIENCE};
use crate::view;
use crate::watch::Seen;
use crate::{busy, manifests};

/// A scenario under way.
#[derive(Debug)]
pub struct Case<'g> {
    /// The cluster that all share.
    pub ground: &'g Ground,
    /// The name of this scenario's namespace, repository and mirror.
    pub name: String,
    notes: RefCell<Vec<String>>,
    begun: Instant,
    missed: RefCell<Vec<String>>,
}

impl<'g> Case<'g> {
    /// Makes the namespace.
    pub fn begin(ground: &'g Ground, name: &str) -> anyhow::Result<Self> {
        let case = Self {
            ground,
            name: name.to_owned(),
            notes: RefCell::default(),
            begun: Instant::now(),
            missed: RefCell::default(),
        };
        ground.mirrors.forget();
        ground.pods.forget();
        ground.create_namespace(name, &serde_json::json!({}))?;
        // A pod is refused until the namespace has its service account.
        let account = || {
            ground
                .cluster
                .kubectl(&["-n", name, "get", "serviceaccount", "default"])
        };
        let end = Instant::now() + PATIENCE;
        while let Err(error) = account() {
            ensure!(Instant::now() < end, error);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(case)
    }

    /// A line for the log, printed when the scenario is over.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// The lines that were noted.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// Notes a measured time and fails if it is longer than allowed. On a machine that was busy with something else the scenario
    /// goes on, for what it shows beside times, and has missed a bar.
    pub fn bar(&self, what: &str, measured: Duration, limit: Duration) -> anyhow::Result<()> {
        let (seconds, allowed) = (measured.as_secs_f64(), limit.as_secs_f64());
        self.note(format!("{what}: {seconds:.2} s (bar: {allowed} s)"));
        if measured <= limit {
            return Ok(());
        }
        let missed = format!("{what} took {seconds:.2} s, longer than {allowed} s");
        ensure!(busy::taken(self.begun) > busy::TOO_MUCH, missed);
        self.missed.borrow_mut().push(missed);
        Ok(())
    }

    /// The bars that were missed on a busy machine.
    pub fn missed(&self) -> Vec<String> {
        self.missed.borrow().clone()
    }

    /// Pushes tags of this scenario's repository to both sides.
    pub fn push(&self, tags: &[&str]) -> anyhow::Result<()> {
        for tag in tags {
            self.ground.push(&Registry::ALL, &self.name, tag)?;
        }
        Ok(())
    }

    /// The image of a tag of this scenario's repository on one side.
    pub fn image(&self, on: Registry, tag: &str) -> String {
        manifests::image(on, &self.name, tag)
    }

    /// Applies this scenario's mirror, as `change` has it, and waits until it is Ready and verified.
    pub fn mirror(&self, change: impl FnOnce(&mut Value)) -> anyhow::Result<Seen> {
        let since = Instant::now();
        let mut mirror = manifests::mirror(&self.name, &[&self.name]);
        change(&mut mirror["spec"]);
        self.ground.apply("default", &mirror)?;
        self.ground.observed(&self.name, since)
    }

    /// The mirror's latest state.
    pub fn latest(&self) -> anyhow::Result<Value> {
        self.ground.get("default", &format!("registrymirror/{}", self.name))
    }

    /// Changes the mirror's spec.
    pub fn patch_spec(&self, spec: &Value) -> anyhow::Result<()> {
        let object = format!("registrymirror/{}", self.name);
        self.ground
            .patch("default", &object, &serde_json::json!({"spec": spec}))
    }

    /// Applies an object in this scenario's namespace.
    pub fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.ground.apply(&self.name, object).map(drop)
    }

    /// Creates a pod and reads it back, as admission left it.
    pub fn create_pod(&self, pod: &Value) -> anyhow::Result<Value> {
        let created = self
            .ground
            .cluster
            .kubectl_stdin(&["-n", &self.name, "create", "-o", "json", "-f", "-"], &pod.to_string())?;
        Ok(serde_json::from_str(&created)?)
    }

    /// What admission would make of a pod, which is not created.
    pub fn admitted(&self, pod: &Value) -> anyhow::Result<Value> {
        let arguments = ["-n", &self.name, "create", "--dry-run=server", "-o", "json", "-f", "-"];
        let admitted = self.ground.cluster.kubectl_stdin(&arguments, &pod.to_string())?;
        Ok(serde_json::from_str(&admitted)?)
    }

    /// Asks what admission would make of a pod until it is as `holds` says; that pod.
    pub fn admitted_as(
        &self,
        pod: &Value,
        what: &str,
        since: Instant,
        patience: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        loop {
            let admitted = self.admitted(pod)?;
            if holds(&admitted) {
                return Ok(admitted);
            }
            ensure!(
                since.elapsed() < patience,
                "failed to see a pod {what} within {} s: it is {admitted}",
                patience.as_secs()
            );
        }
    }

    /// Creates a pod with one container and reads back its image.
    pub fn admitted_image(&self, name: &str, image: &str) -> anyhow::Result<String> {
        let created = self.create_pod(&manifests::pod(name, image))?;
        Ok(view::image(&created, "app").to_owned())
    }

    /// Waits until a pod of this scenario is as `holds` says; the first moment since `since` at which it was.
    pub fn pod(
        &self,
        name: &str,
        what: &str,
        since: Instant,
        patience: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Seen> {
        let what = format!("pod {name} {what}");
        self.ground
            .pods
            .until(&what, patience, (&self.name, name), since, holds)
    }

    /// Waits until a pod is Ready.
    pub fn ready(&self, name: &str, since: Instant, patience: Duration) -> anyhow::Result<Seen> {
        self.pod(name, "Ready", since, patience, view::is_ready)
    }

    /// Waits until the mirror's active side is the one named; when the status said so.
    pub fn active(&self, side: &str, since: Instant, patience: Duration) -> anyhow::Result<Instant> {
        self.ground.active(&self.name, side, since, patience)
    }

    /// The Events about a pod that contain these words, and how often each was told.
    pub fn events(&self, pod: &str, words: &str) -> anyhow::Result<Vec<(String, i64)>> {
        let about = format!("involvedObject.name={pod}");
        let events = [
            "-n",
            &self.name,
            "get",
            "events",
            "--field-selector",
            &about,
            "-o",
            "json",
        ];
        let events = view::items(&serde_json::from_str(&self.ground.cluster.kubectl(&events)?)?);
        let all = events.iter().map(|event| {
            let times = view::number(event, "/count")
                .max(view::number(event, "/series/count"))
                .max(1);
            (view::text(event, "/message").to_owned(), times)
        });
        Ok(all.filter(|(message, _)| message.contains(words)).collect())
    }

    /// Watches the mirror for `time` and fails if its active side or epoch moves.
    pub fn no_flip(&self, time: Duration) -> anyhow::Result<()> {
        let before = self.latest()?;
        let key = |mirror: &Value| (mirror["status"]["active"].clone(), mirror["status"]["epoch"].clone());
        std::thread::sleep(time);
        let after = self.latest()?;
        ensure!(
            key(&before) == key(&after),
            "the mirror flipped: from {:?} to {:?}",
            key(&before),
            key(&after)
        );
        Ok(())
    }
}
