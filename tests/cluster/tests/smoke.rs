//! The harness against itself. Needs root and what `make deps` installs.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "smoke/nodes.rs"]
mod nodes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use catamaran_cluster::{ApiServer, Cluster, Fault, Options, Registry, Revisions, TestImage};

const NAME: &str = "smoke";

/// What curl says of an answer that does not come within two seconds.
const LATE: &str = "000 28";

/// Takes the cluster of this name down whether the test passes or not.
struct Ended(&'static str);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Err(error) = Cluster::destroy(self.0) {
            eprintln!("{error:#}");
        }
    }
}

fn options() -> Options {
    Options {
        name: NAME.to_owned(),
        ..Options::default()
    }
}

#[test]
fn a_cluster_does_what_tests_ask_of_it() {
    let _ended = Ended(NAME);
    let cluster = Cluster::up(&options()).unwrap();
    let digest = cluster
        .push(&Registry::ALL, "kevinryan-io", "abc1234", &TestImage::serving("first"))
        .unwrap();
    assert!(digest.starts_with("sha256:"));

    pods_of_both_registries_run(&cluster);
    a_service_is_reached_and_names_resolve(&cluster);
    every_fault_shows_and_heals(&cluster);
    private_repositories_need_credentials(&cluster);
    no_two_varying_errors_are_alike(&cluster);
    a_deleted_tag_is_gone_on_one_side(&cluster);
    a_deleted_manifest_is_gone_on_one_side(&cluster);
    a_removed_image_is_pulled_again(&cluster);
    loaded_images_static_pods_and_image_volumes_run(&cluster);
    helm_installs_a_chart(&cluster);
    what_the_api_server_held_comes_back(&cluster);

    let pid = cluster.anchor_pid();
    assert_eq!(
        Cluster::up(&options()).unwrap().anchor_pid(),
        pid,
        "a cluster that is well stays"
    );
    cluster.restart("kubelet").unwrap();
    assert!(cluster.status().unwrap().iter().all(|component| component.alive));

    output("kill", &["-KILL", &pid.to_string()]);
    let cluster = Cluster::up(&options()).unwrap();
    assert_ne!(cluster.anchor_pid(), pid, "a dead cluster is replaced");
    cluster.down().unwrap();
    nothing_is_left(NAME);
}

#[test]
fn an_api_server_alone_takes_objects_and_ends_with_its_value() {
    let server = ApiServer::start().unwrap();
    let config_map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: c}}";
    server.kubectl_stdin(&["apply", "-f", "-"], config_map).unwrap();
    assert_eq!(
        server
            .kubectl(&["get", "configmap", "a", "-o", "jsonpath={.data.b}"])
            .unwrap(),
        "c"
    );
    assert!(
        server
            .kubectl(&["get", "configmap", "none"])
            .unwrap_err()
            .to_string()
            .contains("NotFound")
    );
    let folder = server.kubeconfig().parent().unwrap().to_owned();
    drop(server);
    assert!(!folder.exists());
    assert_eq!(processes_that_name(&folder.display().to_string()), "");
}

fn run(cluster: &Cluster, pod: &str, image: &str) {
    cluster
        .kubectl(&["run", pod, "--image", image, "--labels", &format!("app={pod}")])
        .unwrap();
}

fn ready(cluster: &Cluster, pod: &str) {
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", &format!("pod/{pod}")])
        .unwrap();
}

/// The same, asked again where a machine that is busy may have been too slow: an answer that is not to be missing.
fn answer(cluster: &Cluster, arguments: &[&str], expected: &str) -> String {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let seen = curl(cluster, arguments);
        if seen != LATE || expected == LATE || Instant::now() > end {
            return seen;
        }
    }
}

/// What curl made of a request from inside: the status and its exit code.
fn curl(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut curl = cluster.command("curl");
    curl.args(["-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code} %{exitcode}"])
        .args(arguments);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

fn pods_of_both_registries_run(cluster: &Cluster) {
    run(cluster, "acr", "kracr.azurecr.io/kevinryan-io:abc1234");
    ready(cluster, "acr");
    // The node has the blobs now; without them gone the second pull would not fetch any.
    cluster
        .kubectl(&["delete", "pod", "acr", "--grace-period=0", "--force"])
        .unwrap();
    cluster.remove_images("kevinryan-io").unwrap();
    run(cluster, "ghcr", "ghcr.io/kevinryan-io:abc1234");
    ready(cluster, "ghcr");
    for registry in Registry::ALL {
        let log = cluster.logs(&format!("front-{registry}")).unwrap();
        let seen = |parts: [&str; 2]| log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(
            seen([&format!("{}?", registry.token_path()), "containerd"]),
            "{registry} gave no token:\n{log}"
        );
        assert!(seen(["/blobs/sha256:", " 307 "]), "{registry} did not redirect:\n{log}");
        assert!(
            seen([registry.data_host(), " 200 "]),
            "{registry}'s blob host gave nothing:\n{log}"
        );
    }
}

fn a_service_is_reached_and_names_resolve(cluster: &Cluster) {
    cluster
        .kubectl(&[
            "expose",
            "pod",
            "ghcr",
            "--name=web",
            "--port=80",
            "--cluster-ip=10.96.0.80",
        ])
        .unwrap();
    let mut answer = String::new();
    let end = Instant::now() + Duration::from_mins(3);
    while answer.is_empty() && Instant::now() < end {
        let output = cluster
            .command("curl")
            .args(["-s", "-m", "2", "http://10.96.0.80/"])
            .output()
            .unwrap();
        answer = String::from_utf8(output.stdout).unwrap();
    }
    assert_eq!(answer, "first on ghcr\n");
    let names = [
        "web.default.svc.cluster.local",
        "ghcr.io",
        "pkg-containers.githubusercontent.com",
    ];
    for (name, exit) in names
        .map(|name| (name, Some(0)))
        .into_iter()
        .chain([("example.com", Some(1))])
    {
        let status = cluster.kubectl(&["exec", "ghcr", "--", "/tool", "lookup", name]);
        assert_eq!(status.is_ok(), exit == Some(0), "{name}: {status:?}");
    }
}

fn every_fault_shows_and_heals(cluster: &Cluster) {
    let (root, blob) = (
        "https://kracr.azurecr.io/v2/",
        "https://kracr.westeurope.data.azurecr.io/",
    );
    let token = "https://kracr.azurecr.io/oauth2/token?scope=repository:kevinryan-io:pull";
    // Curl's exits: 7 no connection, 28 too late, 35 no TLS, 56 broken off.
    let cases = [
        ("black-hole", "000 28", "000 28", "000 28"),
        ("refused", "000 7", "000 7", "000 7"),
        ("node-refused", "000 7", "000 7", "000 7"),
        ("reset", "000 35", "000 35", "000 35"),
        ("silent", "000 28", "000 28", "000 28"),
        ("hang", "000 28", "000 28", "000 28"),
        ("delay=300ms", "401 0", "200 0", "404 0"),
        ("http=503", "503 0", "503 0", "404 0"),
        ("http=429,retry-after=30,path=v2", "429 0", "200 0", "404 0"),
        ("token=503", "401 0", "503 0", "404 0"),
        ("blob-host-dead", "401 0", "200 0", "000 7"),
    ];
    for (fault, at_root, at_token, at_blob) in cases {
        cluster.fault(Registry::Acr, fault.parse().unwrap()).unwrap();
        assert_eq!(cluster.current_fault(Registry::Acr), fault);
        let start = Instant::now();
        assert_eq!(answer(cluster, &[root], at_root), at_root, "{fault} at the root");
        assert!(fault != "delay=300ms" || start.elapsed() >= Duration::from_millis(300));
        assert_eq!(
            answer(cluster, &[token], at_token),
            at_token,
            "{fault} at the token endpoint"
        );
        assert_eq!(answer(cluster, &[blob], at_blob), at_blob, "{fault} at the blob host");
        assert_eq!(
            answer(cluster, &["https://ghcr.io/v2/"], "401 0"),
            "401 0",
            "{fault} is the other registry's too"
        );
    }
    cluster.fault(Registry::Acr, Fault::BlackHole).unwrap();
    cluster
        .push(
            &[Registry::Acr],
            "kevinryan-io",
            "meanwhile",
            &TestImage::new("m", &["true"]),
        )
        .unwrap();
    cluster.heal(Registry::Acr).unwrap();
    for (url, healed) in [(root, "401 0"), (token, "200 0"), (blob, "404 0")] {
        assert_eq!(answer(cluster, &[url], healed), healed, "{url}");
    }
}

fn private_repositories_need_credentials(cluster: &Cluster) {
    cluster
        .push(&Registry::ALL, "private/app", "v1", &TestImage::serving("secret"))
        .unwrap();
    let (user, password) = cluster.credentials();
    let (right, wrong) = (format!("{user}:{password}"), format!("{user}:wrong"));
    for (registry, refusal) in [(Registry::Acr, "401 0"), (Registry::Ghcr, "403 0")] {
        let url = format!(
            "https://{}{}?scope=repository:private/app:pull",
            registry.host(),
            registry.token_path()
        );
        assert_eq!(answer(cluster, &[&url], "401 0"), "401 0");
        assert_eq!(answer(cluster, &["-u", &wrong, &url], refusal), refusal);
        assert_eq!(answer(cluster, &["-u", &right, &url], "200 0"), "200 0");
    }
    let secret = [
        "create",
        "secret",
        "docker-registry",
        "pull",
        "--docker-server=kracr.azurecr.io",
    ];
    let user = format!("--docker-username={user}");
    let password = format!("--docker-password={password}");
    cluster.kubectl(&[&secret[..], &[&user, &password]].concat()).unwrap();
    let overrides = r#"--overrides={"spec":{"imagePullSecrets":[{"name":"pull"}]}}"#;
    cluster
        .kubectl(&["run", "private", "--image=kracr.azurecr.io/private/app:v1", overrides])
        .unwrap();
    ready(cluster, "private");
}

fn a_deleted_tag_is_gone_on_one_side(cluster: &Cluster) {
    cluster
        .push(&Registry::ALL, "kevinryan-io", "old", &TestImage::serving("old"))
        .unwrap();
    cluster.delete_tag(Registry::Acr, "kevinryan-io", "old").unwrap();
    let script = r#"token=$(curl -s "https://$1$2?scope=repository:kevinryan-io:pull" | sed 's/.*token":"//; s/".*//')
        curl -s -H "Authorization: Bearer $token" "https://$1/v2/kevinryan-io/tags/list""#;
    let tags = |registry: Registry| {
        let mut shell = cluster.command("sh");
        let output = shell
            .args(["-c", script, "sh", registry.host(), registry.token_path()])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        tags(Registry::Acr).trim(),
        r#"{"name":"kevinryan-io","tags":["abc1234","meanwhile"]}"#
    );
    assert_eq!(
        tags(Registry::Ghcr).trim(),
        r#"{"name":"kevinryan-io","tags":["abc1234","old"]}"#
    );
}

fn a_deleted_manifest_is_gone_on_one_side(cluster: &Cluster) {
    let digest = cluster
        .push(&Registry::ALL, "purged", "v1", &TestImage::serving("purged"))
        .unwrap();
    cluster.delete_manifest(Registry::Acr, "purged", &digest).unwrap();
    for (registry, tag, by_digest) in [(Registry::Acr, "404", "404"), (Registry::Ghcr, "200", "200")] {
        let script = r#"token=$(curl -s "https://$1$2?scope=repository:purged:pull" | sed 's/.*token":"//; s/".*//')
            curl -sI -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" \
                -H "Accept: application/vnd.oci.image.manifest.v1+json" "https://$1/v2/purged/manifests/$3""#;
        for (reference, expected) in [("v1", tag), (digest.as_str(), by_digest)] {
            let mut shell = cluster.command("sh");
            shell.args(["-c", script, "sh", registry.host(), registry.token_path(), reference]);
            let status = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            assert_eq!(status, expected, "{reference} at {registry}");
        }
    }
}

fn no_two_varying_errors_are_alike(cluster: &Cluster) {
    cluster.fault(Registry::Acr, Fault::VaryingErrors).unwrap();
    let answers: Vec<_> = (0..3)
        .map(|_| {
            let mut curl = cluster.command("curl");
            let output = curl.args(["-s", "-m", "10", "https://kracr.azurecr.io/v2/"]).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        })
        .collect();
    cluster.heal(Registry::Acr).unwrap();
    assert!(
        answers.iter().all(|answer| answer.contains("correlation ID")),
        "{answers:?}"
    );
    assert!(
        answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2],
        "{answers:?}"
    );
}

fn what_the_api_server_held_comes_back(cluster: &Cluster) {
    let revision = || -> u64 {
        let list = cluster
            .kubectl(&["get", "--raw", "/api/v1/namespaces/default/configmaps?limit=1"])
            .unwrap();
        let (_, rest) = list.split_once(r#""resourceVersion":""#).unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    for (revisions, kept, lost) in [
        (Revisions::Reused, "kept-1", "lost-1"),
        (Revisions::Bumped, "kept-2", "lost-2"),
    ] {
        cluster.kubectl(&["create", "configmap", kept]).unwrap();
        let snapshot = cluster.snapshot().unwrap();
        cluster.kubectl(&["create", "configmap", lost]).unwrap();
        let before = revision();
        cluster.restore(&snapshot, revisions).unwrap();
        cluster.kubectl(&["get", "configmap", kept]).unwrap();
        let gone = cluster.kubectl(&["get", "configmap", lost]).unwrap_err().to_string();
        assert!(gone.contains("NotFound"), "{gone}");
        assert_eq!(
            revision() > before + 500_000,
            revisions == Revisions::Bumped,
            "{revisions:?}"
        );
    }
}

fn a_removed_image_is_pulled_again(cluster: &Cluster) {
    let pulls = || {
        cluster
            .logs("front-ghcr")
            .unwrap()
            .matches("HEAD ghcr.io /v2/kevinryan-io/manifests/abc1234 200")
            .count()
    };
    let before = pulls();
    run(cluster, "kept", "ghcr.io/kevinryan-io:abc1234");
    ready(cluster, "kept");
    assert_eq!(pulls(), before, "the node has the image");
    cluster.remove_images("ghcr.io/kevinryan-io").unwrap();
    run(cluster, "pulled", "ghcr.io/kevinryan-io:abc1234");
    ready(cluster, "pulled");
    assert_eq!(pulls(), before + 1);
}

fn loaded_images_static_pods_and_image_volumes_run(cluster: &Cluster) {
    let tool = tool();
    let files = [("/bin/tool", tool.as_path()), ("/variant", Path::new("/etc/hostname"))];
    cluster
        .load_image("localhost/own:1", &files, &["/bin/tool", "serve", ":80"])
        .unwrap();
    // The label keeps it from the kubelet's garbage collection.
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME"}, "spec": {
        "containers": [{"name": "c", "image": "localhost/own:1", "imagePullPolicy": "Never",
                        "volumeMounts": [{"name": "v", "mountPath": "/volume"}]}],
        "volumes": [{"name": "v", "image": {"reference": "ghcr.io/kevinryan-io:abc1234"}}]}}"#;
    cluster
        .kubectl_stdin(&["apply", "-f", "-"], &pod.replace("NAME", "volume"))
        .unwrap();
    ready(cluster, "volume");
    let inside = cluster.kubectl(&["exec", "volume", "--", "/volume/tool", "true"]);
    assert!(inside.is_ok(), "{inside:?}");
    std::fs::write(
        cluster.static_pod_dir().join("static.json"),
        pod.replace("NAME", "static"),
    )
    .unwrap();
    let end = Instant::now() + Duration::from_mins(3);
    while cluster.kubectl(&["get", "pod", "static-node"]).is_err() && Instant::now() < end {}
    ready(cluster, "static-node");
}

/// The harness's own program, as the test images hold it.
fn tool() -> PathBuf {
    let cache = std::env::var("CATAMARAN_CACHE").unwrap_or_else(|_| {
        let home = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| std::env::var("HOME").unwrap() + "/.cache");
        format!("{home}/catamaran")
    });
    Path::new(&cache).join("cluster/bin/tool/tool")
}

fn helm_installs_a_chart(cluster: &Cluster) {
    let chart = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(
        chart.path().join("Chart.yaml"),
        "{apiVersion: v2, name: a, version: 1.0.0}",
    )
    .unwrap();
    let template = "{apiVersion: v1, kind: ConfigMap, metadata: {name: from-chart}, data: {k: {{ .Release.Name }}}}";
    std::fs::write(chart.path().join("templates/a.yaml"), template).unwrap();
    cluster
        .helm(&["install", "release", chart.path().to_str().unwrap()])
        .unwrap();
    let value = cluster
        .kubectl(&["get", "configmap", "from-chart", "-o", "jsonpath={.data.k}"])
        .unwrap();
    assert_eq!(value, "release");
}

fn output(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command lines of running processes that hold a text. This test's own do not.
fn processes_that_name(text: &str) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push_str(&line);
            found.push('\n');
        }
    }
    found
}

fn nothing_is_left(name: &str) {
    let folder = format!("/var/tmp/catamaran-{name}");
    assert!(!Path::new(&folder).exists());
    let namespaces = output("ip", &["netns", "list"]);
    assert!(!namespaces.contains(name), "network namespaces: {namespaces}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&folder), "mounts: {mounts}");
    assert_eq!(processes_that_name(&format!("{folder}/")), "", "processes");
    let cgroups = output("find", &["/sys/fs/cgroup", "-maxdepth", "2", "-name", name]);
    assert_eq!(cgroups, "", "cgroups");
}
