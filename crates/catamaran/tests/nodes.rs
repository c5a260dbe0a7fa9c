//! `catamaran check --nodes` against an API server that answers from a script.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as its own lines do"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

use support::{Ran, catamaran};

/// An answer: the status, and the body. Without a status there is none until the client goes.
type Answer = (Option<&'static str>, String);

/// An API server, what it was asked, and how many requests it had at a time.
struct ApiServer {
    home: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    most: Arc<AtomicUsize>,
}

impl ApiServer {
    fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> ApiServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let home = TempDir::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        });
        std::fs::create_dir(home.path().join(".kube")).unwrap();
        std::fs::write(home.path().join(".kube/config"), config.to_string()).unwrap();
        let server = ApiServer {
            home,
            asked: Arc::default(),
            most: Arc::default(),
        };
        let (asked, most) = (Arc::clone(&server.asked), Arc::clone(&server.most));
        let (answer, now) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                let (most, now) = (Arc::clone(&most), Arc::clone(&now));
                std::thread::spawn(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    serve(&stream.unwrap(), |path| {
                        asked.lock().unwrap().push(path.to_owned());
                        answer(path)
                    });
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn check(&self, more: &[&str]) -> Ran {
        catamaran(self.home.path(), &[&["check", "--nodes"], more].concat())
    }

    /// How often a kubelet was asked.
    fn kubelets_asked(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with("/proxy/configz")).count()
    }
}

fn serve(mut stream: &TcpStream, answer: impl FnOnce(&str) -> Answer) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    assert!(
        lines.any(|line| line.is_empty()),
        "a request's head ends with an empty line"
    );
    let (status, body) = answer(first.split(' ').nth(1).unwrap());
    let Some(status) = status else {
        let _ = stream.read(&mut [0]);
        return;
    };
    let length = body.len();
    // A client that has seen enough may be gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn ok(body: &Value) -> Answer {
    (Some("200 OK"), body.to_string())
}

fn forbidden(message: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Forbidden", "code": 403});
    (Some("403 Forbidden"), status.to_string())
}

fn node(name: &str, runtime: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"nodeInfo": {"containerRuntimeVersion": runtime}, "images": [{"names": []}]}})
}

fn list(nodes: &[Value], token: &str, remaining: usize) -> Value {
    json!({"kind": "NodeList", "apiVersion": "v1", "items": nodes,
           "metadata": {"resourceVersion": "7", "continue": token, "remainingItemCount": remaining}})
}

fn configz(serial: bool, most: Option<u32>) -> Answer {
    let mut configuration = json!({"kind": "KubeletConfiguration", "serializeImagePulls": serial});
    if let Some(most) = most {
        configuration["maxParallelImagePulls"] = json!(most);
    }
    ok(&json!({"kubeletconfig": configuration}))
}

/// The node whose kubelet is asked.
fn kubelet(path: &str) -> Option<&str> {
    path.strip_prefix("/api/v1/nodes/")?.strip_suffix("/proxy/configz")
}

/// A cluster of these nodes, which all run containerd 2.4.2.
fn cluster_of(names: &'static [&'static str], answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> ApiServer {
    ApiServer::start(move |path| {
        if let Some(name) = kubelet(path) {
            return answer(name);
        }
        let nodes: Vec<Value> = names.iter().map(|name| node(name, "containerd://2.4.2")).collect();
        ok(&list(&nodes, "", 0))
    })
}

#[test]
fn serial_nodes_are_named_with_advice_and_end_with_0() {
    let server = cluster_of(&["a", "b", "c"], |name| configz(name != "b", None));
    let ran = server.check(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let expected = "nodes\n-----\n‼ 2 nodes pull one image after the other\n    a, c\n    hint: each pull from a registry that does \
                    not answer holds up all later ones of its node";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
    assert!(
        ran.out.contains("√ 1 node pulls images in parallel\n    b\n"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.lines().last(), Some("‼ every step passed"));
}

#[test]
fn document_has_a_warning_and_every_name() {
    let names: &[&str] = &[
        "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09", "n10", "n11", "n12", "n13", "n14", "n15", "n16",
        "n17", "n18", "n19", "n20", "n21", "n22",
    ];
    let server = cluster_of(names, |_| configz(true, None));
    let ran = server.check(&["-o", "json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &document["result"]), (0, &json!("warning")));
    let step = &document["targets"][0]["steps"][0];
    assert_eq!(
        (&document["targets"][0]["target"], &step["step"], &step["result"]),
        (&json!("nodes"), &json!("image-pulls"), &json!("warning"))
    );
    assert!(step["details"][0].as_str().unwrap().ends_with("n21, n22"), "{step}");
    let table = server.check(&[]);
    assert!(table.out.contains("n19, n20 and 2 more\n"), "{}", table.out);
}

#[test]
fn all_pages_are_read_up_to_a_limit_and_few_kubelets_asked_at_a_time() {
    // Twice as many as are asked, and a few.
    let server = ApiServer::start(|path| {
        if kubelet(path).is_some() {
            std::thread::sleep(Duration::from_millis(2));
            return configz(false, Some(5));
        }
        let query = path.split_once('?').unwrap().1;
        let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
        let from: usize = value("continue=").map_or(0, |token| token.parse().unwrap());
        let limit: usize = value("limit=").unwrap().parse().unwrap();
        let to = (from + limit).min(1_010);
        let nodes: Vec<Value> = (from..to)
            .map(|number| node(&format!("n{number:04}"), "containerd://1.7.28"))
            .collect();
        ok(&list(&nodes, &to.to_string(), 1_010 - to))
    });
    let ran = server.check(&[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.out.contains("√ 500 nodes pull at most 5 images at a time\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("? 510 nodes were not asked\n"), "{}", ran.out);
    assert_eq!(server.kubelets_asked(), 500);
    assert!(server.most.load(Ordering::SeqCst) <= 8, "{:?}", server.most);
}

#[test]
fn missing_right_to_list_is_named() {
    let words = "nodes is forbidden: User \"kev\" cannot list resource \"nodes\"";
    let server = ApiServer::start(move |_| forbidden(words));
    let ran = server.check(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (2, ""), "{ran:?}");
    assert!(
        ran.out.contains("? the nodes may not be listed\n") && ran.out.contains(words),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("hint: needs the right to `list` nodes"), "{}", ran.out);
}

#[test]
fn missing_right_to_ask_kubelets_is_named_and_not_tried_on_all() {
    let words = "nodes \"n0000\" is forbidden: User \"kev\" cannot get resource \"nodes/proxy\"";
    let server = ApiServer::start(move |path| {
        if kubelet(path).is_some() {
            return forbidden(words);
        }
        let nodes: Vec<Value> = (0..200)
            .map(|number| node(&format!("n{number:04}"), "containerd://2.4.2"))
            .collect();
        ok(&list(&nodes, "", 0))
    });
    let ran = server.check(&[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.out.contains("? how 200 nodes pull images may not be read\n") && ran.out.contains(words),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("hint: needs the right to `get` `nodes/proxy`"),
        "{}",
        ran.out
    );
    assert!(server.kubelets_asked() <= 16, "{}", server.kubelets_asked());
}

#[test]
fn kubelets_that_can_not_be_read_are_named_with_the_cause() {
    let server = cluster_of(&["bad", "good", "huge", "page", "silent"], |name| match name {
        "bad" => (
            Some("502 Bad Gateway"),
            "error trying to reach service: dial tcp 10.0.0.7:10250".to_owned(),
        ),
        "huge" => (Some("200 OK"), " ".repeat(2 << 20)),
        "page" => (Some("200 OK"), "<html>\u{1b}[31m</html>".to_owned()),
        "silent" => (None, String::new()),
        _ => configz(false, None),
    });
    let ran = server.check(&[]);
    assert_eq!((ran.code, ran.err.as_str()), (2, ""), "{ran:?}");
    for line in [
        "√ 1 node pulls images in parallel\n    good\n",
        "? how 4 nodes pull images could not be read\n",
        "    bad: 502 Bad Gateway\n",
        "    huge: failed to read the answer: length limit exceeded\n",
        "    page: the answer is no configuration of a kubelet\n",
        "    silent: no answer within 5 s\n",
        "    hint: ask one by itself: `kubectl get --raw /api/v1/nodes/NODE/proxy/configz`\n",
    ] {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    assert_eq!(ran.out.lines().last(), Some("? could not check every step"));
}

#[test]
fn api_server_that_is_not_there_ends_with_2() {
    let server = ApiServer::start(|_| (Some("500 Internal Server Error"), String::new()));
    let ran = server.check(&[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.out
            .contains("? the nodes could not be listed\n    500 Internal Server Error\n"),
        "{}",
        ran.out
    );
    let nobody = TempDir::new().unwrap();
    let ran = catamaran(nobody.path(), &["check", "--nodes"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    assert!(ran.err.starts_with("error: failed to find a cluster"), "{ran:?}");
}
