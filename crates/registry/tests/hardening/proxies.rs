//! Proxies that the environment names: the tunnel they give, and what they get to see.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use catamaran_core::policy::Provider;
use catamaran_registry::{Client, Connection, DiagnosisTarget, ProbeTarget};
use catamaran_scripted_registry::Registry;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{basic, child, limits};

const PASSWORD: &str = "canary-password-5d1e";

/// A proxy that knows `CONNECT`, and leads every host to one address.
struct Proxy {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `answer`: what it says instead of opening a tunnel.
    async fn start(to: SocketAddr, answer: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let log = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, to, answer, log.clone()));
            }
        });
        Proxy { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn tunnel(stream: TcpStream, to: SocketAddr, answer: Option<&str>, log: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    log.lock().unwrap().push(head);
    if let Some(answer) = answer {
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read(&mut [0; 64]).await;
        return;
    }
    let Ok(mut registry) = TcpStream::connect(to).await else {
        return;
    };
    let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut registry).await;
}

/// What the child prints, for a registry behind a proxy.
async fn seen(registry: &Registry, name: &str, variables: Vec<(&'static str, String)>) -> String {
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), registry.ca_pem()).unwrap();
    let told = [
        ("CATAMARAN_TEST_CA", ca.path().display().to_string()),
        ("CATAMARAN_TEST_REGISTRY", name.to_owned()),
    ];
    child::run(
        "proxies::asks_as_the_environment_says",
        [variables, told.into()].concat(),
    )
    .await
}

async fn registry() -> Registry {
    let registry = Registry::start().await.unwrap();
    registry.push("krateo/web", "1.0", "first");
    registry.set_account(Some(("bot", PASSWORD)));
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_reached_through_the_proxy_which_sees_its_name_and_nothing_of_its_credential() {
    for name in ["registry.test", "registry.test:5443"] {
        let registry = registry().await;
        registry.set_blob_host(Some("blobs.test"));
        let proxy = Proxy::start(registry.address(), None).await;
        let variables = vec![(
            "HTTPS_PROXY",
            format!("http://proxy-user:proxy-password@{}", proxy.address),
        )];
        let out = seen(&registry, name, variables).await;
        assert!(out.contains("resolved: Ok"), "{out}");
        assert!(out.contains("probe: Reachable at Blob"), "{out}");
        assert!(out.contains("last stage: Blob, failure: None"), "{out}");
        assert!(out.contains("addresses: 0, proxy: Some(\"127.0.0.1\")"), "{out}");
        let heard = proxy.heard();
        let authority = if name.contains(':') {
            name.to_owned()
        } else {
            format!("{name}:443")
        };
        assert!(
            heard
                .iter()
                .any(|head| head.starts_with(&format!("CONNECT {authority} HTTP/1.1"))),
            "{heard:?}"
        );
        assert!(
            heard.iter().any(|head| head.starts_with("CONNECT blobs.test:443")),
            "{heard:?}"
        );
        for head in &heard {
            let lower = head.to_ascii_lowercase();
            assert!(
                !lower.contains("\r\nauthorization:") && !head.contains(PASSWORD),
                "{head}"
            );
            // base64 of proxy-user:proxy-password: what is the proxy's goes to the proxy.
            assert!(head.contains("Basic cHJveHktdXNlcjpwcm94eS1wYXNzd29yZA=="), "{head}");
        }
        let proxys =
            |text: &str| text.contains("cHJveHktdXNlcjpwcm94eS1wYXNzd29yZA") || text.contains("proxy-password");
        assert!(
            !registry
                .requests()
                .iter()
                .any(|request| proxys(&format!("{request:?}")))
        );
        assert!(!proxys(&out) && !out.contains(PASSWORD), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_proxy_names_is_reached_directly() {
    let registry = registry().await;
    let proxy = Proxy::start(registry.address(), None).await;
    let variables = vec![
        ("https_proxy", format!("http://{}", proxy.address)),
        ("NO_PROXY", "example.com,localhost".to_owned()),
    ];
    let name = format!("localhost:{}", registry.address().port());
    let out = seen(&registry, &name, variables).await;
    assert!(
        out.contains("resolved: Ok") && out.contains("last stage: Blob, failure: None"),
        "{out}"
    );
    assert!(out.contains("proxy: None"), "{out}");
    assert_eq!(proxy.heard(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_refuses_is_told_as_the_proxys() {
    let cases = [
        (
            Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            "probe: NetworkDenied at Connect",
            "the proxy wants a user name and password",
        ),
        (
            Some("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            "probe: Unavailable(ConnectionFailed) at Connect",
            "the proxy gives no connection to it (through the proxy 127.0.0.1)",
        ),
        (Some(""), "probe: Unavailable(", "(through the proxy 127.0.0.1)"),
        // Nobody listens where the environment says.
        (
            None,
            "probe: Unavailable(ConnectionFailed) at Connect",
            "connection refused (through the proxy 127.0.0.1)",
        ),
    ];
    for (answer, probe, words) in cases {
        let registry = registry().await;
        let address = match answer {
            Some(_) => Proxy::start(registry.address(), answer).await.address,
            None => TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap(),
        };
        let variables = vec![("HTTPS_PROXY", format!("http://{address}"))];
        let out = seen(&registry, "registry.test", variables).await;
        assert!(out.contains(probe) && out.contains(words), "{answer:?}: {out}");
        assert!(out.contains("last stage: Connect, failure: Some("), "{answer:?}: {out}");
        assert_eq!(registry.requests(), []);
    }
}

#[tokio::test]
#[ignore = "run by the others, in a process with an environment of its own"]
async fn asks_as_the_environment_says() {
    let registry = child::told("CATAMARAN_TEST_REGISTRY");
    let connection = Connection {
        allow_loopback: registry.starts_with("localhost"),
        registry,
        provider: Provider::Generic,
        credentials: basic("bot", PASSWORD),
        extra_ca: Some(std::fs::read(child::told("CATAMARAN_TEST_CA")).unwrap()),
        ..Connection::default()
    };
    let client = Client::new(connection, limits()).unwrap();
    let resolved = client.resolve("krateo/web", "1.0").await;
    println!("resolved: {resolved:?}");
    let target = ProbeTarget {
        canary: resolved.ok().map(|resolved| ("krateo/web".to_owned(), resolved.digest)),
        blob: true,
        fresh_token: true,
    };
    let report = client.probe(&target, std::time::Duration::from_secs(20)).await;
    println!("probe: {:?} at {:?}: {}", report.outcome, report.stage, report.message);
    let target = DiagnosisTarget {
        repository: Some("krateo/web".to_owned()),
        tag: None,
    };
    let mut last = None;
    let print = |stage: catamaran_registry::StepResult| {
        if let Some(catamaran_registry::steps::Finding::Addresses { addresses, proxy }) = &stage.finding {
            println!("addresses: {}, proxy: {proxy:?}", addresses.len());
        }
        last = Some(format!("last stage: {:?}, failure: {:?}", stage.step, stage.failure));
    };
    client.diagnose(&target, print).await;
    println!("{}", last.unwrap());
}
