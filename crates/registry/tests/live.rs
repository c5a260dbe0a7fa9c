//! The client against the live services, with an account of yours: `make test-live`.
//!
//! For each service `CATAMARAN_LIVE_{AZURE,GITHUB,AWS,GOOGLE,GENERIC}` names a repository, such as `name.azurecr.io/web`; its
//! credential is in `..._USERNAME` and `..._PASSWORD`, without them it is read anonymously. Everything is only read. A
//! service without its variable is skipped, and said to be.

use std::process::ExitCode;
use std::time::Duration;

use catamaran_core::endpoint::{Outcome, Unavailable};
use catamaran_core::policy::Provider;
use catamaran_registry::{Client, Connection, Credentials, Limits, ProbeTarget, Secret};

const SERVICES: [(&str, Provider); 5] = [
    ("AZURE", Provider::Azure),
    ("GITHUB", Provider::GitHub),
    ("AWS", Provider::Aws),
    ("GOOGLE", Provider::Google),
    ("GENERIC", Provider::Generic),
];

/// Digests that are checked against their content.
const SAMPLE: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (service, provider) in SERVICES {
        let Some(place) = variable(service, "") else {
            println!("SKIPPED {service}: CATAMARAN_LIVE_{service} is not set, nothing was tried against it");
            skipped += 1;
            continue;
        };
        match Live::new(service, provider, &place).and_then(|live| Ok((live.client()?, live))) {
            Err(problem) => {
                println!("FAILED {service}: {problem}");
                failed += 1;
            }
            Ok((client, live)) => match live.check(&client).await {
                Ok(()) => passed += 1,
                Err(problem) => {
                    println!("FAILED {service}: {problem}");
                    failed += 1;
                }
            },
        }
    }
    println!("\ntest result: {passed} services passed; {failed} failed; {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn variable(service: &str, part: &str) -> Option<String> {
    std::env::var(format!("CATAMARAN_LIVE_{service}{part}"))
        .ok()
        .filter(|value| !value.is_empty())
}

struct Live {
    service: &'static str,
    connection: Connection,
    repository: String,
}

impl Live {
    fn new(service: &'static str, provider: Provider, place: &str) -> Result<Live, String> {
        let (registry, repository) = place
            .split_once('/')
            .ok_or_else(|| format!("CATAMARAN_LIVE_{service} must be HOST/REPOSITORY, not {place:?}"))?;
        let credentials = match (variable(service, "_USERNAME"), variable(service, "_PASSWORD")) {
            (Some(username), Some(password)) => Credentials::Basic {
                username,
                password: Secret::new(password),
            },
            (None, None) => Credentials::Anonymous,
            _ => return Err("a user name needs a password, and the other way round".to_owned()),
        };
        Ok(Live {
            service,
            connection: Connection {
                registry: registry.to_owned(),
                provider,
                credentials,
                ..Connection::default()
            },
            repository: repository.to_owned(),
        })
    }

    fn client(&self) -> Result<Client, String> {
        Client::new(self.connection.clone(), Limits::default()).map_err(|error| error.to_string())
    }

    async fn check(&self, client: &Client) -> Result<(), String> {
        let tell = |what: String| println!("{}: {what}", self.service);
        let patience = Duration::from_secs(20);
        let report = client.probe(&ProbeTarget::default(), patience).await;
        tell(format!("{} in {:?}", report.message, report.elapsed));
        expect(report.outcome == Outcome::Reachable, "the registry answers", &report)?;

        let tags = client
            .list_tags(&self.repository)
            .await
            .map_err(|failure| failure.to_string())?;
        let with_digest = tags.iter().filter(|tag| tag.digest.is_some()).count();
        tell(format!(
            "{} tags, {with_digest} of them listed with a digest",
            tags.len()
        ));
        let newest = tags.last().ok_or("the repository has no tags")?;

        for tag in tags.iter().rev().take(SAMPLE) {
            let told = client.resolve(&self.repository, &tag.name).await;
            let told = told.map_err(|failure| failure.to_string())?;
            let content = client.resolve_verified(&self.repository, &tag.name).await;
            let content = content.map_err(|failure| failure.to_string())?;
            expect(
                told.digest == content.digest,
                "HEAD tells the digest of the content",
                &tag.name,
            )?;
            let listed = tag.digest.as_ref().is_none_or(|listed| *listed == told.digest);
            expect(listed, "the listing tells the digest of the content", &tag.name)?;
        }

        let digest = client.resolve(&self.repository, &newest.name).await;
        let digest = digest.map_err(|failure| failure.to_string())?.digest;
        let target = ProbeTarget {
            canary: Some((self.repository.clone(), digest)),
            blob: true,
            fresh_token: true,
        };
        let report = client.probe(&target, patience).await;
        tell(format!("{} in {:?}", report.message, report.elapsed));
        expect(
            report.outcome == Outcome::Reachable,
            "a blob's first byte arrives",
            &report,
        )?;

        let absent = client.resolve(&self.repository, "catamaran-has-no-such-tag").await;
        match absent {
            Err(failure) if failure.is_absent() => tell(format!("an absent tag: {failure}")),
            other => return Err(format!("a tag that is not there is not told as absent: {other:?}")),
        }
        self.check_wrong_credential(patience).await
    }

    /// A wrong credential must never look like an outage.
    async fn check_wrong_credential(&self, patience: Duration) -> Result<(), String> {
        let connection = Connection {
            credentials: Credentials::Basic {
                username: "catamaran".to_owned(),
                password: Secret::new("not-the-password".to_owned()),
            },
            ..self.connection.clone()
        };
        let client = Client::new(connection, Limits::default()).map_err(|error| error.to_string())?;
        let report = client.probe(&ProbeTarget::default(), patience).await;
        println!("{}: a wrong credential: {}", self.service, report.message);
        let outage = matches!(
            report.outcome,
            Outcome::Unavailable(Unavailable::ServerError | Unavailable::Timeout)
        );
        expect(!outage, "a wrong credential is no outage", &report)
    }
}

fn expect(holds: bool, what: &str, seen: &impl std::fmt::Debug) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("expected that {what}: {seen:?}"))
    }
}
