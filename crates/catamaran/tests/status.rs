//! `catamaran status` against an API server that answers from a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

use support::{Ran, catamaran};

const ALL: &str = "/apis/catamaran.dev/v1alpha1/registrymirrors";

/// An API server that gives one answer to everything, and a kubeconfig for it.
struct Cluster {
    home: TempDir,
    address: SocketAddr,
    path: Option<std::thread::JoinHandle<String>>,
}

impl Cluster {
    /// Answers the next request, and gives its path.
    fn answering(status: &'static str, body: String) -> Cluster {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let path = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let first = lines.next().unwrap();
            assert!(
                lines.any(|line| line.is_empty()),
                "a request's head ends with an empty line"
            );
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
            first.split([' ', '?']).nth(1).unwrap().to_owned()
        });
        Cluster::at(address, Some(path))
    }

    /// A kubeconfig for an API server that is not there.
    fn gone() -> Cluster {
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        Cluster::at(address, None)
    }

    fn at(address: SocketAddr, path: Option<std::thread::JoinHandle<String>>) -> Cluster {
        let home = TempDir::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        });
        std::fs::create_dir(home.path().join(".kube")).unwrap();
        std::fs::write(home.path().join(".kube/config"), config.to_string()).unwrap();
        Cluster { home, address, path }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.home.path().join(".kube/config")
    }

    fn status(&self, more: &[&str]) -> Ran {
        let kubeconfig = self.kubeconfig().display().to_string();
        catamaran(
            self.home.path(),
            &[&["status", "--kubeconfig", &kubeconfig], more].concat(),
        )
    }

    /// The path that was asked for.
    fn asked(mut self) -> String {
        self.path.take().unwrap().join().unwrap()
    }
}

fn mirror(name: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": name},
        "spec": {
            "primary": {"registry": "kracr.azurecr.io"},
            "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
        },
        "status": status,
    })
}

fn observed() -> Value {
    let condition = |kind: &str, status: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": "X", "message": message,
               "lastTransitionTime": "2026-11-20T10:00:00Z", "observedGeneration": 1})
    };
    json!({
        "observedGeneration": 1,
        "active": "Fallback",
        "conditions": [
            condition("Ready", "True", "pods are served\nfrom the fallback"),
            condition("InSync", "False", "1 tag differs"),
        ],
    })
}

fn list(mirrors: &[Value]) -> String {
    json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirrorList",
        "metadata": {"resourceVersion": "1"}, "items": mirrors,
    })
    .to_string()
}

fn failure(code: u16, reason: &str, message: &str, name: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
           "message": message, "details": {"name": name, "group": "catamaran.dev", "kind": "registrymirrors"}})
    .to_string()
}

fn assert_could_not_tell(ran: &Ran, why: &str) {
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    assert!(
        ran.err.starts_with("error: ") && ran.err.contains(why),
        "{why}: {ran:?}"
    );
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
}

#[test]
fn each_mirror_is_a_line() {
    let cluster = Cluster::answering(
        "200 OK",
        list(&[mirror("images", &observed()), mirror("new", &json!({}))]),
    );
    let ran = cluster.status(&[]);
    let expected = "\
NAME     PRIMARY            FALLBACK            ACTIVE     IN-SYNC   READY     MESSAGE
images   kracr.azurecr.io   ghcr.io/devopskev   Fallback   False     True      pods are served from the fallback
new      kracr.azurecr.io   ghcr.io/devopskev   -          Unknown   Unknown   not observed yet
";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, expected, ""));
    assert_eq!(cluster.asked(), ALL);
}

#[test]
fn a_name_asks_for_that_mirror_only() {
    let cluster = Cluster::answering("200 OK", mirror("images", &observed()).to_string());
    let ran = cluster.status(&["images", "-o", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let read: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&read["kind"], &read["metadata"]["name"]),
        (&json!("RegistryMirror"), &json!("images"))
    );
    assert_eq!(read["status"]["active"], "Fallback");
    assert_eq!(cluster.asked(), format!("{ALL}/images"));
}

#[test]
fn without_a_name_machines_get_a_list_even_of_one_or_none() {
    for mirrors in [vec![], vec![mirror("images", &observed())]] {
        let cluster = Cluster::answering("200 OK", list(&mirrors));
        let ran = cluster.status(&["-o", "yaml"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let read: Value = serde_saphyr::from_str(&ran.out).unwrap();
        assert_eq!(
            (&read["kind"], read["items"].as_array().map(Vec::len)),
            (&json!("List"), Some(mirrors.len()))
        );
    }
}

#[test]
fn no_mirrors_are_not_an_error_but_are_said() {
    let ran = Cluster::answering("200 OK", list(&[])).status(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.starts_with("there are no mirrors"), "{ran:?}");
}

#[test]
fn an_unknown_name_is_told_from_a_definition_that_is_not_installed() {
    let unknown = failure(
        404,
        "NotFound",
        "registrymirrors.catamaran.dev \"other\" not found",
        "other",
    );
    let ran = Cluster::answering("404 Not Found", unknown).status(&["other"]);
    assert_could_not_tell(&ran, "there is no RegistryMirror 'other'");
    for arguments in [&["other"][..], &[]] {
        let cluster = Cluster::answering("404 Not Found", "404 page not found\n".to_owned());
        assert_could_not_tell(&cluster.status(arguments), "the cluster does not know RegistryMirrors");
    }
}

#[test]
fn a_refusal_is_shown_in_the_api_servers_words() {
    let words = "registrymirrors.catamaran.dev is forbidden: User \"kev\" cannot list resource";
    let ran = Cluster::answering("403 Forbidden", failure(403, "Forbidden", words, "")).status(&[]);
    assert_could_not_tell(&ran, words);
}

#[test]
fn an_api_server_that_is_not_there_is_named_with_the_cause() {
    let cluster = Cluster::gone();
    let ran = cluster.status(&[]);
    assert_could_not_tell(
        &ran,
        &format!("failed to reach the API server at http://{}", cluster.address),
    );
    assert_could_not_tell(&ran, "onnection refused");
}

#[test]
fn a_kubeconfig_that_is_no_use_is_named() {
    let cluster = Cluster::gone();
    assert_could_not_tell(&cluster.status(&["--context", "elsewhere"]), "elsewhere");
    let ran = catamaran(cluster.home.path(), &["status", "--kubeconfig", "/nowhere/config"]);
    assert_could_not_tell(&ran, "failed to use '/nowhere/config'");
    let empty = TempDir::new().unwrap();
    assert_could_not_tell(&catamaran(empty.path(), &["status"]), "failed to find a cluster");
}

#[test]
fn the_usual_kubeconfig_is_found() {
    let cluster = Cluster::answering("200 OK", list(&[mirror("images", &observed())]));
    let ran = catamaran(cluster.home.path(), &["status", "--context", "here"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("images"), "{ran:?}");
}
