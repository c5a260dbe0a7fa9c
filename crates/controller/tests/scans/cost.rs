//! What passes over Azure's and GitHub's registries cost, with a thousand tags: a tenth of what `make bench-parity` holds to
//! with ten thousand.

use std::collections::BTreeSet;
use std::sync::Arc;

use catamaran_api::mirror::RegistryMirror;
use catamaran_api::policy::policy;
use catamaran_controller::mirrors::Comparison;
use catamaran_core::mirror::in_use::InUse;
use catamaran_core::mirror::parity::Verdict;
use catamaran_core::policy::{MirrorPolicy, Provider};
use catamaran_core::side::{Side, Sides};
use catamaran_emulators::acr::Rights;
use catamaran_emulators::{Acr, Clock as Time, Ghcr, GithubRest, Hosts, Memory, Options, Server, ghcr, github_rest};
use catamaran_registry::{Budgets, Client, Connection, Credentials, Limits, Secret};
use serde_json::json;

const AZURE: &str = "kracr.azurecr.io";
const ACCOUNT: &str = "devopskev";
const PAT: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
const REPOSITORIES: usize = 10;
const EACH: usize = 100;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Repository, tag and verdict.
type Difference = (String, String, &'static str);

/// Both registries and the REST interface behind one address, and what is wrong between them.
struct Ground {
    server: Server,
    comparison: Comparison,
    planted: BTreeSet<Difference>,
}

fn put(memory: &Memory, repository: &str, tag: &str, content: &str) {
    memory.put_manifest(
        repository,
        Some(tag),
        MANIFEST,
        json!({"annotations": {"content": content}}).to_string(),
    );
}

/// A thousand tags; one lacks on each side, and one differs. `github`: which side GitHub is.
fn filled(time: &Time, github: Side) -> (Sides<Arc<Memory>>, BTreeSet<Difference>) {
    let [azure, packages] = [(); 2].map(|()| Arc::new(Memory::new(time.clone())));
    let mut planted = BTreeSet::new();
    for (repository, tag) in (0..REPOSITORIES).flat_map(|repository| (0..EACH).map(move |tag| (repository, tag))) {
        let (name, tag_name) = (format!("team/app-{repository}"), format!("{tag:07x}"));
        let package = format!("{ACCOUNT}/{name}");
        let wrong = match (repository, tag) {
            (1, 10) => Some(Verdict::missing_on(github)),
            (4, 20) => Some(Verdict::missing_on(github.other())),
            (9, 30) => Some(Verdict::Mismatched),
            _ => None,
        };
        if wrong != Some(Verdict::missing_on(github.other())) {
            put(&azure, &name, &tag_name, &format!("{name} {tag}"));
        }
        let there = if wrong == Some(Verdict::Mismatched) {
            "other"
        } else {
            name.as_str()
        };
        if wrong != Some(Verdict::missing_on(github)) {
            put(&packages, &package, &tag_name, &format!("{there} {tag}"));
        }
        planted.extend(wrong.map(|wrong| (name, tag_name, wrong.as_str())));
    }
    let both = Sides::from_fn(|side| {
        if side == github {
            packages.clone()
        } else {
            azure.clone()
        }
    });
    (both, planted)
}

fn client(server: &Server, host: &str, provider: Provider, password: Option<&str>, budgets: &Budgets) -> Client {
    let credentials = password.map_or(Credentials::Anonymous, |password| Credentials::Basic {
        username: ACCOUNT.to_owned(),
        password: Secret::new(password.to_owned()),
    });
    let connection = Connection {
        registry: host.to_owned(),
        provider,
        credentials,
        extra_ca: Some(server.ca_pem().unwrap().as_bytes().to_vec()),
        resolve: [host, github_rest::HOST]
            .map(|host| (host.to_owned(), server.address()))
            .into(),
        ..Connection::default()
    };
    Client::with_budgets(connection, Limits::default(), budgets).unwrap()
}

impl Ground {
    /// `github`: which side GitHub is; `token`: whether there is a personal access token for it.
    async fn start(github: Side, token: bool) -> Ground {
        let time = Time::new();
        let (memories, planted) = filled(&time, github);
        let acr = Acr::new(AZURE, memories[github.other()].clone(), time.clone());
        acr.add_account(ACCOUNT, "password", Rights::reader("*"));
        let packages = memories[github].clone();
        let registry = Ghcr::new(packages.clone(), time.clone());
        packages
            .repositories()
            .iter()
            .for_each(|package| registry.publish(package));
        registry.add_token(PAT, &["*"]);
        let rest = GithubRest::new(packages, time.clone());
        rest.add_token(PAT);
        // Finding out that it is no organisation costs requests.
        rest.add_user(ACCOUNT);
        let hosts = Hosts::new()
            .with(AZURE, Arc::new(acr))
            .with(ghcr::HOST, Arc::new(registry))
            .with(github_rest::HOST, Arc::new(rest));
        let server = Server::start(Arc::new(hosts), Options::default()).await.unwrap();
        let budgets = Budgets::new();
        // The requests are counted, not paced.
        budgets.set_limit(AZURE, 100_000_000);
        let clients = Sides::from_fn(|side| {
            if side == github {
                client(&server, ghcr::HOST, Provider::GitHub, token.then_some(PAT), &budgets)
            } else {
                client(&server, AZURE, Provider::Azure, Some("password"), &budgets)
            }
        });
        Ground {
            server,
            comparison: Comparison::new(mirror(github), clients, InUse::default()),
            planted,
        }
    }

    /// One pass; its requests.
    async fn pass(&mut self) -> usize {
        self.server.log().clear();
        let pass = self.comparison.pass().await.unwrap();
        assert!(pass.is_complete(), "{pass:?}");
        let summary = self.comparison.mirror().summary();
        assert_eq!(summary.in_sync, REPOSITORIES * EACH - self.planted.len());
        self.server.log().total()
    }

    fn found(&self) -> BTreeSet<Difference> {
        let diverged = self.comparison.mirror().diverged();
        diverged
            .map(|one| (one.repository, one.tag, one.verdict.as_str()))
            .collect()
    }
}

fn mirror(github: Side) -> MirrorPolicy {
    let side = |side: Side| {
        if side == github {
            json!({"registry": ghcr::HOST, "provider": "github", "prefix": ACCOUNT})
        } else {
            json!({"registry": AZURE, "provider": "azure"})
        }
    };
    let names = (0..REPOSITORIES).map(|repository| json!({"name": format!("team/app-{repository}")}));
    let mirror = json!({
        "apiVersion": "catamaran.dev/v1alpha1", "kind": "RegistryMirror",
        "metadata": {"name": "apps", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "primary": side(Side::Primary), "fallback": side(Side::Fallback),
            "parity": {"gracePeriod": "0s"},
            "repositories": names.collect::<Vec<_>>(),
        },
    });
    let mirror: RegistryMirror = serde_json::from_value(mirror).unwrap();
    policy(&mirror).unwrap()
}

#[tokio::test]
async fn bulk_listing_of_thousand_tags_costs_seventy_requests() {
    for github in Side::ALL {
        let mut ground = Ground::start(github, true).await;
        let first = ground.pass().await;
        assert!(
            first <= 70,
            "{first}, GitHub is the {github:?}: {:?}",
            ground.server.log().counts()
        );
        ground.pass().await;
        assert_eq!(ground.found(), ground.planted, "GitHub is the {github:?}");
    }
}

#[tokio::test]
async fn unchanged_pass_tag_by_tag_costs_a_twentieth() {
    for github in Side::ALL {
        let mut ground = Ground::start(github, false).await;
        let first = ground.pass().await;
        // Besides the tags and pages, one manifest is asked for on both sides: a listing serves none.
        assert!(
            first <= 1_042,
            "{first}, GitHub is the {github:?}: {:?}",
            ground.server.log().counts()
        );
        ground.pass().await;
        assert_eq!(ground.found(), ground.planted, "GitHub is the {github:?}");
        let unchanged = ground.pass().await;
        assert!(unchanged <= 52, "{unchanged}, GitHub is the {github:?}");
    }
}
