//! Diagnosis for people: what a pull from this machine needs, step by step, with what was found.
//!
//! A probe says whether a registry serves; this says what it looks like on the way. It reports facts and leaves what to
//! do about them to the user.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use catamaran_core::digest::Digest;
use catamaran_core::endpoint::Unavailable;
use catamaran_core::tags::TagFilter;
use http::Method;
use url::Host;

use crate::auth::kind::Presented;
use crate::auth::scheme::Scheme;
use crate::client::Client;
use crate::diagnose::probe;
use crate::session::{About, Session};
use crate::tags::ListedTag;
use crate::wire::address::{self, Kind};
use crate::wire::ask::Ask;
use crate::wire::broken;
use crate::wire::failure::{Class, Failure, Stage, one_line};
use crate::wire::tls::around::Around;
use crate::wire::transport::Http;

mod certificate;
mod granted;

pub use certificate::Certificate;
pub use granted::Granted;

use certificate::Recorder;

/// What to diagnose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiagnosisTarget {
    /// The repository's full path; without one the diagnosis ends with the token.
    pub repository: Option<String>,
    /// The tag to pull; absent: `latest` where there is one, else the last by name.
    pub tag: Option<String>,
}

/// The steps, bottom first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The registry's name has addresses.
    Dns,
    /// TCP connects.
    Connect,
    /// The certificate is trusted.
    Tls,
    /// `/v2/` says how to authenticate.
    Challenge,
    /// What we authenticate with.
    Credential,
    /// The registry accepts it.
    Token,
    /// The repository's tags are listed.
    Tags,
    /// A tag's manifest arrives.
    Manifest,
    /// The first byte of one of its blobs arrives.
    Blob,
}

impl Step {
    /// The step in one word, for documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Dns => "dns",
            Step::Connect => "connect",
            Step::Tls => "tls",
            Step::Challenge => "challenge",
            Step::Credential => "credential",
            Step::Token => "token",
            Step::Tags => "tags",
            Step::Manifest => "manifest",
            Step::Blob => "blob",
        }
    }
}

/// An address of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Whether it belongs to a private network or to this machine.
    pub private: bool,
}

/// How `/v2/` wants to be authenticated with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Not at all.
    Nothing,
    /// The credential itself.
    Basic,
    /// A token.
    Bearer {
        /// The token endpoint, which is admitted for this registry.
        realm: String,
        /// What the registry calls itself there.
        service: Option<String>,
    },
}

/// What was seen on a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The registry's addresses.
    Addresses {
        /// Those that may be connected to; empty when only the proxy knows.
        addresses: Vec<Address>,
        /// The proxy that the environment names.
        proxy: Option<String>,
    },
    /// The port that took a connection.
    Connected(u16),
    /// The certificates that were shown, the registry's own first.
    Certificates(Vec<Certificate>),
    /// How to authenticate.
    Wants(Wants),
    /// What we authenticate with.
    Presented(Presented),
    /// The registry let us in.
    Admitted {
        /// What the token was asked for; absent without one.
        scope: Option<String>,
        /// What it is good for, where it can be read.
        granted: Option<Granted>,
    },
    /// How many tags the repository has.
    Tags(usize),
    /// A manifest.
    Manifest {
        /// The tag that was asked for.
        tag: String,
        /// Its digest.
        digest: Digest,
        /// Its media type, as the registry gave it.
        media_type: Option<String>,
    },
    /// The request that brought a blob's first byte.
    Blob(String),
}

/// One step that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// Which one.
    pub step: Step,
    /// What was seen; of a failed step perhaps a part.
    pub finding: Option<Finding>,
    /// Why it failed; then it is the last.
    pub failure: Option<Failure>,
}

impl StepResult {
    fn well(step: Step, finding: Finding) -> StepResult {
        StepResult {
            step,
            finding: Some(finding),
            failure: None,
        }
    }

    fn failed(step: Step, failure: Failure) -> StepResult {
        StepResult {
            step,
            finding: None,
            failure: Some(failure),
        }
    }
}

impl Client {
    /// Goes through the steps until one fails and reports each as soon as it is done: DNS, TCP, TLS, the challenge, the credential, a
    /// token, the list of tags, a manifest, a blob. A step that failed is the last one reported.
    ///
    /// Connections and tokens are fresh, nothing waits for the budget, and each request has the client's limits.
    pub async fn diagnose(&self, target: &DiagnosisTarget, mut see: impl FnMut(StepResult)) {
        let shared = self.shared();
        let recorder = Arc::new(Around {
            verifier: shared.trust.verifier.clone(),
            extra: Recorder::default(),
        });
        let limits = shared.session.http.limits.clone();
        let http = match Http::new(
            shared.guard.clone(),
            &shared.trust.verified_by(recorder.clone()),
            limits,
        ) {
            Ok(http) => http,
            Err(error) => {
                let class = Class::Unavailable(Unavailable::TlsError);
                let failure = Failure::new(Stage::Tls, class, error.to_string());
                return see(StepResult::failed(Step::Tls, failure));
            }
        };
        let repository = target.repository.as_deref().unwrap_or_default();
        let diagnosis = Diagnosis {
            session: self.session(repository).afresh(Arc::new(http)),
            recorder,
            target,
        };
        if let Err(last) = diagnosis.diagnose(&mut see).await {
            see(*last);
        }
    }
}

struct Diagnosis<'t> {
    session: Session,
    recorder: Arc<Around<Recorder>>,
    target: &'t DiagnosisTarget,
}

/// The step that failed.
type FailedStep = Box<StepResult>;

fn fallen(step: Step) -> impl FnOnce(Failure) -> FailedStep {
    move |failure| Box::new(StepResult::failed(step, failure))
}

impl Diagnosis<'_> {
    async fn diagnose(&self, see: &mut impl FnMut(StepResult)) -> Result<(), FailedStep> {
        see(StepResult::well(
            Step::Dns,
            self.addresses().await.map_err(fallen(Step::Dns))?,
        ));
        self.reach(see).await?;
        let presented = self.session.provider.presented(&self.session.site.credentials);
        see(StepResult::well(Step::Credential, Finding::Presented(presented)));
        let admitted = self.admitted().await.map_err(fallen(Step::Token))?;
        see(StepResult::well(Step::Token, admitted));
        let Some(repository) = &self.target.repository else {
            return Ok(());
        };
        let tags = self.tags(repository).await.map_err(fallen(Step::Tags))?;
        see(StepResult::well(Step::Tags, Finding::Tags(tags.len())));
        let (tag, manifest) = self.manifest(repository, &tags).await.map_err(fallen(Step::Manifest))?;
        let digest = manifest.digest.clone();
        let found = Finding::Manifest {
            tag,
            digest: manifest.digest,
            media_type: manifest
                .media_type
                .map(|name| one_line(&self.session.site.credentials.scrub(name))),
        };
        see(StepResult::well(Step::Manifest, found));
        let byte = self.session.first_byte_below(repository, &digest).await;
        see(StepResult::well(
            Step::Blob,
            Finding::Blob(byte.map_err(fallen(Step::Blob))?),
        ));
        Ok(())
    }

    async fn addresses(&self) -> Result<Finding, Failure> {
        let (base, guard) = (&self.session.site.base, &self.session.http.guard);
        let request = format!("GET {base}v2/");
        let found = match base.host() {
            Some(Host::Ipv4(address)) => Ok(vec![address.into()]),
            Some(Host::Ipv6(address)) => Ok(vec![address.into()]),
            _ => {
                let host = base.host_str().unwrap_or_default();
                let limit = self.session.http.limits.connect;
                let late = |_| {
                    let class = Class::Unavailable(Unavailable::Timeout);
                    let message = format!("{request}: no answer from DNS within {limit:?}");
                    Failure::new(Stage::Dns, class, message)
                };
                let found = tokio::time::timeout(limit, guard.resolve(host)).await.map_err(late);
                found.and_then(|found| {
                    let found = found.map_err(|error| broken::unresolved(&error, Stage::Dns, &request))?;
                    Ok(found.iter().map(SocketAddr::ip).collect())
                })
            }
        };
        let proxy = guard.proxy();
        let addresses: Vec<IpAddr> = match found {
            Err(_) if proxy.is_some() => Vec::new(),
            found => found?,
        };
        let sorted = addresses.into_iter().map(|address| Address {
            address,
            private: address::kind(address) != Kind::Public,
        });
        Ok(Finding::Addresses {
            addresses: sorted.collect(),
            proxy,
        })
    }

    /// TCP, TLS and the challenge: the steps of one request.
    async fn reach(&self, see: &mut impl FnMut(StepResult)) -> Result<(), FailedStep> {
        let answer = self.session.challenge().await;
        let (reached, failure) = match answer {
            Ok(()) => (Stage::Challenge, None),
            Err(failure) => (probe::place(&self.session, &failure).0, Some(failure)),
        };
        let certificates = || Finding::Certificates(self.recorder.extra.certificates());
        if let Some(failure) = failure {
            let port = self.port();
            return Err(Box::new(match reached {
                Stage::Dns => StepResult::failed(Step::Dns, failure),
                Stage::Connect => StepResult::failed(Step::Connect, failure),
                Stage::Tls => {
                    see(StepResult::well(Step::Connect, Finding::Connected(port)));
                    StepResult {
                        step: Step::Tls,
                        finding: Some(certificates()),
                        failure: Some(failure),
                    }
                }
                _ => {
                    see(StepResult::well(Step::Connect, Finding::Connected(port)));
                    see(StepResult::well(Step::Tls, certificates()));
                    StepResult::failed(Step::Challenge, failure)
                }
            }));
        }
        see(StepResult::well(Step::Connect, Finding::Connected(self.port())));
        see(StepResult::well(Step::Tls, certificates()));
        let wants = match self.session.tokens.scheme() {
            Scheme::Unknown | Scheme::Open => Wants::Nothing,
            Scheme::Basic => Wants::Basic,
            Scheme::Bearer { realm, service, .. } => Wants::Bearer {
                realm: one_line(realm.as_str()),
                service: service.as_deref().map(one_line),
            },
        };
        see(StepResult::well(Step::Challenge, Finding::Wants(wants)));
        Ok(())
    }

    fn port(&self) -> u16 {
        self.session.site.base.port_or_known_default().unwrap_or(443)
    }

    async fn admitted(&self) -> Result<Finding, Failure> {
        let session = &self.session;
        match (session.tokens.scheme(), &self.target.repository) {
            (Scheme::Bearer { .. }, Some(repository)) => {
                let scope = session.protocol.scope(repository);
                let url = session.site.url(&format!("/v2/{repository}/tags/list"));
                let ask = Ask::new(Method::GET, url, Stage::Tags);
                let header = session.authorize(&ask, About::reading(repository)).await?;
                Ok(Finding::Admitted {
                    granted: header.as_ref().and_then(granted::granted),
                    scope: Some(scope),
                })
            }
            // A registry that only knows Basic tells by `/v2/` itself; one that gives tokens, by one for nothing in particular.
            (Scheme::Basic | Scheme::Bearer { .. }, _) => {
                if session.protocol.has_basic(&session.site) {
                    session.check_credentials().await?;
                }
                Ok(Finding::Admitted {
                    scope: None,
                    granted: None,
                })
            }
            (Scheme::Unknown | Scheme::Open, _) => Ok(Finding::Admitted {
                scope: None,
                granted: None,
            }),
        }
    }

    async fn tags(&self, repository: &str) -> Result<Vec<ListedTag>, Failure> {
        let limit = self.session.http.limits.listing;
        let listed = tokio::time::timeout(limit, self.session.list_tags(repository)).await;
        listed.unwrap_or_else(|_| {
            let class = Class::Unavailable(Unavailable::Timeout);
            let message = format!("failed to list the tags of {repository:?} within {} s", limit.as_secs());
            Err(Failure::new(Stage::Tags, class, message))
        })
    }

    async fn manifest(
        &self,
        repository: &str,
        tags: &[ListedTag],
    ) -> Result<(String, crate::content::manifest::Manifest), Failure> {
        let tag = self.target.tag.clone().or_else(|| worth_pulling(tags));
        let tag = tag.ok_or_else(|| {
            let message = format!("{repository:?} has no tag that could be pulled");
            Failure::new(Stage::Manifest, Class::NotFound, message)
        })?;
        let manifest = self.session.manifest(repository, &tag).await?;
        Ok((tag, manifest))
    }
}

/// `latest`, or the last by name; never the tags that signatures are stored under.
fn worth_pulling(tags: &[ListedTag]) -> Option<String> {
    let ordinary = TagFilter::default();
    let mut names = tags.iter().map(|tag| tag.name.as_str());
    let latest = names.clone().find(|name| *name == "latest");
    latest
        .or_else(|| names.rfind(|name| ordinary.selects(name)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
