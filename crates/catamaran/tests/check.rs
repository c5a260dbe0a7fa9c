//! `catamaran check` against registries on loopback, over TLS, and an API server that answers from a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do"
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};

use catamaran_scripted_registry::{Auth, Certificate, Fault, Registry, What};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

use support::{Ran, catamaran};

/// A registry with one image, and a home directory with its authority's certificate.
struct Harness {
    registry: Registry,
    home: TempDir,
}

impl Harness {
    async fn start() -> Harness {
        let registry = Registry::start().await.unwrap();
        registry.push("team/web", "3f2a91c", "first");
        registry.push("team/site", "3f2a91c", "first");
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("ca.pem"), registry.ca_pem()).unwrap();
        Harness { registry, home }
    }

    fn target(&self) -> String {
        format!("{}/team/web", self.registry.address())
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let home = self.home.path().to_owned();
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            catamaran(&home, &arguments)
        })
        .await
        .unwrap()
    }

    /// Checks the repository, trusting the registry's authority.
    async fn check(&self, more: &[&str]) -> Ran {
        let (target, ca) = (self.target(), self.home.path().join("ca.pem").display().to_string());
        self.run(&[&["check", &target, "--ca-file", &ca], more].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registry_that_passes_ends_with_0_and_is_plain_on_pipes() {
    let harness = Harness::start().await;
    let ran = harness.check(&[]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], harness.target());
    assert_eq!(lines[1], "-".repeat(harness.target().len()));
    assert_eq!(lines[2], "√ resolves to 127.0.0.1 (private)");
    assert!(
        ran.out
            .contains("√ shows a certificate that is trusted\n    CN=localhost by CN=scripted registry")
    );
    assert!(ran.out.contains("√ lists its tags: there is one\n"), "{}", ran.out);
    assert!(
        ran.out.contains("√ serves the manifest of '3f2a91c'\n    sha256:"),
        "{}",
        ran.out
    );
    assert_eq!(lines.last(), Some(&"√ every step passed"));
    assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failing_step_ends_with_1_a_cross_and_a_hint() {
    type Script = fn(&Registry);
    let cases: [(Script, &str, &str); 7] = [
        (
            |registry| {
                let denied = What::error(403, "DENIED", "client with IP '20.1.2.3' is not allowed access");
                registry.fault(Fault::on("/", denied));
            },
            "× refuses this network",
            "hint: let this network in",
        ),
        (
            |registry| registry.set_certificate(Certificate::Expired),
            "× shows no certificate that can be trusted",
            "hint: renew",
        ),
        (
            |registry| registry.fault(Fault::on("/v2/", What::html(200))),
            "× does not answer as a registry",
            "hint: a sign-in page",
        ),
        (
            |registry| {
                let foreign = r#"Bearer realm="https://evil.test/token",service="x""#;
                registry.fault(Fault::on("/v2/", What::challenge(foreign)));
            },
            "× sends for tokens to a host that is not admitted",
            "hint: if that host is the registry's own token service, admit it by --token-host",
        ),
        (
            |registry| registry.fault(Fault::on("/token", What::status(401))),
            "× does not let us in",
            "hint: `docker login 127.0.0.1:",
        ),
        (
            |registry| registry.delete_repository("team/web"),
            "× has no such repository",
            "hint: is 'team/web' the whole path",
        ),
        (
            |registry| registry.fault(Fault::on("/blobs/", What::status(404))),
            "× serves no blobs",
            "hint: the manifest is there",
        ),
    ];
    for (script, says, hint) in cases {
        let harness = Harness::start().await;
        script(&harness.registry);
        let ran = harness.check(&[]).await;
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{ran:?}");
        assert!(ran.out.contains(says) && ran.out.contains(hint), "{says}: {}", ran.out);
        assert_eq!(ran.out.lines().last(), Some("× a step failed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_nobody_listens_on_takes_no_connection() {
    let harness = Harness::start().await;
    // Bound and let go again, so that nobody is there.
    let gone = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let ran = harness.run(&["check", &format!("{gone}/team/web")]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("× takes no connection\n"), "{}", ran.out);
    assert!(ran.out.contains("connection refused"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_targets_are_checked_and_one_failure_is_the_verdict() {
    let harness = Harness::start().await;
    let missing = format!("{}/team/missing", harness.registry.address());
    let ran = harness.check(&[&missing, &harness.target()]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.out.matches("\u{221a} takes connections").count(), 3, "{}", ran.out);
    assert_eq!(ran.out.lines().last(), Some("× a step failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ca_is_answered_with_the_option_that_fixes_it() {
    let harness = Harness::start().await;
    let ran = harness.run(&["check", &harness.target()]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains("hint: give the CA's certificate by --ca-file"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("CN=localhost by CN=scripted registry"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_each_step_its_result_and_the_hint() {
    let harness = Harness::start().await;
    harness.registry.untag("team/web", "3f2a91c");
    let ran = harness.check(&["-o", "json"]).await;
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["result"]), (1, &json!("failed")));
    assert_eq!(document["targets"][0]["target"], harness.target());
    let steps = document["targets"][0]["steps"].as_array().unwrap();
    let told: Vec<(&str, &str)> = steps
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["result"].as_str().unwrap()))
        .collect();
    let expected = [
        ("dns", "ok"),
        ("connect", "ok"),
        ("tls", "ok"),
        ("challenge", "ok"),
        ("credential", "ok"),
        ("token", "ok"),
        ("tags", "ok"),
        ("manifest", "failed"),
    ];
    assert_eq!(told, expected);
    assert!(
        steps[7]["hint"].as_str().unwrap().contains("push an image"),
        "{document:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_used_named_and_never_shown() {
    let harness = Harness::start().await;
    harness.registry.set_auth(Auth::Basic);
    harness.registry.set_account(Some(("bot", "hunter2-canary")));
    // bot:hunter2-canary
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"Ym90Omh1bnRlcjItY2FuYXJ5"}}}}}}"#,
        harness.registry.address()
    );
    let path = harness.home.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    for (output, code) in [("table", 0), ("json", 0)] {
        let ran = harness
            .check(&["--docker-config", &path.display().to_string(), "-o", output])
            .await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.contains("as 'bot'"), "{}", ran.out);
        let everything = ran.out + &ran.err;
        assert!(
            !everything.contains("hunter2") && !everything.contains("Ym90Omh1"),
            "{everything}"
        );
    }
}

/// An API server that answers some paths, and everything else with 404.
fn api_server(answers: HashMap<String, (&'static str, Value)>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            assert!(
                lines.any(|line| line.is_empty()),
                "a request's head ends with an empty line"
            );
            let path = first.split([' ', '?']).nth(1).unwrap();
            let missing = ("404 Not Found", status(404, "not found"));
            let (code, body) = answers.get(path).unwrap_or(&missing);
            let body = body.to_string();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {code}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    address
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": message, "reason": if code == 404 { "NotFound" } else { "Forbidden" }, "code": code})
}

fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "catamaran-system"}, "data": data})
}

const MIRRORS: &str = "/apis/catamaran.dev/v1alpha1/registrymirrors";
const SECRETS: &str = "/api/v1/namespaces/catamaran-system/secrets";

/// A mirror whose sides are both on the harness's registry, and what the API server says about its Secrets.
fn with_mirror(harness: &Harness, secrets: &[(&str, (&'static str, Value))]) -> String {
    let credential = json!({"secretRef": {"name": "pull"}});
    with_primary(harness, &credential, secrets)
}

/// The same, whose primary is authenticated with in a way of its own.
fn with_primary(harness: &Harness, credential: &Value, secrets: &[(&str, (&'static str, Value))]) -> String {
    let mirror = mirror(harness, credential);
    let mut answers = HashMap::from([(format!("{MIRRORS}/images"), ("200 OK", mirror))]);
    for (name, answer) in secrets {
        answers.insert(format!("{SECRETS}/{name}"), answer.clone());
    }
    kubeconfig(harness, answers)
}

fn mirror(harness: &Harness, credential: &Value) -> Value {
    let registry = harness.registry.address().to_string();
    let mut primary = json!({"registry": registry, "certSecretRef": {"name": "ca"}});
    let (into, from) = (primary.as_object_mut().unwrap(), credential.as_object().unwrap());
    into.extend(from.clone());
    json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "images", "uid": "1"},
        "spec": {
            "primary": primary,
            "fallback": {"registry": registry, "prefix": "team", "certSecretRef": {"name": "ca"}},
            "repositories": [{"name": "site", "primary": "team/web"}],
        },
    })
}

/// Leads to an API server that gives these answers.
fn kubeconfig(harness: &Harness, answers: HashMap<String, (&'static str, Value)>) -> String {
    let server = api_server(answers);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    });
    let path = harness.home.path().join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path.display().to_string()
}

/// The registry's authority and its only account, as Secrets hold them.
fn good_secrets(harness: &Harness) -> [(&'static str, (&'static str, Value)); 2] {
    use base64::Engine as _;
    let base64 = base64::prelude::BASE64_STANDARD;
    let ca = secret("ca", &json!({"ca.crt": base64.encode(harness.registry.ca_pem())}));
    let account = json!({"username": base64.encode("bot"), "password": base64.encode("hunter2")});
    let mut pull = secret("pull", &account);
    pull["type"] = json!("kubernetes.io/basic-auth");
    pull["metadata"]["annotations"] = json!({"catamaran.dev/registry-host": harness.registry.address().to_string()});
    [("ca", ("200 OK", ca)), ("pull", ("200 OK", pull))]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_mirror_are_checked_with_its_secrets() {
    let harness = Harness::start().await;
    let kubeconfig = with_mirror(&harness, &good_secrets(&harness));
    let ran = harness.run(&["check", "images", "--kubeconfig", &kubeconfig]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let registry = harness.registry.address();
    for heading in [
        format!("images, Primary: {registry}/team/web\n"),
        format!("images, Fallback: {registry}/team/site\n"),
    ] {
        assert!(ran.out.contains(&heading), "{}", ran.out);
    }
    assert!(
        ran.out.contains("as 'bot'") && !ran.out.contains("hunter2"),
        "{}",
        ran.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_the_mirrors_cluster_are_advice() {
    let harness = Harness::start().await;
    let node =
        json!({"metadata": {"name": "n1"}, "status": {"nodeInfo": {"containerRuntimeVersion": "containerd://2.4.2"}}});
    let mirror = mirror(&harness, &json!({"secretRef": {"name": "pull"}}));
    let mut answers = HashMap::from([
        (format!("{MIRRORS}/images"), ("200 OK", mirror)),
        (
            "/api/v1/nodes".to_owned(),
            ("200 OK", json!({"metadata": {}, "items": [node]})),
        ),
        (
            "/api/v1/nodes/n1/proxy/configz".to_owned(),
            ("403 Forbidden", status(403, "cannot get resource \"nodes/proxy\"")),
        ),
    ]);
    for (name, answer) in good_secrets(&harness) {
        answers.insert(format!("{SECRETS}/{name}"), answer);
    }
    let kubeconfig = kubeconfig(&harness, answers);
    let arguments = ["check", "images", "--kubeconfig", &kubeconfig];
    let ran = harness.run(&arguments).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(
        ran.out.contains("? how 1 node pulls images may not be read\n    n1\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.lines().last(), Some("‼ every step passed"));
    let ran = harness.run(&[&arguments[..], &["--nodes"]].concat()).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = harness.run(&[&arguments[..], &["--with-identity"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.out.contains("n1"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_identity_is_reported_first_and_only_when_asked_for() {
    let harness = Harness::start().await;
    let managed = json!({"provider": "azure", "identity": {"kind": "Managed"}});
    let kubeconfig = with_primary(&harness, &managed, &good_secrets(&harness));
    let arguments = ["check", "images", "--kubeconfig", &kubeconfig];
    let ran = harness.run(&arguments).await;
    assert!(!ran.out.contains("failed to use an identity"), "{}", ran.out);
    let ran = harness.run(&[&arguments[..], &["--with-identity"]].concat()).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    // The host is none of Azure's.
    assert!(ran.out.contains("failed to use an identity"), "{}", ran.out);
    assert!(ran.out.contains("it is for NAME.azurecr.io"), "{}", ran.out);
    assert!(ran.out.contains("in a pod of the operator"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_could_not_be_told_and_one_that_is_missing_failed() {
    let harness = Harness::start().await;
    let [ca, _] = good_secrets(&harness);
    let forbidden = ("403 Forbidden", status(403, "secrets \"pull\" is forbidden"));
    let kubeconfig = with_mirror(&harness, &[ca.clone(), ("pull", forbidden)]);
    let ran = harness.run(&["check", "images", "--kubeconfig", &kubeconfig]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.out
            .contains("? secret 'pull': may not be read in namespace 'catamaran-system'"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.lines().last(), Some("? could not check every step"));

    let kubeconfig = with_mirror(&harness, &[ca]);
    let ran = harness.run(&["check", "images", "--kubeconfig", &kubeconfig]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("× secret 'pull': was not found"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_there_could_not_be_told() {
    let harness = Harness::start().await;
    let kubeconfig = with_mirror(&harness, &[]);
    let ran = harness.run(&["check", "others", "--kubeconfig", &kubeconfig]).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    assert!(ran.err.starts_with("error: "), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_list_mirrors_checks_one_all_the_same() {
    let harness = Harness::start().await;
    let mirror = mirror(&harness, &json!({"secretRef": {"name": "pull"}}));
    let list = json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirrorList",
        "metadata": {}, "items": [mirror]});
    let mut answers = HashMap::from([
        (
            format!("{MIRRORS}/images"),
            ("403 Forbidden", status(403, "cannot get resource")),
        ),
        (MIRRORS.to_owned(), ("200 OK", list)),
    ]);
    for (name, answer) in good_secrets(&harness) {
        answers.insert(format!("{SECRETS}/{name}"), answer);
    }
    let kubeconfig = kubeconfig(&harness, answers);
    let ran = harness.run(&["check", "images", "--kubeconfig", &kubeconfig]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_whatever_the_registry_repeats() {
    use base64::Engine as _;
    let base64 = base64::prelude::BASE64_STANDARD;
    for (path, status) in [
        ("/token", 401),
        ("/token", 403),
        ("/tags/list", 307),
        ("/manifests/", 403),
        ("/blobs/", 500),
    ] {
        let harness = Harness::start().await;
        harness.registry.fault(Fault::on(path, What::Echo(status)));
        let kubeconfig = with_mirror(&harness, &good_secrets(&harness));
        for more in [&[][..], &["-o", "json"]] {
            let ran = harness
                .run(&[&["check", "images", "--kubeconfig", &kubeconfig], more].concat())
                .await;
            assert_eq!(ran.code, 1, "{ran:?}");
            let printed = ran.out.clone() + &ran.err;
            assert!(printed.contains("[redacted]"), "{path} {status}: {printed}");
            for secret in [
                "hunter2".to_owned(),
                base64.encode("hunter2"),
                base64.encode("bot:hunter2"),
            ] {
                assert!(
                    !printed.contains(secret.trim_end_matches('=')),
                    "{path} {status}: {printed}"
                );
            }
        }
    }
}
