//! Mirrors with mistakes in them, and private registries: said clearly, and nobody else is disturbed.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use catamaran_cluster::Registry;
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{condition, image};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "mistakes-of-one-mirror-do-not-disturb-another",
        run: mistakes_of_one_mirror_do_not_disturb_another,
    },
    Scenario {
        name: "each-way-of-being-unavailable-has-its-reason",
        run: each_way_of_being_unavailable_has_its_reason,
    },
    Scenario {
        name: "kubectl-refuses-what-makes-no-sense",
        run: kubectl_refuses_what_makes_no_sense,
    },
    Scenario {
        name: "private-repositories-need-their-secrets",
        run: private_repositories_need_their_secrets,
    },
];

fn secret(name: &str, kind: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": data,
        "metadata": {
            "name": name, "namespace": operator::NAMESPACE,
            "annotations": {"catamaran.dev/registry-host": Registry::Ghcr.host()},
        },
    })
}

fn mistakes_of_one_mirror_do_not_disturb_another(case: &Case<'_>) -> anyhow::Result<()> {
    case.push(&["v1"])?;
    case.mirror(|_| {})?;
    let wrong_type = format!("{}-wrong-type", case.name);
    let no_ca = format!("{}-no-ca", case.name);
    let only_ghcr = format!("{}-only-ghcr", case.name);
    let ground = case.ground;
    delete_secret(case, &wrong_type)?;
    ground.apply(
        operator::NAMESPACE,
        &secret(&wrong_type, "Opaque", &json!({"password": "hunter2"})),
    )?;
    ground.apply(
        operator::NAMESPACE,
        &secret(&no_ca, "Opaque", &json!({"something": "else"})),
    )?;
    let login = json!({"username": "anyone", "password": "hunter2"});
    ground.apply(
        operator::NAMESPACE,
        &secret(&only_ghcr, "kubernetes.io/basic-auth", &login),
    )?;
    each_is_told(case, [&wrong_type, &no_ca, &only_ghcr])?;
    a_corrected_secret_is_taken_up(case, &wrong_type)?;
    the_good_one_works(case)
}

fn delete_secret(case: &Case<'_>, name: &str) -> anyhow::Result<()> {
    let arguments = [
        "-n",
        operator::NAMESPACE,
        "delete",
        "secret",
        "--ignore-not-found",
        name,
    ];
    case.ground.cluster.kubectl(&arguments).map(drop)
}

fn broken(name: &str, repository: &str) -> Value {
    manifests::mirror(&format!("broken-{name}"), &[repository])
}

fn each_is_told(case: &Case<'_>, [wrong_type, no_ca, only_ghcr]: [&str; 3]) -> anyhow::Result<()> {
    let named = |name: &str| json!({"name": name});
    let mut missing = broken("missing-secret", "a");
    missing["spec"]["primary"]["secretRef"] = named("nowhere");
    let mut wrong = broken("wrong-type", "b");
    wrong["spec"]["fallback"]["secretRef"] = named(wrong_type);
    let mut without = broken("no-ca", "c");
    without["spec"]["primary"]["certSecretRef"] = named(no_ca);
    let mut elsewhere = broken("other-host", "d");
    elsewhere["spec"]["primary"]["secretRef"] = named(only_ghcr);
    let advice = format!("secret {only_ghcr} catamaran.dev/registry-host=ghcr.io,kracr.azurecr.io");
    let overlap = broken("overlap", &case.name);
    for (mirror, reason, word) in [
        (missing, "SecretNotFound", "nowhere"),
        (wrong, "SecretInvalid", wrong_type),
        (without, "SecretInvalid", no_ca),
        (elsewhere, "SecretInvalid", &advice),
        (overlap, "Overlapping", case.name.as_str()),
    ] {
        let name = mirror["metadata"]["name"].as_str().unwrap_or_default();
        let since = Instant::now();
        case.ground.apply("default", &mirror)?;
        let told = case
            .ground
            .condition(name, ("Stalled", "True", reason), since, PATIENCE)?;
        let message = condition(&told.object, "Stalled").message;
        ensure!(message.contains(word), "the message does not name {word}: {message}");
        ensure!(!message.contains("hunter2"), "the message tells a secret");
        case.note(format!("{name}: {reason}: {message}"));
    }
    Ok(())
}

/// Without a word to the mirror.
fn a_corrected_secret_is_taken_up(case: &Case<'_>, wrong_type: &str) -> anyhow::Result<()> {
    let ground = case.ground;
    let since = Instant::now();
    let corrected = json!({"username": "anyone", "password": "wrong"});
    delete_secret(case, wrong_type)?;
    ground.apply(
        operator::NAMESPACE,
        &secret(wrong_type, "kubernetes.io/basic-auth", &corrected),
    )?;
    let told = ground.mirrors.until(
        "the corrected Secret",
        PATIENCE,
        ("", "broken-wrong-type"),
        since,
        |mirror| condition(mirror, "Stalled").status.is_empty(),
    )?;
    case.note(format!(
        "Secret corrected -> no longer Stalled: {:.1} s",
        (told.at - since).as_secs_f64()
    ));
    Ok(())
}

fn the_good_one_works(case: &Case<'_>) -> anyhow::Result<()> {
    let mirror = case.latest()?;
    ensure!(
        condition(&mirror, "Ready").status == "True",
        "the good mirror is {:?}",
        condition(&mirror, "Ready")
    );
    ensure!(
        condition(&mirror, "Stalled").status.is_empty(),
        "{:?}",
        condition(&mirror, "Stalled")
    );
    let admitted = case.admitted(&pod("fine", &case.image(Registry::Ghcr, "v1")))?;
    ensure!(
        image(&admitted, "app") == case.image(Registry::Acr, "v1"),
        "its pods get {}",
        image(&admitted, "app")
    );
    Ok(())
}

fn each_way_of_being_unavailable_has_its_reason(case: &Case<'_>) -> anyhow::Result<()> {
    let ground = case.ground;
    let mut untrusted = broken("untrusted", "a");
    untrusted["spec"]["primary"]["certSecretRef"] = Value::Null;
    let mut unknown = broken("unknown-host", "b");
    unknown["spec"]["primary"]["registry"] = json!("registry.nowhere.example.com");
    let mut missing = broken("missing-secret", "c");
    missing["spec"]["primary"]["secretRef"] = json!({"name": "nowhere"});
    for (mirror, status, reason) in [
        (untrusted, "Unknown", "CertificateNotTrusted"),
        (unknown, "False", "DNSFailure"),
        (missing, "Unknown", "CredentialsUnavailable"),
    ] {
        let name = mirror["metadata"]["name"].as_str().unwrap_or_default();
        let since = Instant::now();
        ground.apply("default", &mirror)?;
        let told = ground.condition(name, ("PrimaryAvailable", status, reason), since, PATIENCE)?;
        case.note(format!(
            "{reason}: {}",
            condition(&told.object, "PrimaryAvailable").message
        ));
    }
    Ok(())
}

fn kubectl_refuses_what_makes_no_sense(case: &Case<'_>) -> anyhow::Result<()> {
    type Change = fn(&mut Value);
    let mistakes: [(Change, &str); 3] = [
        (|spec| spec["fallback"] = spec["primary"].clone(), "must differ"),
        (
            |spec| spec["repositories"][0]["tags"] = json!({"include": ["(unclosed"]}),
            "regular expression",
        ),
        (
            |spec| spec["primary"]["registry"] = json!("https://kracr.azurecr.io/path"),
            "spec.primary.registry",
        ),
    ];
    for (change, expected) in mistakes {
        let mut mirror = manifests::mirror(&case.name, &[&case.name]);
        change(&mut mirror["spec"]);
        match case.ground.apply("default", &mirror) {
            Ok(printed) => bail!("it was accepted: {printed}"),
            Err(error) => {
                let refusal = error.to_string();
                ensure!(
                    refusal.contains(expected),
                    "the refusal does not tell \"{expected}\": {refusal}"
                );
                case.note(
                    refusal
                        .split_once("is invalid: ")
                        .map_or(refusal.clone(), |(_, rest)| rest.to_owned()),
                );
            }
        }
    }
    Ok(())
}

fn private_repositories_need_their_secrets(case: &Case<'_>) -> anyhow::Result<()> {
    let ground = case.ground;
    let repository = format!("private/{}", case.name);
    ground.push(&Registry::ALL, &repository, "v1")?;
    let (user, password) = ground.cluster.credentials();
    let pull = format!("{}-pull", case.name);
    let docker_config = |password: &str| {
        let entry = json!({"username": user, "password": password});
        let config = json!({"auths": {Registry::Acr.host(): entry, Registry::Ghcr.host(): entry}});
        json!({".dockerconfigjson": config.to_string()})
    };
    let docker_secret = |password: &str| secret(&pull, "kubernetes.io/dockerconfigjson", &docker_config(password));
    ground.apply(operator::NAMESPACE, &docker_secret("wrong"))?;
    let mut mirror = manifests::mirror(&case.name, &[&repository]);
    for side in ["primary", "fallback"] {
        mirror["spec"][side]["secretRef"] = json!({"name": pull});
        mirror["spec"][side]["imagePullSecrets"] = json!([{"name": pull}]);
    }
    let since = Instant::now();
    ground.apply("default", &mirror)?;
    // The same mistake as the registries see it, 401 at one and 403 at the other, is told as the same.
    ground.condition(
        &case.name,
        ("PrimaryAvailable", "Unknown", "Unauthorized"),
        since,
        PATIENCE,
    )?;
    let told = ground.condition(
        &case.name,
        ("FallbackAvailable", "Unknown", "Unauthorized"),
        since,
        PATIENCE,
    )?;
    case.note(condition(&told.object, "FallbackAvailable").message);
    let text = told.object.to_string();
    ensure!(!text.contains(&password), "the status tells a secret");
    let since = Instant::now();
    ground.apply(operator::NAMESPACE, &docker_secret(&password))?;
    let seen = ground.observed(&case.name, since)?;
    case.note(format!(
        "password corrected -> Ready: {:.1} s",
        (seen.at - since).as_secs_f64()
    ));
    // The same Secret where the pods are.
    let mut copy = docker_secret(&password);
    copy["metadata"]["namespace"] = json!(case.name);
    case.apply(&copy)?;
    let since = Instant::now();
    case.apply(&pod("private", &manifests::image(Registry::Ghcr, &repository, "v1")))?;
    let seen = case.ready("private", since, PATIENCE)?;
    let expected = manifests::image(Registry::Acr, &repository, "v1");
    ensure!(
        image(&seen.object, "app") == expected,
        "the pod runs {}",
        image(&seen.object, "app")
    );
    let logs = operator::logs(&ground.cluster, Duration::from_mins(30))?;
    ensure!(
        !logs.contains(&password) && !logs.contains("hunter2"),
        "the log tells a secret"
    );
    Ok(())
}
