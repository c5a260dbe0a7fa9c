//! What admission makes of pods while both registries are well.

use std::time::{Duration, Instant};

use anyhow::ensure;
use catamaran_cluster::{Registry, TestImage};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::pod;
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, container_status, image, number, pull_secrets, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "every-kind-of-image-is-rewritten",
        run: every_kind_of_image_is_rewritten,
    },
    Scenario {
        name: "other-references-stay-byte-for-byte",
        run: other_references_stay,
    },
    Scenario {
        name: "strict-mirrors-keep-unverified-tags",
        run: strict_mirrors_keep_unverified_tags,
    },
    Scenario {
        name: "only-selected-namespaces-are-rewritten",
        run: only_selected_namespaces_are_rewritten,
    },
    Scenario {
        name: "kubectl-tells-how-it-stands",
        run: kubectl_tells_how_it_stands,
    },
];

fn every_kind_of_image_is_rewritten(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["app", "volume", "debug"])?;
    let once = TestImage::new("init", &["true"]);
    case.ground.push_image(&Registry::ALL, &case.name, "init", &once)?;
    let site = TestImage::new("site", &["pause"]);
    case.ground.cluster.push(&[Registry::Acr], "teams/web", "v1", &site)?;
    case.ground
        .cluster
        .push(&[Registry::Ghcr], "devopskev/site", "v1", &site)?;
    case.mirror(|spec| {
        spec["repositories"] =
            json!([{"name": case.name}, {"name": "web", "primary": "teams/web", "fallback": "devopskev/site"}]);
        spec["primary"]["imagePullSecrets"] = json!([{"name": "acr-pull"}]);
        spec["fallback"]["imagePullSecrets"] = json!([{"name": "ghcr-pull"}]);
    })?;
    let written = |tag: &str| case.image(Registry::Ghcr, tag);
    let expected = |tag: &str| case.image(Registry::Acr, tag);
    let since = Instant::now();
    case.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "all"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "imagePullSecrets": [{"name": "own"}],
            "initContainers": [{"name": "init", "image": written("init")}],
            "containers": [
                {"name": "app", "image": written("app"), "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                {"name": "web", "image": "ghcr.io/devopskev/site:v1"},
            ],
            "volumes": [{"name": "data", "image": {"reference": written("volume")}}],
        },
    }))?;
    let seen = case.ready("all", since, PATIENCE)?;
    case.note(format!("apply -> Ready: {:.2} s", (seen.at - since).as_secs_f64()));
    let pod = &seen.object;
    for (name, tag) in [("app", "app"), ("init", "init")] {
        ensure!(image(pod, name) == expected(tag), "{name} runs {}", image(pod, name));
    }
    ensure!(
        image(pod, "web") == "kracr.azurecr.io/teams/web:v1",
        "web runs {}",
        image(pod, "web")
    );
    let volume = text(pod, "/spec/volumes/0/image/reference");
    ensure!(volume == expected("volume"), "the volume is of {volume}");
    ensure!(
        pull_secrets(pod) == ["own", "acr-pull", "ghcr-pull"],
        "pull secrets {:?}",
        pull_secrets(pod)
    );
    annotations_tell(case, pod)?;
    an_ephemeral_container_is_rewritten(case, &written("debug"), &expected("debug"))
}

fn annotations_tell(case: &Case<'_>, pod: &Value) -> anyhow::Result<()> {
    let read = |key: &str| serde_json::from_str::<Value>(annotation(pod, key));
    let originals = read("catamaran.dev/original-images")?;
    let written = |tag: &str| case.image(Registry::Ghcr, tag);
    ensure!(
        originals
            == json!({"app": written("app"), "init": written("init"), "volume/data": written("volume"),
                      "web": "ghcr.io/devopskev/site:v1"}),
        "original images {originals}"
    );
    let reasons = read("catamaran.dev/reasons")?;
    let all = reasons
        .as_object()
        .into_iter()
        .flatten()
        .all(|(_, reason)| reason == "Rewritten");
    ensure!(
        all && reasons.as_object().is_some_and(|reasons| reasons.len() == 4),
        "reasons {reasons}"
    );
    let mirror = annotation(pod, "catamaran.dev/mirror");
    ensure!(mirror == format!("{}@1", case.name), "the mirror is {mirror}");
    Ok(())
}

fn an_ephemeral_container_is_rewritten(case: &Case<'_>, written: &str, expected: &str) -> anyhow::Result<()> {
    let since = Instant::now();
    let image_argument = format!("--image={written}");
    let arguments = [
        "-n",
        &case.name,
        "debug",
        "all",
        &image_argument,
        "-c",
        "debugger",
        "--",
        "/tool",
        "pause",
    ];
    case.ground.cluster.kubectl(&arguments)?;
    let seen = case.pod("all", "with a running debugger", since, PATIENCE, |pod| {
        container_status(pod, "debugger").is_some_and(|status| status["state"]["running"].is_object())
    })?;
    ensure!(
        image(&seen.object, "debugger") == expected,
        "the debugger runs {}",
        image(&seen.object, "debugger")
    );
    Ok(())
}

fn other_references_stay(case: &Case<'_>) -> anyhow::Result<()> {
    let digest = case.ground.push(&Registry::ALL, &case.name, "v1")?;
    case.mirror(|_| {})?;
    let (name, ours) = (&case.name, |tail: &str| {
        format!("ghcr.io/devopskev/{}{tail}", case.name)
    });
    let untouched = [
        "nginx".to_owned(),
        "docker.io/library/nginx:1".to_owned(),
        format!("ghcr.io/other/{name}:v1"),
        format!("ghcr.io/devopskev/{name}-more:v1"),
        format!("ghcr.io/devopskev/{name}/below:v1"),
        format!("ghcr.io:8443/devopskev/{name}:v1"),
        format!("kracr.azurecr.io.example.com/{name}:v1"),
        format!("kracr.azurecr.io/{name}:v1"),
        ours(":v1@sha256:short"),
    ];
    for written in untouched {
        let admitted = case.admitted(&pod("stays", &written))?;
        ensure!(
            image(&admitted, "app") == written,
            "{written} became {}",
            image(&admitted, "app")
        );
        ensure!(
            annotation(&admitted, "catamaran.dev/original-images").is_empty(),
            "{written} is annotated"
        );
    }
    let tails = [
        ":v1".to_owned(),
        format!("@{digest}"),
        format!(":v1@{digest}"),
        ":never-seen".to_owned(),
    ];
    let moving = tails.iter().map(|tail| (ours(tail), tail.as_str()));
    // Other spellings of the same registry.
    let spellings = ["ghcr.io:443", "GHCR.io"].map(|registry| (format!("{registry}/devopskev/{name}:v1"), ":v1"));
    for (written, tail) in moving.chain(spellings) {
        let admitted = case.admitted(&pod("moves", &written))?;
        let expected = format!("kracr.azurecr.io/{name}{tail}");
        ensure!(
            image(&admitted, "app") == expected,
            "{written} became {}",
            image(&admitted, "app")
        );
    }
    let reasons = case.admitted(&pod("moves", &ours(":never-seen")))?;
    let reasons = annotation(&reasons, "catamaran.dev/reasons");
    ensure!(reasons == r#"{"app":"Unverified"}"#, "reasons {reasons}");
    Ok(())
}

fn strict_mirrors_keep_unverified_tags(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["known"])?;
    case.mirror(|spec| spec["rewrite"] = json!({"unverifiedTags": "Keep"}))?;
    // A minute would be too short for a pass to find it by itself.
    let since = Instant::now();
    case.patch_spec(&json!({"parity": {"interval": "1h"}}))?;
    // A changed spec is verified at once; that pass must be over before there is anything new to find.
    let key = ("", case.name.as_str());
    case.ground
        .mirrors
        .until("the changed spec observed", PATIENCE, key, since, |mirror| {
            mirror["spec"]["parity"]["interval"] == "1h"
                && number(mirror, "/status/observedGeneration") == number(mirror, "/metadata/generation")
        })?;
    std::thread::sleep(Duration::from_secs(4));
    let known = case.admitted_image("known", &case.image(Registry::Ghcr, "known"))?;
    ensure!(known == case.image(Registry::Acr, "known"), "the known tag is {known}");
    case.push(&["new"])?;
    let since = Instant::now();
    let new = case.admitted_image("new", &case.image(Registry::Ghcr, "new"))?;
    ensure!(
        new == case.image(Registry::Ghcr, "new"),
        "the unverified tag became {new}"
    );
    // The pod uses it, so it is verified out of turn.
    let end = since + PATIENCE;
    loop {
        let admitted = case.admitted(&pod("next", &case.image(Registry::Ghcr, "new")))?;
        if image(&admitted, "app") == case.image(Registry::Acr, "new") {
            break;
        }
        ensure!(Instant::now() < end, "the tag is not verified, though a pod uses it");
    }
    case.bar(
        "pod with an unverified tag -> tag verified",
        since.elapsed(),
        Duration::from_secs(3),
    )
}

fn only_selected_namespaces_are_rewritten(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|spec| spec["namespaceSelector"] = json!({"matchLabels": {"example.com/mirrored": "true"}}))?;
    let written = case.image(Registry::Ghcr, "v1");
    let admitted = case.admitted(&pod("app", &written))?;
    ensure!(
        image(&admitted, "app") == written,
        "before the label, the pod became {}",
        image(&admitted, "app")
    );
    let since = Instant::now();
    let label = ["label", "namespace", &case.name, "example.com/mirrored=true"];
    case.ground.cluster.kubectl(&label)?;
    let (asked, wanted) = (pod("app", &written), case.image(Registry::Acr, "v1"));
    case.admitted_as(&asked, "rewritten by its label", since, PATIENCE, |pod| {
        image(pod, "app") == wanted
    })
    .map(drop)
}

fn kubectl_tells_how_it_stands(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1", "v2"])?;
    case.mirror(|_| {})?;
    let kubectl = |arguments: &[&str]| case.ground.cluster.kubectl(arguments);
    let short = kubectl(&["get", "regm"])?;
    for column in ["PRIMARY", "FALLBACK", "ACTIVE", "IN-SYNC", "READY", "AGE"] {
        ensure!(short.contains(column), "there is no column {column}");
    }
    let wide = kubectl(&["get", "regm", "-o", "wide"])?;
    for column in ["TAGS", "DIVERGED", "UNCHANGED", "STATUS"] {
        ensure!(wide.contains(column), "there is no column {column}");
    }
    let described = kubectl(&["describe", "regm", &case.name])?;
    for word in ["ServingFromPrimary", "TagsMatch", "Reachable"] {
        ensure!(described.contains(word), "describe does not tell {word}: {described}");
    }
    ensure!(
        kubectl(&["get", "catamaran"])?.contains(&case.name),
        "the category lists it"
    );
    for (command, printed) in [
        ("get regm", &short),
        ("get regm -o wide", &wide),
        ("describe regm", &described),
    ] {
        case.note(format!("$ kubectl {command}\n{printed}"));
    }
    let pods = kubectl(&["-n", operator::NAMESPACE, "get", "pods", "-o", "wide"])?;
    case.note(format!("$ kubectl get pods\n{pods}"));
    Ok(())
}
