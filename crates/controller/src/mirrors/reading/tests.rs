//! A mirror whose primary has no client, because its Secret is missing.

use catamaran_api::policy::policy;
use catamaran_core::mirror::{Effect, Mirror, ReferenceName};
use catamaran_core::routing::evidence::Evidence;
use catamaran_registry::Limits;
use catamaran_scripted_registry::Registry;
use serde_json::json;

use super::*;
use crate::mirrors::readings::Readings;
use crate::testbed::{api_server, replica};

struct Ground {
    sources: Sources,
    policy: Arc<MirrorPolicy>,
    _fallback: Registry,
}

impl Ground {
    async fn start() -> Ground {
        let api = api_server(|_, _, _| {
            let missing =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
            (404, missing.to_string().into_bytes())
        });
        let context = replica(api, Arc::default(), true);
        let mirror = serde_json::from_value(json!({
            "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "apps", "uid": "u1"},
            "spec": {
                "primary": {"registry": "kracr.azurecr.io", "secretRef": {"name": "gone"}},
                "fallback": {"registry": "ghcr.io", "prefix": "devopskev"},
                "repositories": [{"name": "web"}],
            },
        }));
        let policy = Arc::new(policy(&mirror.unwrap()).unwrap());
        let fallback = Registry::start().await.unwrap();
        fallback.push("devopskev/web", "1.0", "first");
        let connection = fallback.connection("ghcr.io", policy.sides.fallback.provider);
        let client = Client::new(connection, Limits::default()).unwrap();
        context.connections.seat(&policy, Side::Fallback, client);
        Ground {
            sources: Sources {
                clock: context.clock,
                readings: Readings::default(),
                registries: Arc::new(context),
            },
            policy,
            _fallback: fallback,
        }
    }

    /// What a leader wants read of a tag that a pod waits for.
    fn wanted(&self, tag: &str) -> Resolve {
        let now = self.sources.clock.now();
        let mut mirror = Mirror::new(self.policy.id.clone());
        let name = ReferenceName {
            repository: "web".to_owned(),
            reference: tag.to_owned(),
        };
        let events = [
            Event::Spec {
                policy: Arc::clone(&self.policy),
                generation: 1,
            },
            Event::Status(Box::default()),
            Event::Prior(Evidence::default()),
            Event::Leading(true),
            Event::Wanted {
                references: vec![name],
                urgent: true,
            },
        ];
        let mut effects = events.into_iter().flat_map(|event| mirror.handle(event, now));
        let wanted = effects.find_map(|effect| match effect {
            Effect::Resolve(wanted) => Some(wanted),
            _ => None,
        });
        wanted.unwrap()
    }
}

fn reasons(failures: &Sides<Option<ReadFailure>>) -> Sides<Option<&str>> {
    Sides::from_fn(|side| failures[side].as_ref().map(|failure| failure.reason))
}

const NO_CLIENT: Sides<Option<&str>> = Sides {
    primary: Some("CredentialsUnavailable"),
    fallback: None,
};

#[tokio::test]
async fn reference_is_unread_on_a_side_without_a_client() {
    let ground = Ground::start().await;
    for (tag, is_there) in [("1.0", true), ("no-such-tag", false)] {
        let event = resolve(&ground.sources, &ground.policy, None, ground.wanted(tag)).await;
        let Event::Resolved(resolved) = event else {
            panic!("nothing was read: {event:?}")
        };
        assert_eq!(resolved.seen.primary, Observed::Unknown, "{tag}");
        assert_eq!(resolved.seen.fallback == Observed::Absent, !is_there, "{tag}");
        let served = Sides {
            primary: false,
            fallback: is_there,
        };
        assert_eq!(resolved.served, served, "{tag}");
        assert_eq!(reasons(&resolved.failures), NO_CLIENT, "{tag}");
    }
}

#[tokio::test]
async fn listing_is_unread_on_a_side_without_a_client() {
    let ground = Ground::start().await;
    let (events, mut queue) = mpsc::channel(8);
    let mut pass = PassReading::new(1);
    pass.list(&ground.sources, &ground.policy, "web", events);
    let Some(Event::Listed(listed)) = queue.next().await else {
        panic!("nothing was listed")
    };
    assert_eq!(reasons(&listed.failures), NO_CLIENT);
    let [tag] = &listed.tags[..] else {
        panic!("{:?}", listed.tags)
    };
    assert_eq!((tag.name.as_str(), &tag.sides.primary), ("1.0", &Listing::Unread));
    assert!(matches!(tag.sides.fallback, Listing::Named(_)));
    assert_eq!(
        listed.unlisted,
        Sides::default(),
        "it is not said to lack what the other side lists"
    );
}
