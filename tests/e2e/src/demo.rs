//! `make demo`: an outage and the way back, on a real Kubernetes with two registries that can fail.
//!
//! Two Deployments are rolled out behind the same black hole: `web` is rescued by patches alone (`rescue.mode: Patch`, the default),
//! the pods of `shop` are replaced (`PatchOrReplace`). The node pulls images in parallel.
//!
//! With `KEEP=1` the cluster stays up.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Cluster, Fault, Options, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, deployment, image, pod};
use catamaran_e2e::timeline::Timeline;
use catamaran_e2e::view::{annotation, condition, is_ready, number, text};
use catamaran_e2e::{Ground, interrupt, operator, view, watch};
use serde_json::{Value, json};

const CLUSTER: &str = "catamaran-demo";
const MIRROR: &str = "apps";
const REPOSITORY: &str = "kevinryan-io";
const WEB: &str = "deployment/web";

/// What is replaced while it hangs: a mirror, its repository and its Deployment.
const SHOP: &str = "shop";
const REPLICAS: usize = 3;

/// `PatchOrReplace` deletes pods, which the chart does not grant by default.
const VALUES: [&str; 1] = ["rescue.allowReplace=true"];

fn main() -> ExitCode {
    interrupt::destroys(vec![CLUSTER.to_owned()]);
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let mut timeline = Timeline::default();
    let result = show(&mut timeline);
    if let Err(error) = &result {
        interrupt::rest_if_interrupted();
        eprintln!("\nthe demo failed: {error:#}");
        if let Ok(Some(cluster)) = Cluster::attach(CLUSTER)
            && let Ok(logs) = operator::logs(&cluster, Duration::from_mins(2))
        {
            eprintln!("\nthe operator's log:\n{logs}");
        }
    }
    let kept = result.is_ok() && timeline.summary();
    if keep {
        say_how_to_look_around();
    } else if let Err(error) = Cluster::destroy(CLUSTER) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(timeline: &mut Timeline) -> anyhow::Result<()> {
    // A demo shows the same on a machine where the last one was left up.
    Cluster::destroy(CLUSTER)?;
    let options = Options {
        name: CLUSTER.to_owned(),
        ..Options::default()
    };
    let ground = Ground::start(&options, &VALUES, |what, took| timeline.done(what, took))?;
    let mut demo = Demo { ground, timeline };
    demo.a_mirror_becomes_ready()?;
    demo.a_pod_written_for_ghcr_runs_from_acr()?;
    demo.a_tag_on_one_side_only_is_reported()?;
    let began = demo.acr_dies_during_a_rollout()?;
    demo.the_mirror_fails_over(began)?;
    demo.new_pods_go_to_ghcr()?;
    demo.the_stuck_pods_run(began)?;
    demo.acr_returns()
}

struct Demo<'t> {
    ground: Ground,
    timeline: &'t mut Timeline,
}

impl Demo<'_> {
    fn a_mirror_becomes_ready(&mut self) -> anyhow::Result<()> {
        for tag in ["v1", "v2", "v3"] {
            self.ground.push(&Registry::ALL, REPOSITORY, tag)?;
        }
        self.timeline.say(&format!(
            "pushed {} and {}, tags v1, v2 and v3",
            repository(Registry::Acr),
            repository(Registry::Ghcr)
        ));
        for tag in ["v2", "v3"] {
            self.ground.push(&Registry::ALL, SHOP, tag)?;
        }
        let since = Instant::now();
        let mirror = manifests::mirror(MIRROR, &[REPOSITORY]);
        self.ground.apply("default", &mirror)?;
        let mut shop = manifests::mirror(SHOP, &[SHOP]);
        shop["spec"]["rescue"] = json!({"mode": "PatchOrReplace"});
        self.ground.apply("default", &shop)?;
        self.ground
            .cluster
            .kubectl(&["wait", "--for=condition=Ready", "registrymirror/apps", "--timeout=60s"])?;
        let seen = self.ground.observed(MIRROR, since)?;
        self.ground.observed(SHOP, since)?;
        self.timeline
            .measured("mirror Ready, all tags compared", seen.at - since, None);
        self.show_mirror(false)
    }

    fn a_pod_written_for_ghcr_runs_from_acr(&mut self) -> anyhow::Result<()> {
        let written = image(Registry::Ghcr, REPOSITORY, "v1");
        self.timeline.say(&format!("apply a pod written for {written}"));
        let since = Instant::now();
        self.ground.apply("default", &pod("hello", &written))?;
        let seen = self.ready("hello", since, PATIENCE)?;
        let runs = view::image(&seen.object, "app").to_owned();
        ensure!(
            runs == image(Registry::Acr, REPOSITORY, "v1"),
            "the pod runs from {runs}"
        );
        let what = "pod written for ghcr.io runs from kracr.azurecr.io";
        self.timeline.measured(what, seen.at - since, None);
        let mut annotations = Vec::new();
        for key in ["original-images", "mirror", "reasons"] {
            let value = annotation(&seen.object, &format!("catamaran.dev/{key}"));
            ensure!(!value.is_empty(), "the pod has no annotation catamaran.dev/{key}");
            annotations.push(format!("catamaran.dev/{key}: {value}"));
        }
        self.timeline.shown(
            "kubectl get pod hello -o yaml | grep catamaran.dev/",
            &annotations.join(
                "
",
            ),
        );
        Ok(())
    }

    fn a_tag_on_one_side_only_is_reported(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        self.ground.push(&[Registry::Acr], REPOSITORY, "hotfix")?;
        self.timeline.say(&format!(
            "pushed {} to one side only",
            image(Registry::Acr, REPOSITORY, "hotfix")
        ));
        let seen = self.ground.condition(
            MIRROR,
            ("InSync", "False", "TagsDiffer"),
            since,
            Duration::from_secs(90),
        )?;
        let divergence = &seen.object["status"]["divergences"][0];
        ensure!(
            text(divergence, "/tag") == "hotfix" && text(divergence, "/state") == "MissingOnFallback",
            "the divergence is {divergence}"
        );
        let minute = Some(Duration::from_mins(1));
        self.timeline
            .measured("reported: hotfix is missing on ghcr.io", seen.at - since, minute);
        self.show_mirror(true)?;
        let since = Instant::now();
        self.ground.push(&[Registry::Ghcr], REPOSITORY, "hotfix")?;
        let seen = self
            .ground
            .condition(MIRROR, ("InSync", "True", "TagsMatch"), since, PATIENCE)?;
        self.timeline
            .measured("pushed to the other side, in sync again", seen.at - since, None);
        Ok(())
    }

    /// When ACR died.
    fn acr_dies_during_a_rollout(&mut self) -> anyhow::Result<Instant> {
        let since = Instant::now();
        for (name, repository) in [("web", REPOSITORY), (SHOP, SHOP)] {
            let mut deployment = deployment(name, &image(Registry::Acr, repository, "v2"), 3);
            // All new pods at once: that is how they get stuck together.
            deployment["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": "100%"}});
            self.ground.apply("default", &deployment)?;
        }
        for name in ["web", SHOP] {
            self.rolled_out(name)?;
        }
        self.timeline
            .done("deployments web and shop run 3 pods of v2 each", since.elapsed());
        let began = self.ground.fault(Registry::Acr, Fault::BlackHole)?;
        self.timeline.say("kracr.azurecr.io is a black hole from now on");
        for (name, repository) in [("web", REPOSITORY), (SHOP, SHOP)] {
            let newer = format!("app={}", image(Registry::Acr, repository, "v3"));
            let deployment = format!("deployment/{name}");
            self.ground.cluster.kubectl(&["set", "image", &deployment, &newer])?;
        }
        self.timeline
            .say("web and shop are rolled out with v3, which the node must pull");
        self.ground.pods.wait("three pods of v3 each", PATIENCE, |seen| {
            let pods = watch::present(seen, "default");
            let new = |repository: &str| pods.iter().filter(|pod| is_new(&pod.object, repository)).count();
            ([REPOSITORY, SHOP].map(new) == [REPLICAS; 2]).then_some(())
        })?;
        self.timeline
            .say("their 6 new pods pull from kracr.azurecr.io and hang; the node pulls images in parallel");
        self.show_pods()?;
        Ok(began)
    }

    fn the_mirror_fails_over(&mut self, began: Instant) -> anyhow::Result<()> {
        let flipped = self.ground.active(MIRROR, "Fallback", began, PATIENCE)?;
        let bar = Some(Duration::from_secs(10));
        self.timeline
            .measured("black hole -> failed over to ghcr.io", flipped - began, bar);
        self.show_mirror(true)?;
        let what = "every waiting pod re-pointed";
        let host = Registry::Acr.host();
        let repointed = self
            .ground
            .pods
            .wait(what, PATIENCE, |seen| watch::repointed(seen, "default", host))?;
        let bar = Some(Duration::from_secs(5));
        self.timeline.measured(
            "flip -> every waiting pod re-pointed to ghcr.io",
            repointed - flipped,
            bar,
        );
        let replaced = self.running(SHOP, REPLICAS, PATIENCE)?;
        self.timeline.measured(
            "flip -> shop's 3 hanging pods replaced and running (PatchOrReplace)",
            replaced.saturating_duration_since(flipped),
            Some(Duration::from_secs(10)),
        );
        self.timeline.measured(
            "black hole -> shop runs v3 (PatchOrReplace)",
            replaced - began,
            Some(Duration::from_secs(20)),
        );
        self.show_pods()
    }

    fn new_pods_go_to_ghcr(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        self.ground
            .apply("default", &pod("after", &image(Registry::Acr, REPOSITORY, "hotfix")))?;
        let seen = self.ready("after", since, PATIENCE)?;
        let runs = view::image(&seen.object, "app").to_owned();
        ensure!(runs.starts_with(Registry::Ghcr.host()), "the new pod runs from {runs}");
        let what = "new pod written for kracr.azurecr.io runs from ghcr.io";
        self.timeline.measured(what, seen.at - since, None);
        Ok(())
    }

    fn the_stuck_pods_run(&mut self, began: Instant) -> anyhow::Result<()> {
        self.timeline.say(
            "web's pods are only patched: the kubelet takes the new image when the hanging pull ends, after 30 s or a multiple",
        );
        for count in 1..=REPLICAS {
            let last = self.running(REPOSITORY, count, Duration::from_mins(4))?;
            self.timeline.done(
                &format!("black hole -> {count} of 3 stuck pods of web run"),
                last - began,
            );
        }
        self.rolled_out("web")?;
        self.timeline
            .measured("black hole -> web runs v3 (Patch, the default)", began.elapsed(), None);
        self.timeline.say(
            "a node with serializeImagePulls: true would pull one image after the other, and wait for each that hangs",
        );
        self.show_pods()?;
        self.show_mirror(true)
    }

    fn acr_returns(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        self.ground.cluster.heal(Registry::Acr)?;
        self.timeline
            .say("kracr.azurecr.io answers again; failback needs it reachable for 60 s, and every tag in use verified");
        let up = self
            .ground
            .condition(MIRROR, ("PrimaryAvailable", "True", "Reachable"), since, PATIENCE)?;
        self.timeline
            .measured("ACR back -> seen as available", up.at - since, None);
        self.show_mirror(true)?;
        let back = self.ground.active(MIRROR, "Primary", since, Duration::from_mins(3))?;
        self.timeline
            .measured("ACR back -> failed back (stableSeconds: 60)", back - since, None);
        self.show_mirror(true)?;
        let since = Instant::now();
        self.ground
            .apply("default", &pod("back", &image(Registry::Ghcr, REPOSITORY, "v1")))?;
        let seen = self.ready("back", since, PATIENCE)?;
        let runs = view::image(&seen.object, "app").to_owned();
        ensure!(runs.starts_with(Registry::Acr.host()), "the pod runs from {runs}");
        self.timeline
            .measured("new pod runs from kracr.azurecr.io again", seen.at - since, None);
        self.check_the_end()
    }

    fn check_the_end(&self) -> anyhow::Result<()> {
        let mirror = self.ground.get("default", "registrymirror/apps")?;
        ensure!(
            condition(&mirror, "Ready").status == "True",
            "the mirror is not Ready at the end"
        );
        let epoch = number(&mirror, "/status/epoch");
        ensure!(epoch == 3, "the epoch is {epoch}, after one failover and one failback");
        let web = self.ground.get("default", WEB)?;
        let untouched = text(&web, "/spec/template/spec/containers/0/image") == image(Registry::Acr, REPOSITORY, "v3");
        ensure!(untouched, "the Deployment was changed");
        Ok(())
    }

    /// When so many pods of v3 of this repository were Ready.
    fn running(&self, repository: &str, count: usize, patience: Duration) -> anyhow::Result<Instant> {
        self.ground
            .pods
            .wait(&format!("{count} running pods of {repository}:v3"), patience, |seen| {
                nth_running(seen, repository, count)
            })
    }

    fn rolled_out(&self, deployment: &str) -> anyhow::Result<()> {
        let deployment = format!("deployment/{deployment}");
        let arguments = ["rollout", "status", &deployment, "--timeout=60s"];
        self.ground.cluster.kubectl(&arguments).map(drop)
    }

    fn ready(&self, pod: &str, since: Instant, patience: Duration) -> anyhow::Result<watch::Seen> {
        self.ground
            .pods
            .until(&format!("pod {pod} Ready"), patience, ("default", pod), since, is_ready)
    }

    fn show_mirror(&self, wide: bool) -> anyhow::Result<()> {
        let output: &[&str] = if wide { &["-o", "wide"] } else { &[] };
        self.show(&[&["get", "registrymirror"], output].concat())
    }

    fn show_pods(&self) -> anyhow::Result<()> {
        let columns = "custom-columns=POD:.metadata.name,IMAGE:.spec.containers[0].image,PHASE:.status.phase,\
                       WAITING:.status.containerStatuses[0].state.waiting.reason";
        let printed = self
            .ground
            .cluster
            .kubectl(&["get", "pods", "-l", "app in (web,shop)", "-o", columns])?;
        self.timeline.shown("kubectl get pods -l 'app in (web,shop)'", &printed);
        Ok(())
    }

    fn show(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let printed = self.ground.cluster.kubectl(arguments)?;
        self.timeline
            .shown(&format!("kubectl {}", arguments.join(" ")), &printed);
        Ok(())
    }
}

/// Whether a pod is one of those that hung, or in place of one.
fn is_new(pod: &Value, repository: &str) -> bool {
    view::image(pod, "app").ends_with(&format!("/{repository}:v3"))
}

/// When as many pods of v3 were Ready.
fn nth_running(seen: &[watch::Seen], repository: &str, count: usize) -> Option<Instant> {
    let mut first: Vec<(&str, Instant)> = Vec::new();
    for item in seen.iter().filter(|item| is_new(&item.object, repository)) {
        let name = view::name(&item.object);
        if is_ready(&item.object) && !first.iter().any(|(known, _)| *known == name) {
            first.push((name, item.at));
        }
    }
    first.get(count - 1).map(|(_, at)| *at)
}

fn repository(on: Registry) -> String {
    format!("{}/{}", on.host(), manifests::path(on, REPOSITORY))
}

fn say_how_to_look_around() {
    println!(
        "
the cluster \"{CLUSTER}\" stays up. To look around:
    cargo install --path tests/cluster        # the program `cluster`
    export CATAMARAN_CLUSTER={CLUSTER}
    cluster kubectl get registrymirrors -o wide
    cluster kubectl describe registrymirror {MIRROR}
    cluster kubectl -n {} logs -l {} --prefix
    cluster fault acr refused ; cluster heal  # http=503, black-hole, blob-host-dead ...
    cluster push {REPOSITORY}:v4 --to acr
    cluster exec bash
    cluster down",
        operator::NAMESPACE,
        operator::LABEL
    );
}
