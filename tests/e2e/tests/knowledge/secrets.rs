//! Secrets that disappear, and come back as something else.

use std::time::Instant;

use anyhow::ensure;
use catamaran_cluster::Registry;
use catamaran_e2e::evidence::Evidence;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::view::{condition, image, number};
use catamaran_e2e::{Case, operator, replica};
use serde_json::{Value, json};

use super::A_PASS;

/// A mirror and the Secret of its own that it depends on.
struct Subject<'c> {
    case: &'c Case<'c>,
    /// Of the mirror and its repository.
    name: String,
    /// In the operator's namespace.
    secret: String,
    kind: &'static str,
    data: Value,
}

/// What was found out of the tags, in each place that people and webhooks read.
#[derive(Debug, PartialEq)]
struct Verdict {
    counts: Vec<Option<i64>>,
    evidence: Evidence,
}

impl Subject<'_> {
    fn begin(&self, refer: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        let ground = self.case.ground;
        for tag in ["v1", "v2"] {
            ground.push(&Registry::ALL, &self.name, tag)?;
        }
        // Something that counts under another state.
        ground.push(&[Registry::Acr], &self.name, "only-acr")?;
        self.create(self.kind, &self.data)?;
        let mut mirror = manifests::mirror(&self.name, &[&self.name]);
        refer(&mut mirror["spec"]);
        mirror["spec"]["rewrite"] = json!({"unverifiedTags": "Keep"});
        mirror["spec"]["parity"]["gracePeriod"] = json!("0s");
        ground.apply("default", &mirror).map(drop)
    }

    fn verified(&self) -> anyhow::Result<Verdict> {
        let key = ("", self.name.as_str());
        let what = format!("the difference of {}", self.name);
        let mirrors = &self.case.ground.mirrors;
        mirrors.until(&what, PATIENCE, key, Instant::now(), |mirror| {
            number(mirror, "/status/parity/missingOnFallback") == 1 && number(mirror, "/status/parity/inSync") == 2
        })?;
        self.verdict()
    }

    fn verdict(&self) -> anyhow::Result<Verdict> {
        let mirror = self
            .case
            .ground
            .get("default", &format!("registrymirror/{}", self.name))?;
        let parity = &mirror["status"]["parity"];
        let states = [
            "tags",
            "inSync",
            "missingOnPrimary",
            "missingOnFallback",
            "mismatched",
            "pending",
        ];
        Ok(Verdict {
            counts: states.iter().map(|state| parity[state].as_i64()).collect(),
            evidence: self.case.ground.evidence(&self.name)?,
        })
    }

    fn create(&self, kind: &str, data: &Value) -> anyhow::Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
            "metadata": {"name": self.secret, "annotations": manifests::for_registries()},
        });
        self.case.ground.apply(operator::NAMESPACE, &secret).map(drop)
    }

    fn delete(&self) -> anyhow::Result<()> {
        let delete = [
            "-n",
            operator::NAMESPACE,
            "delete",
            "secret",
            "--ignore-not-found",
            &self.secret,
        ];
        self.case.ground.cluster.kubectl(&delete).map(drop)
    }

    /// Waits until the mirror says what is wrong with its Secret.
    fn says(&self, reason: &str, since: Instant) -> anyhow::Result<()> {
        let key = ("Stalled", "True", reason);
        let seen = self.case.ground.condition(&self.name, key, since, PATIENCE)?;
        let message = condition(&seen.object, "Stalled").message;
        ensure!(message.contains(&self.secret), "the Secret is not named: {message}");
        self.case.note(format!("{}: {reason}: {message}", self.name));
        Ok(())
    }

    /// What was proven is still acted on, and nothing else is.
    fn still_holds(&self, before: &Verdict) -> anyhow::Result<()> {
        let verdict = self.verdict()?;
        ensure!(
            verdict == *before,
            "the verdict of {} was {before:?} and is {verdict:?}",
            self.name
        );
        for (tag, side) in [("v1", Registry::Acr), ("only-ghcr", Registry::Ghcr)] {
            let asked = pod("asks", &manifests::image(Registry::Ghcr, &self.name, tag));
            let admitted = self.case.admitted(&asked)?;
            let wanted = manifests::image(side, &self.name, tag);
            ensure!(
                image(&admitted, "app") == wanted,
                "a pod gets {} instead of {wanted}",
                image(&admitted, "app")
            );
        }
        Ok(())
    }

    /// Nothing is complained of any more, and both sides are read: a tag that is new on both is found to be the same.
    fn recovered(&self, since: Instant) -> anyhow::Result<()> {
        let key = ("", self.name.as_str());
        let mirrors = &self.case.ground.mirrors;
        let what = format!("{} without a complaint", self.name);
        mirrors.until(&what, PATIENCE, key, since, |mirror| {
            condition(mirror, "Stalled").status.is_empty()
                && ["Ready", "PrimaryAvailable", "FallbackAvailable"]
                    .iter()
                    .all(|kind| condition(mirror, kind).status == "True")
        })?;
        self.case.ground.push(&Registry::ALL, &self.name, "v3")?;
        let what = format!("the new tag of {}", self.name);
        mirrors.until(&what, PATIENCE, key, Instant::now(), |mirror| {
            number(mirror, "/status/parity/inSync") == 3
        })?;
        Ok(())
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        // One that stays changes nothing for other scenarios.
        let _ = self.delete();
    }
}

pub fn a_secret_that_disappears_changes_no_verdict(case: &Case<'_>) -> anyhow::Result<()> {
    let (username, password) = case.ground.cluster.credentials();
    let subject = |name: &str, kind, data| Subject {
        case,
        name: format!("{}-{name}", case.name),
        secret: format!("{}-{name}", case.name),
        kind,
        data,
    };
    let login = subject(
        "login",
        "kubernetes.io/basic-auth",
        json!({"username": username, "password": password}),
    );
    let ca = subject("ca", "Opaque", json!({"ca.crt": case.ground.cluster.ca_pem()}));
    let named = |subject: &Subject<'_>| json!({"name": subject.secret});
    // The one loses one side by it, the other both.
    login.begin(|spec| spec["fallback"]["secretRef"] = named(&login))?;
    ca.begin(|spec| {
        for side in ["primary", "fallback"] {
            spec[side]["certSecretRef"] = named(&ca);
        }
    })?;
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let before = [login.verified()?, ca.verified()?];
    let subjects = [&login, &ca];
    let restarts = replica::restarts(&case.ground.cluster)?;

    they_disappear(case, &subjects, &before)?;
    they_come_back_as_something_else(case, &subjects, &before)?;
    for subject in subjects {
        subject.create(subject.kind, &subject.data)?;
    }
    let since = Instant::now();
    subjects.iter().try_for_each(|subject| subject.recovered(since))?;
    ensure!(
        replica::restarts(&case.ground.cluster)? == restarts,
        "replicas were restarted"
    );
    Ok(())
}

fn they_disappear(case: &Case<'_>, subjects: &[&Subject<'_>], before: &[Verdict]) -> anyhow::Result<()> {
    let since = Instant::now();
    subjects.iter().try_for_each(|subject| subject.delete())?;
    subjects
        .iter()
        .try_for_each(|subject| subject.says("SecretNotFound", since))?;
    // Two passes: a difference is confirmed by a second one.
    std::thread::sleep(A_PASS + A_PASS);
    hold(case, subjects, before)
}

fn they_come_back_as_something_else(
    case: &Case<'_>,
    subjects: &[&Subject<'_>],
    before: &[Verdict],
) -> anyhow::Result<()> {
    let other = ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": "no key"}));
    let empty = [
        ("kubernetes.io/basic-auth", json!({"username": "", "password": ""})),
        ("Opaque", json!({"ca.crt": ""})),
    ];
    for change in [[other.clone(), other], empty] {
        let since = Instant::now();
        for (subject, (kind, data)) in subjects.iter().zip(&change) {
            subject.delete()?;
            subject.create(kind, data)?;
        }
        subjects
            .iter()
            .try_for_each(|subject| subject.says("SecretInvalid", since))?;
        hold(case, subjects, before)?;
    }
    Ok(())
}

/// No verdict has changed, and the mirror beside them is as it was.
fn hold(case: &Case<'_>, subjects: &[&Subject<'_>], before: &[Verdict]) -> anyhow::Result<()> {
    for (subject, before) in subjects.iter().zip(before) {
        subject.still_holds(before)?;
    }
    let bystander = case.latest()?;
    ensure!(
        condition(&bystander, "Ready").status == "True" && condition(&bystander, "Stalled").status.is_empty(),
        "the mirror beside them is {}",
        bystander["status"]["conditions"]
    );
    let admitted = case.admitted(&pod("asks", &case.image(Registry::Ghcr, "v1")))?;
    ensure!(
        image(&admitted, "app") == case.image(Registry::Acr, "v1"),
        "pods of the mirror beside them get {}",
        image(&admitted, "app")
    );
    Ok(())
}
