//! The I/O: reads the Secret and the webhook configuration, writes what the plan says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catamaran_lease::Leadership;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::issue::IssueError;
use crate::material::{CaCertificate, Material, MaterialError, VerifyError, bundle, encode_bundle, verify};
use crate::plan::{self, GivenError, Seen, State, Step, plan};
use crate::serving::ServingCertificate;
use crate::settings::{CertificateSettings, Source};

const FIELD_MANAGER: &str = "catamaran-certificates";
/// The pause after a step, before the next one is decided; doubled while step follows step.
const NEXT_STEP: Duration = Duration::from_millis(250);
/// The pause while this replica waits for its first usable certificate.
const NOT_READY: Duration = Duration::from_secs(1);

/// Keeps `serving` up to date until `shutdown` and, while `leadership` says so, the Secret and the caBundle.
pub async fn run(
    client: kube::Client,
    settings: CertificateSettings,
    serving: Arc<ServingCertificate>,
    mut leadership: watch::Receiver<Leadership>,
    clock: impl Fn() -> Timestamp,
    shutdown: CancellationToken,
) {
    let mut manager = CertificateManager {
        secrets: Api::namespaced(client.clone(), &settings.namespace),
        configurations: Api::all(client),
        names: settings.dns_names(),
        settings,
        serving,
        leadership: leadership.clone(),
        clock,
        stored: Vec::new(),
        seen: Seen::default(),
        logged: String::new(),
    };
    let mut steps_in_a_row = 0;
    loop {
        let led = leadership.borrow_and_update().is_leading_now();
        let round = tokio::select! {
            () = shutdown.cancelled() => return,
            round = manager.round() => round,
        };
        steps_in_a_row = if matches!(round, Ok(Step::Wait) | Err(_)) {
            0
        } else {
            steps_in_a_row + 1
        };
        let pause = manager.pause(steps_in_a_row);
        manager.log_once(round.err());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
            // A new leader does not wait: at the first start every replica waits for its caBundle.
            () = catamaran_lease::gained(&mut leadership), if !led => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("failed to {verb} {object}: {source}")]
    Api {
        verb: &'static str,
        object: String,
        source: Box<kube::Error>,
    },
    #[error("failed to {verb} {object}: no answer within {after:?}")]
    Timeout {
        verb: &'static str,
        object: String,
        after: Duration,
    },
    #[error("failed to find a webhook of service \"{service}\" in webhook configuration \"{name}\"")]
    NoWebhook { name: String, service: String },
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("{0}; serving with the last good one")]
    Unusable(#[from] MaterialError),
    #[error("{0}; serving with the last good one")]
    Given(#[from] GivenError),
    #[error("{0}; serving with the last good one")]
    Untrusted(#[from] VerifyError),
}

#[derive(Clone, Copy)]
enum Object {
    Secret,
    Configuration,
}

struct CertificateManager<C> {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    settings: CertificateSettings,
    names: Vec<String>,
    serving: Arc<ServingCertificate>,
    leadership: watch::Receiver<Leadership>,
    clock: C,
    /// What was stored in the last round.
    stored: Vec<CaCertificate>,
    /// How what was published stood to that, and since when.
    seen: Seen,
    /// What was logged last: the same error is logged once.
    logged: String,
}

impl<C: Fn() -> Timestamp> CertificateManager<C> {
    /// Reads both objects and writes at most one.
    async fn round(&mut self) -> Result<Step, RoundError> {
        // In this order: a leader that was superseded in between fails on the configuration's resourceVersion rather than
        // publish an older bundle.
        let configuration = self.configuration().await?;
        let secret = self.secret().await?;
        let now = (self.clock)();
        let trusted: Vec<_> = self
            .webhooks(configuration.as_ref())
            .map(|(_, trusted)| trusted)
            .collect();
        let published = in_common(&trusted);
        let material = secret
            .as_ref()
            .map(|secret| Material::read(secret.data.as_ref().unwrap_or(&BTreeMap::new())));
        self.serve(material.as_ref(), &trusted, now);
        let stored_error = material.as_ref().and_then(|material| self.stored_error(material, now));
        self.serving.stored_is_unusable(stored_error.is_some());
        self.note(material.as_ref(), published, now);
        let state = State {
            stored: material.as_ref(),
            published,
            seen: self.seen,
            names: &self.names,
            schedule: &self.settings.schedule,
        };
        let step = match self.settings.source {
            Source::Own => plan(&state, now),
            Source::Given => plan::given(&state, now)?,
            Source::Injected if state.stored.is_none() => return Err(GivenError::NoSecret.into()),
            Source::Injected => Step::Wait,
        };
        let leads = self.leadership.borrow().is_leading_now();
        let mine = match step {
            Step::Wait => false,
            Step::Create => true,
            Step::Publish => leads || plan::joins(&state, now),
            Step::AddCa | Step::IssueLeaf | Step::DropCas => leads,
        };
        if !mine {
            return stored_error.map_or(Ok(Step::Wait), Err);
        }
        info!(?step, leads, "certificates");
        let written = if let Some(data) = plan::data(step, &state, now)? {
            self.store(secret, data).await
        } else {
            let bundle = plan::bundle(&state, leads, now);
            self.publish(configuration.as_ref(), &bundle).await
        };
        match written {
            // Another write came first: read it in the next round.
            Err(RoundError::Api { source, .. }) if is_conflict(&source) => Ok(step),
            written => written.map(|()| step),
        }
    }

    /// Serves with what was read, if that is better than what is served with.
    fn serve(&self, material: Option<&Material>, trusted: &[Vec<CaCertificate>], now: Timestamp) {
        // A webhook that an upgrade has just added trusts no CA yet; that must not make the others unready.
        let mut trusted = trusted.iter().filter(|bundle| !bundle.is_empty());
        let mut published = trusted.next().cloned().unwrap_or_default();
        trusted.for_each(|other| published.retain(|ca| other.contains(ca)));
        self.serving.trust(published);
        let Some(Ok(pair)) = material.map(|material| &material.pair) else {
            return;
        };
        if self.serving.offer(pair, now) {
            info!(not_after = %pair.not_after, "serving with a new certificate");
        }
    }

    /// Why the stored pair can't be served with: it is unreadable, or a client that trusts the stored bundle would refuse it.
    /// A Secret of another manager may have no bundle; then only what is published says whether the pair is accepted.
    fn stored_error(&self, material: &Material, now: Timestamp) -> Option<RoundError> {
        match &material.pair {
            Ok(_) if material.cas.is_empty() && self.settings.source == Source::Injected => None,
            Ok(pair) => verify(pair, &material.cas, self.serving.name(), now)
                .err()
                .map(RoundError::from),
            Err(error) => Some(error.clone().into()),
        }
    }

    /// Notes since when what is stored and published has stood to each other as it does now.
    fn note(&mut self, material: Option<&Material>, published: Option<&[CaCertificate]>, now: Timestamp) {
        let stored = material.map_or(&[][..], |material| &material.cas);
        let Some(published) = published else {
            self.seen = Seen::default();
            return;
        };
        let before = self.seen;
        // Another bundle has to spread anew.
        let same = self.stored == stored;
        let since = |holds: bool, before: Option<Timestamp>| holds.then(|| before.unwrap_or(now));
        let whole = !stored.is_empty() && plan::covers(published, stored);
        self.seen = Seen {
            whole: since(whole, before.whole.filter(|_| same)),
            absent: since(!whole, before.absent),
            foreign: since(!plan::covers(stored, published), before.foreign),
        };
        self.stored = stored.to_vec();
    }

    /// The webhooks of our Service: name and what each trusts.
    fn webhooks<'a>(
        &'a self,
        configuration: Option<&'a MutatingWebhookConfiguration>,
    ) -> impl Iterator<Item = (&'a str, Vec<CaCertificate>)> {
        let webhooks = configuration
            .and_then(|configuration| configuration.webhooks.as_deref())
            .unwrap_or_default();
        webhooks.iter().filter_map(|webhook| {
            let service = webhook.client_config.service.as_ref()?;
            let ours = service.name == self.settings.service && service.namespace == self.settings.namespace;
            let trusted = webhook
                .client_config
                .ca_bundle
                .as_ref()
                .map(|pem| bundle(&pem.0))
                .unwrap_or_default();
            ours.then_some((webhook.name.as_str(), trusted))
        })
    }

    async fn configuration(&self) -> Result<Option<MutatingWebhookConfiguration>, RoundError> {
        let name = &self.settings.configuration;
        self.bounded("read", Object::Configuration, self.configurations.get_opt(name))
            .await
    }

    async fn secret(&self) -> Result<Option<Secret>, RoundError> {
        let name = &self.settings.secret;
        self.bounded("read", Object::Secret, catamaran_secrets::get_opt(&self.secrets, name))
            .await
    }

    /// Creates the Secret, or replaces these keys of the one that was read; another write in between is a conflict.
    async fn store(&self, read: Option<Secret>, data: BTreeMap<String, ByteString>) -> Result<(), RoundError> {
        let name = &self.settings.secret;
        let options = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let Some(mut secret) = read else {
            let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "catamaran".to_owned())]);
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                owner_references: self.settings.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            };
            let type_ = Some("kubernetes.io/tls".to_owned());
            let secret = Secret {
                metadata,
                type_,
                data: Some(data),
                ..Secret::default()
            };
            let created = catamaran_secrets::create(&self.secrets, &options, &secret);
            let created = self.bounded("create", Object::Secret, created).await;
            return created.map(|_| ());
        };
        secret.data.get_or_insert_default().extend(data);
        let replaced = catamaran_secrets::replace(&self.secrets, name, &options, &secret);
        self.bounded("replace", Object::Secret, replaced).await.map(|_| ())
    }

    /// Publishes a bundle by a strategic merge patch: it addresses webhooks by name, so an index can't go wrong;
    /// it owns nothing but `caBundle`, so Helm, Flux or the AKS enforcer, which apply the rest of the configuration, meet
    /// no conflict; and, unlike a server-side apply, it can't create the object that has just been deleted.
    async fn publish(
        &self,
        configuration: Option<&MutatingWebhookConfiguration>,
        bundle: &[&CaCertificate],
    ) -> Result<(), RoundError> {
        let name = &self.settings.configuration;
        let pem = ByteString(encode_bundle(bundle.iter().copied()).into_bytes());
        let webhooks: Vec<_> = self
            .webhooks(configuration)
            .map(|(webhook, _)| json!({"name": webhook, "clientConfig": {"caBundle": pem}}))
            .collect();
        if webhooks.is_empty() {
            return Err(RoundError::NoWebhook {
                name: name.clone(),
                service: self.settings.service.clone(),
            });
        }
        let version = configuration.and_then(|configuration| configuration.metadata.resource_version.as_deref());
        let patch = Patch::Strategic(json!({"metadata": {"resourceVersion": version}, "webhooks": webhooks}));
        let options = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self.configurations.patch(name, &options, &patch);
        self.bounded("patch", Object::Configuration, patched).await.map(|_| ())
    }

    /// Waits for an answer no longer than for the next round: a hanging connection must not hold back a renewal.
    async fn bounded<T>(
        &self,
        verb: &'static str,
        object: Object,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, RoundError> {
        let after = self.settings.schedule.poll();
        let object = match object {
            Object::Secret => format!("secret {:?}", self.settings.secret),
            Object::Configuration => format!("webhook configuration {:?}", self.settings.configuration),
        };
        match timeout(after, request).await {
            Ok(answer) => answer.map_err(|source| RoundError::Api {
                verb,
                object,
                source: Box::new(source),
            }),
            Err(_) => Err(RoundError::Timeout { verb, object, after }),
        }
    }

    fn pause(&self, steps_in_a_row: u32) -> Duration {
        let poll = self.settings.schedule.poll();
        let pause = match steps_in_a_row {
            0 if self.serving.ready((self.clock)()).is_ok() => poll,
            0 => NOT_READY,
            steps => NEXT_STEP.saturating_mul(1 << (steps - 1).min(8)),
        };
        pause.min(poll)
    }

    fn log_once(&mut self, error: Option<RoundError>) {
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        if !message.is_empty() && message != self.logged {
            warn!(error = message, "failed to update the certificates");
        }
        self.logged = message;
    }
}

/// What all of our webhooks trust alike; where they differ, nothing is published and all are written anew.
fn in_common(trusted: &[Vec<CaCertificate>]) -> Option<&[CaCertificate]> {
    let first = trusted.first()?;
    Some(if trusted.iter().all(|other| other == first) {
        first
    } else {
        &[]
    })
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
