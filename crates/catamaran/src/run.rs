//! The operator: everything is built here, started, and stopped in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use catamaran_certificates::{CertificateSettings, Schedule, ServingCertificate, Source};
use catamaran_controller::clock::Clock;
use catamaran_controller::connections::Connections;
use catamaran_controller::contact::{Contact, ContactLayer};
use catamaran_controller::context::{self, Context, Mirror};
use catamaran_controller::crews::Crews;
use catamaran_controller::feed::{self, View as Seen};
use catamaran_controller::memory::Memories;
use catamaran_controller::readings::Readings;
use catamaran_controller::{pods, pull_secrets, reconcile};
use catamaran_lease::{Leadership, LeaseSettings};
use catamaran_registry::Budgets;
use catamaran_webhook::{Admission, Identity, View};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::ClientBuilder;
use kube::runtime::reflector::ObjectRef;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use account::Account;

use crate::cli::{Certificates, RunArguments};
use crate::{exposition, http, listener, notifications, telemetry};

mod account;
mod hints;
mod janitor;
mod pulse;

/// How long the API server may be silent on a connection that is read from. A watch ends within 25 s, so a healthy one
/// is never cut.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the parts may take to end after the last request.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Runs the operator until SIGTERM or SIGINT.
pub fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    telemetry::start(arguments.log_format, &arguments.log_level)?;
    // One provider in the process; a second call would only say that it is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime
        .context("failed to start the runtime")?
        .block_on(operate(arguments))
}

async fn operate(arguments: &RunArguments) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let contact = Contact::default();
    let client = client(&contact).await?;
    let account = account::ask(&client, &arguments.namespace).await?;
    let parts = Parts::build(arguments, client, contact, account).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        replica = arguments.pod_name,
        "catamaran is starting"
    );
    let running = parts.start(arguments);
    stop.await;
    tracing::info!(
        seconds = arguments.drain_seconds.as_secs(),
        "stopping: still serving while endpoints are updated"
    );
    running.stop(arguments.drain_seconds).await;
    Ok(())
}

/// A future that ends when the process is asked to.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn client(contact: &Contact) -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer()
        .await
        .context("failed to find the API server: run this in a cluster, or set KUBECONFIG")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let builder = ClientBuilder::try_from(config).context("failed to set up the client of the API server")?;
    Ok(builder.with_layer(&ContactLayer(contact.clone())).build())
}

/// Everything that runs, before it does.
struct Parts {
    context: Arc<Context>,
    contact: Contact,
    seen: watch::Receiver<Seen>,
    seen_sender: watch::Sender<Seen>,
    table_sender: watch::Sender<Arc<catamaran_core::routes::RouteTable>>,
    leadership_sender: watch::Sender<Leadership>,
    triggers: mpsc::UnboundedReceiver<ObjectRef<Mirror>>,
    view: Arc<View>,
    admission: Arc<Admission>,
    counted: Arc<catamaran_webhook::metrics::Metrics>,
    certificates: CertificateSettings,
    /// Of what is kept for this installation alone.
    owner: Option<OwnerReference>,
    certificate: Arc<ServingCertificate>,
    webhook: TcpListener,
    http: TcpListener,
    notifications: Option<TcpListener>,
}

impl Parts {
    async fn build(
        arguments: &RunArguments,
        client: kube::Client,
        contact: Contact,
        account: Account,
    ) -> anyhow::Result<Parts> {
        let (seen_sender, seen) = watch::channel(Seen::default());
        let (table_sender, table) = watch::channel(Arc::default());
        let (leadership_sender, leadership) = catamaran_lease::channel();
        let (triggers_sender, triggers) = mpsc::unbounded_channel();
        let context = Context {
            excluded_namespaces: context::excluded_namespaces(&arguments.namespace, &arguments.excluded_namespaces),
            identity: arguments.pod_name.clone(),
            namespace: arguments.namespace.clone(),
            clock: Clock::start(),
            leadership,
            memories: Memories::default(),
            connections: Connections::new(client.clone(), &arguments.namespace, Arc::new(Budgets::new())),
            readings: Readings::default(),
            crews: Crews::default(),
            table,
            triggers: triggers_sender,
            turns: watch::channel(0).0,
            recorder: context::recorder(client.clone(), &arguments.pod_name),
            metrics: Arc::default(),
            client,
        };
        let view = Arc::new(View::new(Instant::now()));
        let own = Identity {
            namespace: arguments.namespace.clone(),
            username: account.username,
        };
        let counted = Arc::<catamaran_webhook::metrics::Metrics>::default();
        let admission = Arc::new(Admission::new(Arc::clone(&view), own, Arc::clone(&counted)));
        let certificate = Arc::new(ServingCertificate::new(
            &arguments.webhook_service,
            &arguments.namespace,
        ));
        Ok(Parts {
            context: Arc::new(context),
            contact,
            seen,
            seen_sender,
            table_sender,
            leadership_sender,
            triggers,
            view,
            admission,
            counted,
            certificates: certificate_settings(arguments, account.owner.clone())?,
            owner: account.owner,
            certificate,
            webhook: listener::bind(arguments.webhook_address).await?,
            http: listener::bind(arguments.http_address).await?,
            notifications: hints::listener(arguments).await?,
        })
    }

    /// What the kubelet and Prometheus ask for.
    fn status(&self, tokens: &Tokens) -> http::Status {
        let clock = self.context.clock;
        let pulse = pulse::Pulse::start();
        let process = exposition::Process {
            webhook: Arc::clone(&self.counted),
            view: Arc::clone(&self.view),
            leadership: self.context.leadership.clone(),
            certificate: Arc::clone(&self.certificate),
        };
        let (seen, certificate, stopping) = (
            self.seen.clone(),
            Arc::clone(&self.certificate),
            tokens.stopping.clone(),
        );
        http::Status {
            ready: Box::new(move || readiness(&stopping, &seen, &certificate, clock.now())),
            live: Box::new(move || pulse.check()),
            metrics: exposition::registry(&self.context.metrics, process),
        }
    }

    fn start(self, arguments: &RunArguments) -> Running {
        let tokens = Tokens::default();
        let status = Arc::new(self.status(&tokens));
        let clock = self.context.clock;
        let now = move || clock.now();
        let client = || self.context.client.clone();
        let certificates = self.certificates.clone();
        let (serving, leadership, end) = (
            Arc::clone(&self.certificate),
            self.context.leadership.clone(),
            &tokens.end,
        );
        let context = || Arc::clone(&self.context);
        let (minting, seen) = (minting(arguments), self.seen.clone());
        let mut work = vec![
            tokio::spawn(feed::run(client(), arguments.namespace.clone(), self.seen_sender)),
            tokio::spawn(janitor::run(
                context(),
                self.seen,
                self.table_sender,
                self.view,
                self.contact,
            )),
            tokio::spawn(http::serve(self.http, status, end.clone())),
            tokio::spawn(catamaran_certificates::run(
                client(),
                certificates,
                serving,
                leadership,
                now,
                end.clone(),
            )),
        ];
        if let Some(listener) = self.notifications {
            let desk = hints::desk(arguments, context());
            work.push(tokio::spawn(notifications::serve(listener, desk, end.clone())));
        }
        let leading = vec![
            tokio::spawn(reconcile::run(context(), self.triggers, tokens.stopping.clone())),
            tokio::spawn(pods::run(context(), tokens.stopping.clone())),
            tokio::spawn(pull_secrets::run(context(), minting, seen, tokens.stopping.clone())),
        ];
        let settings =
            LeaseSettings::new(&*arguments.namespace, &*arguments.lease, &*arguments.pod_name).owned_by(self.owner);
        let lease = tokio::spawn(catamaran_lease::run(
            client(),
            settings,
            self.leadership_sender,
            now,
            tokens.release.clone(),
        ));
        let (stopping, drain) = (tokens.stopping.clone(), arguments.drain_seconds);
        let tls: Arc<dyn rustls::server::ResolvesServerCert> = self.certificate;
        let webhook = catamaran_webhook::server::serve(self.webhook, tls, self.admission, stopping, drain);
        Running {
            tokens,
            work,
            leading,
            lease,
            webhook: tokio::spawn(webhook),
        }
    }
}

fn certificate_settings(
    arguments: &RunArguments,
    owner: Option<OwnerReference>,
) -> anyhow::Result<CertificateSettings> {
    let schedule = Schedule::lasting(arguments.authority_lifetime, arguments.certificate_lifetime)?;
    Ok(CertificateSettings {
        namespace: arguments.namespace.clone(),
        secret: arguments.certificate_secret.clone(),
        owner,
        configuration: arguments.webhook_configuration.clone(),
        service: arguments.webhook_service.clone(),
        source: match arguments.certificates {
            Certificates::Own => Source::Own,
            Certificates::Secret => Source::Given,
            Certificates::CertManager => Source::Injected,
        },
        schedule,
    })
}

fn minting(arguments: &RunArguments) -> pull_secrets::Settings {
    pull_secrets::Settings {
        namespaces: arguments.pull_secret_namespaces.iter().cloned().collect(),
        names: arguments.pull_secret_names.iter().cloned().collect(),
    }
}

/// Ready: the mirrors were listed once, and the API server can trust what this replica serves with. Never a registry: an
/// outage of one must not take the webhook away.
fn readiness(
    stopping: &CancellationToken,
    seen: &watch::Receiver<Seen>,
    certificate: &ServingCertificate,
    now: jiff::Timestamp,
) -> Result<(), String> {
    if stopping.is_cancelled() {
        return Err("stopping".to_owned());
    }
    if !seen.borrow().complete {
        return Err("the mirrors have not been listed yet".to_owned());
    }
    certificate.ready(now).map_err(|error| error.to_string())
}

/// What ends when.
#[derive(Default)]
struct Tokens {
    /// Not ready any more, nothing new is begun.
    stopping: CancellationToken,
    /// The lease is given back.
    release: CancellationToken,
    /// Everything else.
    end: CancellationToken,
}

/// Everything that runs.
struct Running {
    tokens: Tokens,
    work: Vec<JoinHandle<()>>,
    leading: Vec<JoinHandle<()>>,
    lease: JoinHandle<()>,
    webhook: JoinHandle<()>,
}

impl Running {
    /// Ends in order: readiness and the leader's work, the lease, the webhook after its drain, the rest.
    async fn stop(self, drain: Duration) {
        self.tokens.stopping.cancel();
        for task in self.leading {
            end(task, END_WITHIN).await;
        }
        self.tokens.release.cancel();
        end(self.lease, END_WITHIN).await;
        end(self.webhook, drain + END_WITHIN).await;
        self.tokens.end.cancel();
        self.work.iter().for_each(JoinHandle::abort);
    }
}

async fn end(mut task: JoinHandle<()>, within: Duration) {
    if tokio::time::timeout(within, &mut task).await.is_err() {
        tracing::warn!("a part did not end in time and is cut off");
        task.abort();
    }
}
