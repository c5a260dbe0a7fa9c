//! Private repositories on both sides: pods pull with a secret that the operator mints, and after the flip with their own.

mod azure;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_cluster::{Fault, Registry};
use catamaran_e2e::ground::PATIENCE;
use catamaran_e2e::manifests::{self, pod};
use catamaran_e2e::runner::Scenario;
use catamaran_e2e::view::{annotation, image, items, pull_secrets, text};
use catamaran_e2e::{Case, operator};
use serde_json::{Value, json};

use azure::Azure;
pub use azure::{EMULATOR, emulate};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "private-images-are-pulled-with-minted-secrets-and-own-ones",
    run: private_images_are_pulled,
}];

/// The secret that is minted.
const MINTED: &str = "acr-pull";
/// One that the mirror wants minted and somebody else has made.
const FOREIGN: &str = "acr-foreign";
/// The user's own, for the other side.
const OWN: &str = "ghcr-pull";
/// How long the registry's tokens live, in seconds; three hours in earnest. The operator looks once a minute whether half of a life
/// is over, so that a life of less than two minutes could end in between.
const LIFE: u32 = 150;
/// Annotations of a minted secret.
const MINTED_AT: &str = "catamaran.dev/minted";
const EXPIRES_AT: &str = "catamaran.dev/expires";
/// The user name that stands for "the password is a refresh token".
const TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

fn private_images_are_pulled(case: &Case<'_>) -> anyhow::Result<()> {
    let mut azure = Azure::start(&case.ground.cluster, LIFE)?;
    let set = |index: usize, (name, value): &(&str, String)| {
        [
            format!("extraEnv[{index}].name={name}"),
            format!("extraEnv[{index}].value={value}"),
        ]
    };
    let environment = azure::environment();
    let mut values: Vec<String> = operator::VALUES.map(str::to_owned).into();
    values.extend(
        environment
            .iter()
            .enumerate()
            .flat_map(|(index, pair)| set(index, pair)),
    );
    values.push(format!("pullSecrets.namespaces={{{}}}", case.name));
    values.push(format!("pullSecrets.names={{{MINTED},{FOREIGN}}}"));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let result = operator::install(&case.ground.cluster, &values).and_then(|()| scenario(case, &mut azure));
    // As it was found, for the scenario that comes next.
    let restored = operator::install(&case.ground.cluster, &operator::VALUES);
    result.and(restored)
}

fn scenario(case: &Case<'_>, azure: &mut Azure<'_>) -> anyhow::Result<()> {
    let repository = repository(case);
    for tag in ["v1", "v2", "v3"] {
        case.ground.push(&Registry::ALL, &repository, tag)?;
    }
    nobody_may_pull_without_a_credential(case)?;
    let before = secrets_of_others(case)?;
    let begun = the_secret_is_named_before_it_exists(case, azure)?;
    case.ready("first", begun, PATIENCE)?;
    let first = case.ground.get(&case.name, &format!("secret/{MINTED}"))?;
    it_is_for_one_registry_and_says_what_it_is(&first)?;
    case.ground.observed(&case.name, begun)?;
    checked_as_the_operator_does(case)?;
    it_is_minted_again_before_it_ends(case, azure, &first)?;
    after_the_flip_pods_pull_with_their_own(case)?;
    told_that_one_is_foreign(case)?;
    with_the_mirror_goes_what_was_minted(case)?;
    ensure!(
        versions_of_others(case)? == before,
        "Secrets of others have been touched"
    );
    Ok(())
}

/// What the mirror knows the repository by: both registries keep what is below `private` from anonymous users.
fn repository(case: &Case<'_>) -> String {
    format!("private/{}", case.name)
}

fn private_image(case: &Case<'_>, on: Registry, tag: &str) -> String {
    manifests::image(on, &repository(case), tag)
}

fn nobody_may_pull_without_a_credential(case: &Case<'_>) -> anyhow::Result<()> {
    for registry in Registry::ALL {
        let status = token_status(case, registry, None)?;
        ensure!(
            status == "401" || status == "403",
            "{registry} gives anybody a token: {status}"
        );
    }
    Ok(())
}

/// What the token endpoint says to a user who wants to pull.
fn token_status(case: &Case<'_>, registry: Registry, user: Option<&str>) -> anyhow::Result<String> {
    let path = manifests::path(registry, &repository(case));
    let host = registry.host();
    let url = format!(
        "https://{host}{}?service={host}&scope=repository:{path}:pull",
        registry.token_path()
    );
    let mut curl = case.ground.cluster.command("curl");
    curl.args(["-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    if let Some(user) = user {
        curl.args(["--user", user]);
    }
    let output = curl.output().context("failed to run curl")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The user's own Secrets: one to pull with from the other side, and one under a name that the mirror wants minted.
fn secrets_of_others(case: &Case<'_>) -> anyhow::Result<Vec<String>> {
    let (username, password) = case.ground.cluster.credentials();
    for (name, registry) in [(OWN, Registry::Ghcr.host()), (FOREIGN, "registry.test")] {
        let config = json!({"auths": {registry: {"username": username, "password": password}}}).to_string();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name}, "stringData": {".dockerconfigjson": config},
        });
        case.ground.apply(&case.name, &secret)?;
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": format!("{}-pull", case.name), "annotations": manifests::for_registries()},
        "stringData": {"username": username, "password": password},
    });
    case.ground.apply(operator::NAMESPACE, &secret)?;
    versions_of_others(case)
}

fn versions_of_others(case: &Case<'_>) -> anyhow::Result<Vec<String>> {
    let version = |name| {
        let secret = case.ground.get(&case.name, &format!("secret/{name}"))?;
        Ok(text(&secret, "/metadata/resourceVersion").to_owned())
    };
    [OWN, FOREIGN].into_iter().map(version).collect()
}

/// A slow identity service holds up minting, and no pod.
fn the_secret_is_named_before_it_exists(case: &Case<'_>, azure: &mut Azure<'_>) -> anyhow::Result<Instant> {
    azure.identity.tell("latency 8000")?;
    let begun = Instant::now();
    let mut mirror = manifests::mirror(&case.name, &[&repository(case)]);
    let spec = &mut mirror["spec"];
    spec["primary"]["provider"] = json!("azure");
    spec["primary"]["identity"] = json!({"kind": "Managed"});
    spec["primary"]["imagePullSecrets"] = json!([{"name": MINTED, "mint": true}, {"name": FOREIGN, "mint": true}]);
    spec["fallback"]["secretRef"] = json!({"name": format!("{}-pull", case.name)});
    spec["fallback"]["imagePullSecrets"] = json!([{"name": OWN}]);
    case.ground.apply("default", &mirror)?;
    let written = private_image(case, Registry::Acr, "v1");
    let asked = pod("first", &written);
    let admitted = case.admitted_as(&asked, "with a pull secret", begun, PATIENCE, |pod| {
        !pull_secrets(pod).is_empty()
    })?;
    let added = pull_secrets(&admitted);
    ensure!(added == [MINTED, FOREIGN, OWN], "the pull secrets are {added:?}");
    case.create_pod(&pod("first", &written))?;
    ensure!(
        !is_minted(case)?,
        "the pull secret was there before the pod that names it"
    );
    azure.identity.tell("latency 0")?;
    Ok(begun)
}

/// In one of its pods, with the identity that these have.
fn checked_as_the_operator_does(case: &Case<'_>) -> anyhow::Result<()> {
    let namespace = operator::NAMESPACE;
    let command = [
        "/catamaran",
        "check",
        &case.name,
        "--namespace",
        namespace,
        "--with-identity",
    ];
    let exec = ["-n", namespace, "exec", "deployment/catamaran", "--"];
    let checked = case.ground.cluster.kubectl(&[&exec[..], &command].concat())?;
    for seen in [
        "the credential is an identity of Azure's",
        "serves its blobs from",
        "lists its tags",
    ] {
        ensure!(checked.contains(seen), "{seen:?} is not in what was printed: {checked}");
    }
    Ok(())
}

fn it_is_for_one_registry_and_says_what_it_is(secret: &Value) -> anyhow::Result<()> {
    ensure!(
        text(secret, "/type") == "kubernetes.io/dockerconfigjson"
            && text(secret, "/metadata/labels/app.kubernetes.io~1managed-by") == "catamaran",
        "the pull secret is {}",
        secret["metadata"]
    );
    let owner = &secret["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "RegistryMirror", "the pull secret belongs to {owner}");
    let config = config_of(secret)?;
    let auths = config["auths"].as_object().context("there is nothing to pull with")?;
    ensure!(
        auths.keys().eq([Registry::Acr.host()]) && config["auths"][Registry::Acr.host()]["username"] == TOKEN_USER,
        "the pull secret is for {:?}",
        auths.keys()
    );
    Ok(())
}

fn config_of(secret: &Value) -> anyhow::Result<Value> {
    let encoded = text(secret, "/data/.dockerconfigjson");
    let decoded = BASE64_STANDARD
        .decode(encoded)
        .context("failed to read the pull secret")?;
    Ok(serde_json::from_slice(&decoded)?)
}

/// The user and token in a minted secret, as curl takes them.
fn user_of(secret: &Value) -> anyhow::Result<String> {
    let config = config_of(secret)?;
    let password = &config["auths"][Registry::Acr.host()]["password"];
    Ok(format!(
        "{TOKEN_USER}:{}",
        password.as_str().context("there is no password")?
    ))
}

fn seconds(secret: &Value, key: &str) -> anyhow::Result<i64> {
    let time: jiff::Timestamp = annotation(secret, key).parse()?;
    Ok(time.as_second())
}

fn it_is_minted_again_before_it_ends(case: &Case<'_>, azure: &mut Azure<'_>, first: &Value) -> anyhow::Result<()> {
    let (minted, expires) = (seconds(first, MINTED_AT)?, seconds(first, EXPIRES_AT)?);
    let life = expires - minted;
    ensure!(
        (60..=i64::from(LIFE)).contains(&life),
        "the first token lives for {life} s"
    );
    let second = loop {
        let secret = case.ground.get(&case.name, &format!("secret/{MINTED}"))?;
        if seconds(&secret, MINTED_AT)? > minted {
            break secret;
        }
        ensure!(
            jiff::Timestamp::now().as_second() < expires,
            "the token has ended and was not minted again"
        );
        std::thread::sleep(Duration::from_millis(500));
    };
    let again = seconds(&second, MINTED_AT)?;
    case.note(format!(
        "minted for {life} s, and again after {} s: {} s before its end",
        again - minted,
        expires - again
    ));
    ensure!(
        again < expires && seconds(&second, EXPIRES_AT)? > expires,
        "the second secret is {}",
        second["metadata"]["annotations"]
    );
    // For the registry the first token's time is over.
    azure.registry(&format!("advance {}", expires - again))?;
    for (secret, expected) in [(first, "401"), (&second, "200")] {
        let status = token_status(case, Registry::Acr, Some(&user_of(secret)?))?;
        ensure!(status == expected, "a token is answered {status} instead of {expected}");
    }
    let since = Instant::now();
    case.create_pod(&pod("second", &private_image(case, Registry::Acr, "v2")))?;
    let ready = case.ready("second", since, PATIENCE)?;
    ensure!(
        image(&ready.object, "app") == private_image(case, Registry::Acr, "v2"),
        "the second pod runs {}",
        image(&ready.object, "app")
    );
    let counts = azure.registry("counts")?;
    case.note(format!("requests to the registry: {}", counts["requests"]));
    Ok(())
}

fn after_the_flip_pods_pull_with_their_own(case: &Case<'_>) -> anyhow::Result<()> {
    let since = case.ground.fault(Registry::Acr, Fault::BlackHole)?;
    let flipped = case.active("Fallback", since, PATIENCE)?;
    case.bar("black hole -> flipped", flipped - since, Duration::from_secs(10))?;
    let since = Instant::now();
    let created = case.create_pod(&pod("third", &private_image(case, Registry::Acr, "v3")))?;
    ensure!(
        image(&created, "app") == private_image(case, Registry::Ghcr, "v3"),
        "after the flip the pod gets {}",
        image(&created, "app")
    );
    case.ready("third", since, PATIENCE)?;
    case.ground.cluster.heal(Registry::Acr)
}

fn told_that_one_is_foreign(case: &Case<'_>) -> anyhow::Result<()> {
    let selector = format!("reason=PullSecretForeign,involvedObject.name={}", case.name);
    let arguments = ["get", "events", "-A", "-o", "json", "--field-selector", &selector];
    let events = items(&serde_json::from_str(&case.ground.cluster.kubectl(&arguments)?)?);
    ensure!(
        events.iter().any(|event| text(event, "/message").contains(FOREIGN)),
        "nobody was told that '{FOREIGN}' is somebody else's: {events:?}"
    );
    Ok(())
}

fn is_minted(case: &Case<'_>) -> anyhow::Result<bool> {
    let get = [
        "-n",
        &case.name,
        "get",
        "secret",
        MINTED,
        "--ignore-not-found",
        "-o",
        "name",
    ];
    Ok(!case.ground.cluster.kubectl(&get)?.trim().is_empty())
}

fn with_the_mirror_goes_what_was_minted(case: &Case<'_>) -> anyhow::Result<()> {
    let since = Instant::now();
    case.ground.cluster.kubectl(&["delete", "registrymirror", &case.name])?;
    while is_minted(case)? {
        ensure!(since.elapsed() < PATIENCE, "the minted secret outlives its mirror");
        std::thread::sleep(Duration::from_millis(200));
    }
    case.note(format!(
        "mirror deleted -> minted secret gone: {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}
