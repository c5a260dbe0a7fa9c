//! `run` against a scripted API server, with a clock that the test moves, and real handshakes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use catamaran_lease::Leadership;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::Body;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::material::{CaCertificate, Pair, bundle, verify};
use crate::settings::dns_names;
use crate::*;

const NAME: &str = "catamaran.catamaran-system.svc";

/// An API server that knows one Secret and one webhook configuration, and is as reliable as the test wants it.
struct Server {
    secret: Option<Value>,
    /// A Secret that the operator does not manage.
    given: Option<Value>,
    configuration: Option<Value>,
    version: u64,
    /// Of a hundred requests, so many fail; a part of them after having been carried out.
    failing: u64,
    dice: u64,
    /// Every bundle that was published, with when.
    history: Vec<(Instant, Vec<CaCertificate>)>,
    /// Every write: verb and path.
    writes: Vec<String>,
}

type Shared = Arc<Mutex<Server>>;

fn webhook(name: &str, service: &str) -> Value {
    let service = json!({"name": service, "namespace": "catamaran-system", "path": "/mutate"});
    json!({"name": name, "clientConfig": {"service": service}, "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Ignore"})
}

fn server() -> Shared {
    let webhooks = [
        webhook("foreign.example.com", "other"),
        webhook("pods.catamaran.dev", "catamaran"),
    ];
    let configuration = json!({"metadata": {"name": "catamaran", "resourceVersion": "0"}, "webhooks": webhooks});
    Arc::new(Mutex::new(Server {
        secret: None,
        given: None,
        configuration: Some(configuration),
        version: 1,
        failing: 0,
        dice: 1,
        history: Vec::new(),
        writes: Vec::new(),
    }))
}

enum Answer {
    Now(u16, Value),
    Never,
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason});
    Answer::Now(code, status)
}

impl Server {
    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below
    }

    fn answer(&mut self, method: &http::Method, path: &str, body: &[u8]) -> Answer {
        let fate = self.roll(100);
        if fate < self.failing / 3 {
            return failure(500, "InternalError");
        } else if fate < self.failing * 2 / 3 {
            return Answer::Never;
        }
        let answer = self.carry_out(method, path, body);
        if fate < self.failing { Answer::Never } else { answer }
    }

    fn carry_out(&mut self, method: &http::Method, path: &str, body: &[u8]) -> Answer {
        if path == "/api/v1/namespaces/catamaran-system/secrets/given" && method == http::Method::GET {
            let found = self.given.clone();
            return found.map_or_else(|| failure(404, "NotFound"), |object| Answer::Now(200, object));
        }
        let of_secrets = match path {
            "/api/v1/namespaces/catamaran-system/secrets/catamaran-webhook-tls" => true,
            "/api/v1/namespaces/catamaran-system/secrets" if method == http::Method::POST => true,
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/catamaran" => false,
            _ => return failure(403, "Forbidden"),
        };
        let stored = if of_secrets { &self.secret } else { &self.configuration };
        if method == http::Method::GET {
            return stored
                .clone()
                .map_or_else(|| failure(404, "NotFound"), |object| Answer::Now(200, object));
        }
        let sent: Value = serde_json::from_slice(body).unwrap();
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        if version(&sent) != stored.as_ref().map_or(Value::Null, version) {
            return failure(409, "Conflict");
        }
        let mut object = match (method.as_str(), of_secrets) {
            ("POST" | "PUT", true) => sent,
            ("PATCH", false) => patched(stored.clone().unwrap(), &sent),
            _ => return failure(403, "Forbidden"),
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.writes.push(format!("{method} {path}"));
        if of_secrets {
            self.secret = Some(object.clone());
        } else {
            self.configuration = Some(object.clone());
            self.history.push((Instant::now(), self.published()));
        }
        Answer::Now(200, object)
    }

    fn published(&self) -> Vec<CaCertificate> {
        let webhooks = self.configuration.as_ref().unwrap()["webhooks"].as_array().unwrap();
        let ours = webhooks
            .iter()
            .find(|webhook| webhook["name"] == "pods.catamaran.dev")
            .unwrap();
        let pem: Option<ByteString> = serde_json::from_value(ours["clientConfig"]["caBundle"].clone()).unwrap();
        pem.map(|pem| bundle(&pem.0)).unwrap_or_default()
    }

    /// What an API server trusts that learns of a new bundle only after `lag`.
    fn trusted(&self, lag: Duration) -> Vec<CaCertificate> {
        let known = self.history.iter().rev().find(|(at, _)| at.elapsed() >= lag);
        known.map(|(_, cas)| cas.clone()).unwrap_or_default()
    }
}

/// A strategic merge patch as far as `run` uses it: webhooks are merged by name.
fn patched(mut stored: Value, patch: &Value) -> Value {
    for change in patch["webhooks"].as_array().unwrap() {
        assert_eq!(
            change.as_object().unwrap().len(),
            2,
            "only the name and the client configuration: {change}"
        );
        assert_eq!(
            change["clientConfig"].as_object().unwrap().len(),
            1,
            "only the bundle: {change}"
        );
        let webhooks = stored["webhooks"].as_array_mut().unwrap();
        let webhook = webhooks
            .iter_mut()
            .find(|webhook| webhook["name"] == change["name"])
            .unwrap();
        webhook["clientConfig"]["caBundle"] = change["clientConfig"]["caBundle"].clone();
    }
    stored
}

async fn serve(server: Shared, request: http::Request<Body>) -> Result<http::Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.unwrap();
    let answer = server.lock().unwrap().answer(&parts.method, parts.uri.path(), &body);
    match answer {
        Answer::Now(code, value) => {
            let body = Body::from(serde_json::to_vec(&value).unwrap());
            Ok(http::Response::builder().status(code).body(body).unwrap())
        }
        Answer::Never => std::future::pending().await,
    }
}

struct Replica {
    serving: Arc<ServingCertificate>,
    leadership: watch::Sender<Leadership>,
    task: JoinHandle<()>,
    started: Instant,
}

impl Replica {
    fn lead(&self, leads: bool) {
        let hour = Instant::now() + Duration::from_hours(1);
        self.leadership.send_replace(if leads {
            Leadership::until(hour)
        } else {
            Leadership::NONE
        });
    }
}

/// The wall clock of the test: moves with tokio's.
fn clock(zero: Instant) -> impl Fn() -> Timestamp + Clone {
    move || {
        Timestamp::from_second(1_800_000_000)
            .unwrap()
            .checked_add(zero.elapsed())
            .unwrap()
    }
}

fn schedule() -> Schedule {
    let s = Duration::from_secs;
    Schedule::new(s(60), s(20), s(2), s(1)).unwrap()
}

fn owner() -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: "catamaran".to_owned(),
        uid: "u1".to_owned(),
        ..OwnerReference::default()
    }
}

fn replica(server: &Shared, zero: Instant) -> Replica {
    replica_of(Source::Own, server, zero)
}

fn replica_of(source: Source, server: &Shared, zero: Instant) -> Replica {
    replica_with(source, schedule(), server, clock(zero))
}

fn replica_with(
    source: Source,
    schedule: Schedule,
    server: &Shared,
    clock: impl Fn() -> Timestamp + Send + Sync + 'static,
) -> Replica {
    let shared = server.clone();
    let service = tower::service_fn(move |request| serve(shared.clone(), request));
    let client = kube::Client::new(service, "catamaran-system");
    let settings = CertificateSettings {
        namespace: "catamaran-system".to_owned(),
        secret: match source {
            Source::Own => "catamaran-webhook-tls".to_owned(),
            Source::Given | Source::Injected => "given".to_owned(),
        },
        owner: Some(owner()),
        configuration: "catamaran".to_owned(),
        service: "catamaran".to_owned(),
        source,
        schedule,
    };
    let serving = Arc::new(ServingCertificate::new("catamaran", "catamaran-system"));
    let (leadership, watched) = catamaran_lease::channel();
    let task = run(
        client,
        settings,
        serving.clone(),
        watched,
        clock,
        CancellationToken::new(),
    );
    Replica {
        serving,
        leadership,
        task: tokio::spawn(task),
        started: Instant::now(),
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_install_is_ready_in_seconds_with_one_certificate() {
    let (server, zero) = (server(), Instant::now());
    let replicas = [replica(&server, zero), replica(&server, zero)];
    replicas[1].lead(true);
    sleep(Duration::from_secs(3)).await;
    for replica in &replicas {
        assert_eq!(replica.serving.ready(clock(zero)()), Ok(()));
        assert_eq!(replica.serving.not_after(), replicas[0].serving.not_after());
    }
    let server = server.lock().unwrap();
    assert_eq!(
        server.writes.len(),
        2,
        "one creation, one publication: {:?}",
        server.writes
    );
    let webhooks = &server.configuration.as_ref().unwrap()["webhooks"];
    assert_eq!(
        webhooks[0]["clientConfig"].get("caBundle"),
        None,
        "a foreign webhook is left alone"
    );
    let secret = server.secret.as_ref().unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let keys: Vec<_> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    let owners = json!([{"apiVersion": "v1", "kind": "ServiceAccount", "name": "catamaran", "uid": "u1"}]);
    assert_eq!(
        secret["metadata"]["ownerReferences"], owners,
        "it goes with the installation"
    );
}

#[tokio::test(start_paused = true)]
async fn run_without_leader_creates_secret_and_publishes_nothing() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica(&server, zero);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        server.lock().unwrap().writes,
        ["POST /api/v1/namespaces/catamaran-system/secrets"]
    );
    assert_eq!(replica.serving.ready(clock(zero)()), Err(NotReady::NotPublished));
    replica.lead(true);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        replica.serving.ready(clock(zero)()),
        Ok(()),
        "a new leader looks at once"
    );
}

/// A pair of PEM texts, encoded as a Secret's data: what `ca` signed at `now` for an hour.
fn stored(ca: &(CaCertificate, String), now: Timestamp) -> (Value, Value) {
    let names = dns_names("catamaran", "catamaran-system");
    let (chain, key) = issue::leaf(&ca.0, &ca.1, &names, now, Duration::from_hours(1)).unwrap();
    (
        json!(ByteString(chain.into_bytes())),
        json!(ByteString(key.into_bytes())),
    )
}

#[tokio::test(start_paused = true)]
async fn unusable_secret_keeps_last_certificate_and_is_reported() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica(&server, zero);
    replica.lead(true);
    sleep(Duration::from_secs(3)).await;
    // No replica leads, so the damage is not repaired.
    replica.lead(false);
    let before = replica.serving.not_after();
    let good = server.lock().unwrap().secret.as_ref().unwrap()["data"].clone();
    let with = |chain: &Value, key: &Value| {
        let mut data = good.clone();
        (data["tls.crt"], data["tls.key"]) = (chain.clone(), key.clone());
        data
    };
    let now = clock(zero)();
    let foreign = stored(&issue::ca(now, Duration::from_hours(9)).unwrap(), now);
    let text: ByteString = serde_json::from_value(good["tls.crt"].clone()).unwrap();
    let truncated = json!(ByteString(text.0[..text.0.len() / 2].to_vec()));
    let decoded: ByteString = serde_json::from_value(good["ca.key"].clone()).unwrap();
    let own = server.lock().unwrap().published().remove(0);
    let long_ago = now.checked_sub(Duration::from_hours(2)).unwrap();
    let expired = stored(&(own, String::from_utf8(decoded.0).unwrap()), long_ago);
    for (case, damage) in [
        ("garbled", with(&json!("Z2FyYmFnZQ=="), &json!("Z2FyYmFnZQ=="))),
        ("truncated", with(&truncated, &good["tls.key"])),
        ("a key of another certificate", with(&good["tls.crt"], &foreign.1)),
        ("a pair of another CA", with(&foreign.0, &foreign.1)),
        ("an expired pair", with(&expired.0, &expired.1)),
        ("empty", json!({})),
        ("without data", Value::Null),
    ] {
        server.lock().unwrap().secret.as_mut().unwrap()["data"] = damage;
        sleep(Duration::from_millis(1_100)).await;
        assert_eq!(replica.serving.not_after(), before, "{case}");
        assert_eq!(replica.serving.ready(clock(zero)()), Ok(()), "{case}");
        assert!(replica.serving.is_stored_unusable(), "{case}: no alarm");
        server.lock().unwrap().secret.as_mut().unwrap()["data"] = good.clone();
        sleep(Duration::from_millis(1_100)).await;
        assert!(
            !replica.serving.is_stored_unusable(),
            "{case}: the alarm outlives its cause"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn removed_bundle_is_published_again() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica(&server, zero);
    replica.lead(true);
    sleep(Duration::from_secs(3)).await;
    let published = server.lock().unwrap().published();
    let webhooks = [
        webhook("pods.catamaran.dev", "catamaran"),
        webhook("another.catamaran.dev", "catamaran"),
    ];
    server.lock().unwrap().configuration.as_mut().unwrap()["webhooks"] = json!(webhooks);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.lock().unwrap().published(), published);
    let added = server.lock().unwrap().configuration.clone().unwrap()["webhooks"][1].clone();
    assert!(
        added["clientConfig"]["caBundle"].is_string(),
        "a webhook that an upgrade added gets it too"
    );
    assert_eq!(replica.serving.ready(clock(zero)()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn webhook_without_bundle_keeps_replicas_ready() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica(&server, zero);
    replica.lead(true);
    sleep(Duration::from_secs(3)).await;
    replica.lead(false);
    server.lock().unwrap().configuration.as_mut().unwrap()["webhooks"]
        .as_array_mut()
        .unwrap()
        .insert(0, webhook("another.catamaran.dev", "catamaran"));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(replica.serving.ready(clock(zero)()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn deleted_configuration_makes_unready_and_stays_deleted() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica(&server, zero);
    replica.lead(true);
    sleep(Duration::from_secs(3)).await;
    server.lock().unwrap().configuration = None;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(replica.serving.ready(clock(zero)()), Err(NotReady::NotPublished));
    assert!(server.lock().unwrap().configuration.is_none());
}

/// What an API server sees of every replica that has run for a while, up to date and lagging.
fn inspect(server: &Shared, replicas: &[Replica], now: Timestamp, story: &str) {
    for (index, replica) in replicas.iter().enumerate() {
        if replica.started.elapsed() < Duration::from_secs(5) {
            continue;
        }
        assert_eq!(
            replica.serving.ready(now),
            Ok(()),
            "{story}, replica {index}: its own view"
        );
        let pair = replica.serving.pair().unwrap();
        for lag in [Duration::ZERO, Duration::from_millis(1_900)] {
            let trusted = server.lock().unwrap().trusted(lag);
            assert_eq!(
                verify(&pair, &trusted, NAME, now),
                Ok(()),
                "{story}, replica {index}: {lag:?} behind"
            );
        }
    }
}

/// Two and a half minutes of rotations every few seconds with a flaky API server, API servers that lag, crashing replicas, leaders
/// that change, and sometimes two leaders or none. Returns the number of publications.
async fn rotate(seed: u64) -> usize {
    let (server, zero) = (server(), Instant::now());
    let mut replicas = [replica(&server, zero), replica(&server, zero)];
    replicas[0].lead(true);
    sleep(Duration::from_secs(6)).await;
    {
        let mut server = server.lock().unwrap();
        (server.failing, server.dice) = (3, seed);
    }
    let (mut leaderless, mut calm) = (0, 0);
    for half_second in 0..300 {
        sleep(Duration::from_millis(500)).await;
        inspect(
            &server,
            &replicas,
            clock(zero)(),
            &format!("seed {seed}, {half_second} half seconds"),
        );
        let roll = server.lock().unwrap().roll(100);
        let chosen = usize::from(server.lock().unwrap().roll(2) == 1);
        match roll {
            _ if leaderless == 1 => replicas[chosen].lead(true),
            0..5 => {
                replicas[chosen].lead(true);
                replicas[1 - chosen].lead(false);
            }
            5 => replicas[1 - chosen].lead(true),
            // Not one crash upon another: a third of this short leaf's life is what there is to recover in.
            6..8 if half_second >= calm => {
                calm = half_second + 12;
                replicas[chosen].task.abort();
                replicas[chosen] = replica(&server, zero);
                replicas[1 - chosen].lead(false);
                leaderless = 5;
            }
            _ => {}
        }
        leaderless = if leaderless > 0 { leaderless - 1 } else { 0 };
    }
    let server = server.lock().unwrap();
    server.history.len()
}

#[tokio::test(start_paused = true)]
async fn rotation_with_failing_requests_breaks_no_handshake() {
    let mut publications = 0;
    for seed in 1..=2 {
        publications += rotate(seed * 7919).await;
    }
    assert!(
        publications > 2 * 4,
        "there was something to survive: {publications} publications"
    );
}

#[tokio::test(start_paused = true)]
async fn clocks_ten_minutes_wrong_break_no_handshake() {
    const WRONG_BY: [i64; 3] = [-600, 0, 600];
    let (server, zero) = (server(), Instant::now());
    let off_by = |seconds: i64| {
        let right = clock(zero);
        move || right() + jiff::SignedDuration::from_secs(seconds)
    };
    let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
    let schedule = Schedule::new(12 * hour, 2 * hour, minute, minute).unwrap();
    let replicas = WRONG_BY.map(|wrong| replica_with(Source::Own, schedule, &server, off_by(wrong)));
    replicas[0].lead(true);
    sleep(minute).await;
    // Twenty hours, in which each replica issues by its own clock, and all three serve.
    for minutes in (0_usize..20 * 60).step_by(5) {
        if minutes % 35 == 0 {
            let leader = minutes / 35 % replicas.len();
            for (index, replica) in replicas.iter().enumerate() {
                replica.lead(index == leader);
            }
        }
        sleep(5 * minute).await;
        let trusted = server.lock().unwrap().trusted(Duration::ZERO);
        for (replica, own) in replicas.iter().zip(WRONG_BY) {
            let story = format!("after {minutes} minutes, the replica whose clock is {own} s ahead");
            assert_eq!(replica.serving.ready(off_by(own)()), Ok(()), "{story}");
            let pair = replica.serving.pair().unwrap();
            for asking in WRONG_BY {
                let verified = verify(&pair, &trusted, NAME, off_by(asking)());
                assert_eq!(verified, Ok(()), "{story}, asked by one {asking} s ahead");
            }
        }
    }
    let server = server.lock().unwrap();
    assert!(
        server.history.len() >= 4,
        "there was something to survive: {} publications",
        server.history.len()
    );
}

/// A handshake in memory, as an API server with this bundle would do it at the real present time.
fn handshake(serving: &Arc<ServingCertificate>, trusted: &[CaCertificate]) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for ca in trusted {
        roots.add(ca.certificate.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let server = server.with_no_client_auth().with_cert_resolver(serving.clone());
    let mut client = ClientConnection::new(Arc::new(client), name())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server);
        server.process_new_packets()?;
        pass(&mut server, &mut client);
        client.process_new_packets()?;
    }
    Ok(())
}

fn name() -> rustls::pki_types::ServerName<'static> {
    NAME.try_into().unwrap()
}

fn pass<A, B>(from: &mut rustls::ConnectionCommon<A>, to: &mut rustls::ConnectionCommon<B>) {
    let mut wire = Vec::new();
    from.write_tls(&mut wire).expect("memory takes everything");
    to.read_tls(&mut wire.as_slice()).expect("memory gives everything");
}

fn issued(names: &[String]) -> (CaCertificate, Pair) {
    let (ca, key) = issue::ca(Timestamp::now(), Duration::from_hours(3)).unwrap();
    let (chain, leaf_key) = issue::leaf(&ca, &key, names, Timestamp::now(), Duration::from_hours(1)).unwrap();
    (ca, Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap())
}

#[test]
fn handshake_uses_newest_trusted_pair() {
    let now = Timestamp::now();
    let serving = Arc::new(ServingCertificate::new("catamaran", "catamaran-system"));
    let (first, first_pair) = issued(&dns_names("catamaran", "catamaran-system"));
    let (second, second_pair) = issued(&dns_names("catamaran", "catamaran-system"));
    assert_eq!(serving.ready(now), Err(NotReady::NoCertificate));
    assert!(
        handshake(&serving, std::slice::from_ref(&first)).is_err(),
        "nothing to present"
    );

    assert!(serving.offer(&first_pair, now), "anything is better than nothing");
    assert_eq!(serving.ready(now), Err(NotReady::NotPublished));
    serving.trust(vec![first.clone()]);
    assert_eq!(serving.ready(now), Ok(()));
    handshake(&serving, std::slice::from_ref(&first)).unwrap();

    assert!(
        !serving.offer(&second_pair, now),
        "not trusted yet, while the present one is"
    );
    serving.trust(vec![second.clone(), first.clone()]);
    assert!(serving.offer(&second_pair, now));
    assert!(
        !serving.offer(&second_pair, now),
        "nothing changes when the same pair is read again"
    );
    handshake(&serving, &[second.clone(), first.clone()]).unwrap();
    assert!(handshake(&serving, std::slice::from_ref(&first)).is_err());

    serving.trust(vec![first]);
    assert!(matches!(serving.ready(now), Err(NotReady::Untrusted(_))));
    assert!(serving.offer(&first_pair, now), "back to what is trusted");
    assert_eq!(serving.not_after(), Some(first_pair.not_after));
}

#[test]
fn schedule_with_overlapping_rotations_is_refused() {
    let s = Duration::from_secs;
    for (case, ca, leaf, propagation, poll, accepted) in [
        ("seconds, for tests", s(60), s(20), s(2), s(1), true),
        ("a leaf too long for its CA", s(59), s(20), s(2), s(1), false),
        ("a leaf too short for whole seconds", s(60), s(9), s(1), s(1), false),
        ("no time to spread", s(60), s(11), s(2), s(1), false),
        ("replicas that look too seldom", s(60), s(20), s(2), s(3), false),
        ("replicas that look without pause", s(60), s(20), s(2), s(0), false),
        ("longer than dates reach", s(u64::MAX / 4), s(20), s(2), s(1), false),
    ] {
        assert_eq!(Schedule::new(ca, leaf, propagation, poll).is_ok(), accepted, "{case}");
    }
    for (case, ca, leaf, pauses) in [
        ("a year and a month", 365 * 86_400, 30 * 86_400, Some((60, 10))),
        ("a rotation every minute", 270, 90, Some((15, 10))),
        ("the shortest", 180, 60, Some((10, 10))),
        ("a CA too short for its leaf", 179, 60, None),
    ] {
        let lasting = Schedule::lasting(s(ca), s(leaf));
        let found = lasting.ok().map(|schedule| (schedule.propagation(), schedule.poll()));
        assert_eq!(
            found,
            pauses.map(|(propagation, poll)| (s(propagation), s(poll))),
            "{case}"
        );
    }
    let default = Schedule::default();
    assert_eq!(Schedule::lasting(default.ca(), default.leaf()), Ok(default));
    let again = Schedule::new(default.ca(), default.leaf(), default.propagation(), default.poll());
    assert_eq!(again, Ok(default));
}

/// What an administrator could put into the Secret: a CA, and a leaf of it for `names`.
fn given(now: Timestamp, names: &[String]) -> serde_json::Map<String, Value> {
    let (ca, key) = issue::ca(now, Duration::from_hours(24)).unwrap();
    let (chain, leaf_key) = issue::leaf(&ca, &key, names, now, Duration::from_hours(1)).unwrap();
    let mut data = serde_json::Map::new();
    for (name, text) in [
        ("ca.crt", material::encode_bundle([&ca])),
        ("tls.crt", chain),
        ("tls.key", leaf_key),
    ] {
        data.insert(name.to_owned(), json!(ByteString(text.into_bytes())));
    }
    data
}

fn fill(server: &Shared, data: &serde_json::Map<String, Value>) {
    server.lock().unwrap().given = Some(json!({"metadata": {"resourceVersion": "7"}, "data": data}));
}

#[tokio::test(start_paused = true)]
async fn given_secret_is_published_and_never_written() {
    let (server, zero) = (server(), Instant::now());
    let names = dns_names("catamaran", "catamaran-system");
    let replicas = [
        replica_of(Source::Given, &server, zero),
        replica_of(Source::Given, &server, zero),
    ];
    replicas[1].lead(true);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        server.lock().unwrap().writes,
        [""; 0],
        "no Secret is made in the place of a missing one"
    );
    assert_eq!(replicas[0].serving.ready(clock(zero)()), Err(NotReady::NoCertificate));

    let mut pairs = Vec::new();
    for round in 0..2 {
        fill(&server, &given(clock(zero)(), &names));
        sleep(Duration::from_secs(4)).await;
        for replica in &replicas {
            assert_eq!(replica.serving.ready(clock(zero)()), Ok(()), "round {round}");
        }
        pairs.push(replicas[0].serving.pair().unwrap().key.cert.clone());
    }
    assert_ne!(pairs[0], pairs[1], "the renewed certificate is served");
    let patch = "PATCH /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/catamaran";
    assert_eq!(server.lock().unwrap().writes, [patch; 2], "one publication each");
}

#[tokio::test(start_paused = true)]
async fn given_secret_that_fails_verification_is_not_published() {
    let (server, zero) = (server(), Instant::now());
    let now = clock(zero)();
    let names = dns_names("catamaran", "catamaran-system");
    let replica = replica_of(Source::Given, &server, zero);
    replica.lead(true);
    let good = given(now, &names);
    fill(&server, &good);
    sleep(Duration::from_secs(3)).await;
    let writes = server.lock().unwrap().writes.len();
    let other = given(now, &names);
    let changed = |key: &str, value: Option<&Value>| {
        let mut data = good.clone();
        data.remove(key);
        data.extend(value.map(|value| (key.to_owned(), value.clone())));
        data
    };
    for (case, data) in [
        ("a CA that did not sign", changed("ca.crt", Some(&other["ca.crt"]))),
        ("no CA", changed("ca.crt", None)),
        ("a truncated certificate", changed("tls.crt", Some(&json!("LS0tLS1C")))),
        (
            "a key of another certificate",
            changed("tls.key", Some(&other["tls.key"])),
        ),
        (
            "a certificate of other names",
            given(now, &["other.example.com".to_owned()]),
        ),
    ] {
        fill(&server, &data);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(
            replica.serving.ready(clock(zero)()),
            Ok(()),
            "{case}: the last good one stays"
        );
        assert_eq!(
            server.lock().unwrap().writes.len(),
            writes,
            "{case}: nothing is written"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn injected_certificate_is_served_and_nothing_is_written() {
    let (server, zero) = (server(), Instant::now());
    let replica = replica_of(Source::Injected, &server, zero);
    replica.lead(true);
    let data = given(clock(zero)(), &dns_names("catamaran", "catamaran-system"));
    fill(&server, &data);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(replica.serving.ready(clock(zero)()), Err(NotReady::NotPublished));
    let mut configuration = server.lock().unwrap().configuration.clone().unwrap();
    configuration["webhooks"][1]["clientConfig"]["caBundle"] = data["ca.crt"].clone();
    server.lock().unwrap().configuration = Some(configuration);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(replica.serving.ready(clock(zero)()), Ok(()));
    assert_eq!(server.lock().unwrap().writes, [""; 0]);
}

/// Lets time pass while every one of these replicas serves what API servers trust at the moment.
async fn pass_time(server: &Shared, replicas: &[&Replica], zero: Instant, seconds: u64, story: &str) {
    for second in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        for (index, replica) in replicas.iter().enumerate() {
            let now = clock(zero)();
            let story = format!("{story}, after {second} s, replica {index}");
            assert_eq!(replica.serving.ready(now), Ok(()), "{story}");
            let trusted = server.lock().unwrap().trusted(Duration::from_millis(500));
            let pair = replica.serving.pair().unwrap();
            assert_eq!(verify(&pair, &trusted, NAME, now), Ok(()), "{story}");
        }
    }
}

/// Ends all replicas.
fn end(replicas: &[Replica]) {
    for replica in replicas {
        replica.lead(false);
        replica.task.abort();
    }
}

/// How many CAs are published.
fn published(server: &Shared) -> usize {
    server.lock().unwrap().published().len()
}

#[tokio::test(start_paused = true)]
async fn change_of_source_keeps_every_replica_trusted() {
    let (server, zero) = (server(), Instant::now());
    let replica = |source| replica_with(source, Schedule::default(), &server, clock(zero));
    let old = [replica(Source::Own), replica(Source::Own)];
    old[0].lead(true);
    sleep(Duration::from_secs(15)).await;
    pass_time(&server, &[&old[0], &old[1]], zero, 30, "before").await;
    fill(
        &server,
        &given(clock(zero)(), &dns_names("catamaran", "catamaran-system")),
    );

    // As a rolling update does: no old replica ends before a new one is ready.
    let new = [replica(Source::Given), replica(Source::Given)];
    pass_time(&server, &[&old[0], &old[1]], zero, 60, "the new ones are coming").await;
    pass_time(
        &server,
        &[&old[0], &old[1], &new[0], &new[1]],
        zero,
        120,
        "side by side",
    )
    .await;
    assert_eq!(published(&server), 2);
    end(&old);
    new[0].lead(true);
    pass_time(&server, &[&new[0], &new[1]], zero, 900, "the new ones alone").await;
    assert_eq!(
        published(&server),
        1,
        "a CA that no replica serves under is not trusted any more"
    );

    let back = replica(Source::Own);
    sleep(Duration::from_mins(1)).await;
    pass_time(&server, &[&new[0], &back], zero, 60, "the way back").await;
    end(&new);
    back.lead(true);
    pass_time(&server, &[&back], zero, 900, "back").await;
    assert_eq!(published(&server), 1);
}
