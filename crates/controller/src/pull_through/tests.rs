//! Rounds after passes over an emulated account at Amazon that caches ghcr.io.

use std::collections::{BTreeMap, BTreeSet};

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_core::evidence::Verdict;
use catamaran_core::health::{Outcome, Probe};
use catamaran_core::pull_through::InUse;
use catamaran_core::routes::RouteTable;
use catamaran_core::side::Sides;
use catamaran_emulators::{Aws, Clock as Time, Ecr, Ghcr, Hosts, Memory, Options, Server};
use catamaran_registry::{AwsIdentity, Connection, Credentials, Limits};
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::scanner::{self, scan_all};
use crate::testbed::{nobody, replica};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const GHCR: &str = "ghcr.io";

struct Ground {
    ecr: Arc<Ecr>,
    upstream: Arc<Memory>,
    server: Server,
    context: Arc<Context>,
    memory: Arc<MirrorMemory>,
    keeper: Keeper,
    in_use: InUse,
}

/// A mirror whose primary caches `ghcr.io/krateo` below `github`, as the account's rule says or the test's prefix.
fn mirror(ecr: &Ecr, prefix: &str, prewarm: bool) -> MirrorPolicy {
    let mirror: RegistryMirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": {
                "registry": ecr.host(), "prefix": prefix, "provider": "aws", "pullThroughCache": true, "prewarm": prewarm,
            },
            "fallback": {"registry": GHCR, "prefix": "krateo", "provider": "github"},
            "parity": {"gracePeriod": "0s"},
            "repositories": [{"name": "web"}],
        },
    }))
    .unwrap();
    policy(&mirror).unwrap()
}

impl Ground {
    async fn start(prefix: &str, prewarm: bool) -> Ground {
        let clock = Time::new();
        let upstream = Arc::new(Memory::new(clock.clone()));
        let aws = Arc::new(Aws::new(clock.clone()));
        aws.add_key("AKIAEXAMPLE", SECRET, "user");
        let held = Arc::new(Memory::new(clock.clone()));
        let ecr = Arc::new(Ecr::new("123456789012", "eu-central-1", held, aws, clock.clone()));
        ecr.cache("github", GHCR, upstream.clone());
        let ghcr = Arc::new(Ghcr::new(upstream.clone(), clock.clone()));
        ghcr.publish("krateo/web");
        let hosts = Hosts::new()
            .with(&ecr.host(), ecr.clone())
            .with(&ecr.api(), ecr.clone())
            .with(GHCR, ghcr);
        let options = Options {
            clock,
            ..Options::default()
        };
        let server = Server::start(Arc::new(hosts), options).await.unwrap();
        let policy = Arc::new(mirror(&ecr, prefix, prewarm));
        let context = replica(nobody(), Arc::new(RouteTable::default()), true);
        let names = [ecr.host(), ecr.api(), GHCR.to_owned()];
        let keys = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for side in Side::ALL {
            let amazon = Credentials::Aws(AwsIdentity::from_variables(keys.clone()));
            let connection = Connection {
                registry: policy.sides[side].registry.clone(),
                provider: policy.sides[side].provider,
                pull_through: policy.sides[side].pull_through_cache,
                credentials: if side == Side::Primary {
                    amazon
                } else {
                    Credentials::Anonymous
                },
                extra_ca: Some(server.ca_pem().unwrap().as_bytes().to_vec()),
                resolve: names.iter().map(|name| (name.clone(), server.address())).collect(),
                ..Connection::default()
            };
            let client = Client::new(connection, Limits::default()).unwrap();
            context.connections.seat(&policy, side, client);
        }
        let memory = context.memories.of(&policy.id);
        Ground {
            ecr,
            upstream,
            server,
            memory,
            keeper: Keeper {
                policy,
                cache: Side::Primary,
                tried: Tried::default(),
                rules_at: Instant::now(),
            },
            context,
            in_use: BTreeMap::new(),
        }
    }

    fn uses(&mut self, tags: &[&str]) {
        let tags: BTreeSet<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.in_use.insert("web".to_owned(), tags);
        self.memory.state().in_use.clone_from(&self.in_use);
    }

    fn probed(&self, outcome: Outcome) {
        let policy = &self.keeper.policy;
        for side in Side::ALL {
            let probe = Probe {
                at: self.context.clock.now(),
                outcome,
                message: "m".to_owned(),
            };
            for _ in 0..policy.health.success_threshold.max(policy.health.failure_threshold) {
                self.memory.state().probes[side].record(probe.clone(), &policy.health);
            }
        }
    }

    async fn pass(&self) {
        let policy = &self.keeper.policy;
        let clients = scanner::clients(&self.context, policy).await;
        for _ in 0..3 {
            let unreadable = scan_all(
                self.context.clock,
                policy,
                &self.memory,
                &clients,
                &self.context.readings,
                &self.in_use,
            )
            .await;
            assert_eq!(unreadable, Sides::default());
        }
    }

    async fn round(&mut self) {
        self.keeper.round(&self.context, &self.memory).await;
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("catamaran");
        self.context.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn verdict(&self, tag: &str) -> Option<Verdict> {
        self.memory.state().ledger.verdict("web", tag)
    }
}

#[tokio::test]
async fn what_pods_use_and_the_cache_lacks_is_pulled_through_it_and_then_in_sync() {
    let mut ground = Ground::start("github/krateo", true).await;
    for tag in ["1.0", "2.0", "unused"] {
        ground.upstream.push("krateo/web", tag, tag);
    }
    ground.uses(&["1.0", "2.0", "3.0"]);
    ground.probed(Outcome::Reachable);
    ground.pass().await;
    assert!(ground.ecr.imports().is_empty(), "a pass only looks");
    ground.round().await;
    let mut imports = ground.ecr.imports();
    imports.sort();
    assert_eq!(imports, ["github/krateo/web:1.0", "github/krateo/web:2.0"]);
    let mut wanted = ground.memory.take_wanted().unwrap();
    assert_eq!(
        [wanted.try_recv(), wanted.try_recv()].map(|one| one.map(|tag| tag.repository)),
        [Ok("web".to_owned()), Ok("web".to_owned())],
        "they are verified at once"
    );
    let metrics = ground.metrics();
    for line in [
        r#"catamaran_pull_through_tags_in_use{mirror="apps",kind="miss"} 2"#,
        r#"catamaran_prewarmed_total{mirror="apps",kind="Pulled"} 2"#,
        r#"catamaran_pull_through_age_seconds{mirror="apps"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }

    ground.pass().await;
    ground.round().await;
    assert_eq!(ground.ecr.imports().len(), 2, "nothing twice");
    assert_eq!(
        [ground.verdict("1.0"), ground.verdict("unused")],
        [Some(Verdict::InSync), Some(Verdict::Pending)]
    );
    let metrics = ground.metrics();
    for line in [
        r#"catamaran_pull_through_tags_in_use{mirror="apps",kind="hit"} 2"#,
        r#"catamaran_pull_through_tags_in_use{mirror="apps",kind="miss"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn nothing_is_pulled_through_unasked_or_while_a_side_is_away() {
    for (prewarm, outcome) in [
        (false, Outcome::Reachable),
        (
            true,
            Outcome::Unavailable(catamaran_core::health::Unavailable::ServerError),
        ),
    ] {
        let mut ground = Ground::start("github/krateo", prewarm).await;
        ground.upstream.push("krateo/web", "1.0", "1.0");
        ground.uses(&["1.0"]);
        ground.probed(outcome);
        ground.pass().await;
        ground.round().await;
        assert!(ground.ecr.imports().is_empty(), "{prewarm}");
        let miss = r#"catamaran_pull_through_tags_in_use{mirror="apps",kind="miss"} 1"#;
        assert!(ground.metrics().contains(miss), "{}", ground.metrics());
    }
}

#[tokio::test]
async fn a_tag_that_moved_upstream_is_stale_with_an_age_and_asked_for_again() {
    let mut ground = Ground::start("github/krateo", true).await;
    ground.upstream.push("krateo/web", "latest", "first");
    ground.uses(&["latest"]);
    ground.probed(Outcome::Reachable);
    ground.pass().await;
    ground.round().await;
    ground.upstream.push("krateo/web", "latest", "second");
    ground.keeper.tried = Tried::default();
    ground.pass().await;
    assert_eq!(ground.verdict("latest"), Some(Verdict::Mismatched));
    let before = ground.server.log().count("manifest");
    ground.round().await;
    assert!(ground.server.log().count("manifest") > before, "a pull may renew it");
    let stale = r#"catamaran_pull_through_tags_in_use{mirror="apps",kind="stale"} 1"#;
    assert!(ground.metrics().contains(stale), "{}", ground.metrics());
}

#[tokio::test]
async fn the_first_refusal_ends_the_round_and_nothing_is_asked_twice_in_a_while() {
    let mut ground = Ground::start("github/krateo", true).await;
    let tags: Vec<String> = (0..10).map(|n| format!("v{n}")).collect();
    for tag in &tags {
        ground.upstream.push("krateo/web", tag, tag);
    }
    ground.uses(&tags.iter().map(String::as_str).collect::<Vec<_>>());
    ground.probed(Outcome::Reachable);
    ground.pass().await;
    let refusal = catamaran_emulators::Answer::error("manifest", 403, "DENIED", "no");
    ground.ecr.fail("manifest", refusal, usize::MAX);
    let before = ground.server.log().count("manifest");
    ground.round().await;
    let asked = ground.server.log().count("manifest") - before;
    assert!((1..=2 * AT_A_TIME).contains(&asked), "{asked} requests");
    assert!(ground.ecr.imports().is_empty());
    let failed = r#"catamaran_prewarmed_total{mirror="apps",kind="Failed"} 1"#;
    assert!(ground.metrics().contains(failed), "{}", ground.metrics());
}

#[tokio::test]
async fn the_accounts_rule_is_read_once_an_hour_and_sooner_where_it_does_not_fit() {
    for (prefix, fits) in [("github/krateo", true), ("", false)] {
        let mut ground = Ground::start(prefix, false).await;
        ground.round().await;
        ground.round().await;
        assert_eq!(ground.server.log().count("rules"), 1, "{prefix}");
        let wait = ground.keeper.rules_at - Instant::now();
        assert_eq!(wait > RULES_AGAIN, fits, "{wait:?}");
        let expected = if fits {
            Placement::Fits
        } else {
            Placement::Differs {
                repository: Some("web".to_owned()),
                is: "web".to_owned(),
                should: "github/krateo/web".to_owned(),
            }
        };
        let prefix = Some("github".to_owned());
        assert_eq!(
            ground.memory.state().rule,
            Some(Rule::Read {
                prefix,
                placement: expected
            })
        );
    }
    let mut ground = Ground::start("github/krateo", false).await;
    ground.ecr.deny("DescribePullThroughCacheRules");
    ground.round().await;
    let Some(Rule::Unknown { message }) = ground.memory.state().rule.clone() else {
        panic!("it was refused")
    };
    assert!(message.contains("ecr:DescribePullThroughCacheRules"), "{message}");
}
