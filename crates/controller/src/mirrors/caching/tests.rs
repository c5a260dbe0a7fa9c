//! An emulated account at Amazon that caches ghcr.io.

use std::sync::Arc;

use catamaran_api::policy::policy;
use catamaran_core::mirror::prewarm::Placement;
use catamaran_emulators::{Answer, Aws, Clock as Time, Ecr, Ghcr, Hosts, Memory, Options, Server};
use catamaran_registry::aws::AwsIdentity;
use catamaran_registry::{Client, Connection, Limits};
use serde_json::json;

use super::*;
use crate::testbed::{metric, nobody, replica};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const GHCR: &str = "ghcr.io";

struct Ground {
    ecr: Arc<Ecr>,
    upstream: Arc<Memory>,
    _server: Server,
    context: Context,
    policy: MirrorPolicy,
}

/// A mirror whose primary caches `ghcr.io/krateo` below `github`, if `prefix` is what the account's rule says.
fn mirror(ecr: &Ecr, prefix: &str) -> MirrorPolicy {
    let mirror = serde_json::from_value(json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1"},
        "spec": {
            "primary": {
                "registry": ecr.host(), "prefix": prefix, "provider": "aws", "pullThroughCache": true, "prewarm": true,
            },
            "fallback": {"registry": GHCR, "prefix": "krateo", "provider": "github"},
            "repositories": [{"name": "web"}],
        },
    }));
    policy(&mirror.unwrap()).unwrap()
}

impl Ground {
    async fn start(prefix: &str) -> Ground {
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
        let policy = mirror(&ecr, prefix);
        let context = replica(nobody(), Arc::default(), true);
        let names = [ecr.host(), ecr.api(), GHCR.to_owned()];
        let keys = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let connection = Connection {
            registry: ecr.host(),
            provider: policy.sides.primary.provider,
            pull_through: true,
            credentials: AwsIdentity::from_variables(keys).into(),
            extra_ca: Some(server.ca_pem().unwrap().as_bytes().to_vec()),
            resolve: names.iter().map(|name| (name.clone(), server.address())).collect(),
            ..Connection::default()
        };
        let client = Client::new(connection, Limits::default()).unwrap();
        context.connections.seat(&policy, Side::Primary, client);
        Ground {
            ecr,
            upstream,
            _server: server,
            context,
            policy,
        }
    }

    async fn prewarm(&self, tag: &str) -> PrewarmOutcome {
        let wanted = Pull {
            repository: "web".to_owned(),
            tag: tag.to_owned(),
        };
        match prewarm(&self.context, &self.policy, wanted.clone()).await {
            Event::Prewarmed { pull, outcome } => {
                assert_eq!(*pull, wanted);
                outcome
            }
            event => panic!("nothing was asked for: {event:?}"),
        }
    }

    fn counted(&self, kind: &str) -> u64 {
        let line = format!(r#"catamaran_prewarmed_total{{mirror="apps",kind="{kind}"}}"#);
        metric(&self.context.metrics, &line)
    }
}

#[tokio::test]
async fn cache_imports_the_tag_that_it_is_asked_for() {
    let ground = Ground::start("github/krateo").await;
    for tag in ["1.0", "unused"] {
        ground.upstream.push("krateo/web", tag, tag);
    }
    assert_eq!(ground.prewarm("1.0").await, PrewarmOutcome::Pulled);
    assert_eq!(ground.prewarm("no-such-tag").await, PrewarmOutcome::Absent);
    assert_eq!(ground.ecr.imports(), ["github/krateo/web:1.0"]);
    assert_eq!((ground.counted("Pulled"), ground.counted("Absent")), (1, 1));
}

#[tokio::test]
async fn refused_import_is_no_absence() {
    let ground = Ground::start("github/krateo").await;
    ground.upstream.push("krateo/web", "1.0", "1.0");
    let refusal = Answer::error("manifest", 403, "DENIED", "no");
    ground.ecr.fail("manifest", refusal, usize::MAX);
    assert_eq!(ground.prewarm("1.0").await, PrewarmOutcome::Failed);
    assert!(ground.ecr.imports().is_empty());
    assert_eq!(ground.counted("Failed"), 1);
}

#[tokio::test]
async fn mirror_without_a_cache_or_a_client_imports_nothing() {
    let mut ground = Ground::start("github/krateo").await;
    ground.upstream.push("krateo/web", "1.0", "1.0");
    ground.policy.sides.primary.pull_through_cache = false;
    assert_eq!(ground.prewarm("1.0").await, PrewarmOutcome::Failed);
    ground.policy.sides.primary.pull_through_cache = true;
    ground.policy.sides.primary.credentials_secret = Some("pull".to_owned());
    assert_eq!(
        ground.prewarm("1.0").await,
        PrewarmOutcome::Failed,
        "the Secret can't be read"
    );
    assert!(ground.ecr.imports().is_empty());
}

#[tokio::test]
async fn rule_of_the_account_is_compared_with_the_paths() {
    let differs = Placement::Differs {
        repository: Some("web".to_owned()),
        is: "web".to_owned(),
        should: "github/krateo/web".to_owned(),
    };
    for (prefix, placement) in [("github/krateo", Placement::Fits), ("", differs)] {
        let ground = Ground::start(prefix).await;
        let rule = read_rule(&ground.context, &ground.policy, Side::Primary).await;
        let expected = CacheRule::Read {
            prefix: Some("github".to_owned()),
            placement,
        };
        assert_eq!(rule, expected, "{prefix}");
    }
}

#[tokio::test]
async fn rule_that_can_not_be_read_names_the_missing_right() {
    let ground = Ground::start("github/krateo").await;
    ground.ecr.deny("DescribePullThroughCacheRules");
    let rule = read_rule(&ground.context, &ground.policy, Side::Primary).await;
    let CacheRule::Unknown { message } = rule else {
        panic!("it was refused: {rule:?}")
    };
    assert!(message.contains("ecr:DescribePullThroughCacheRules"), "{message}");
}
