//! The operator: everything is built here, started, and stopped in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use catamaran_certificates::{CertificateSettings, Schedule, ServingCertificate, Source};
use catamaran_controller::clock::Clock;
use catamaran_controller::connections::Connections;
use catamaran_controller::context::{self, Context};
use catamaran_controller::endpoints::{self, Endpoints, ReplicaName};
use catamaran_controller::mirrors::{self, MirrorTasks, MirrorsContext, Readings};
use catamaran_controller::pods::{self, CensusTask, PodsContext};
use catamaran_controller::proofs::{self, Proofs};
use catamaran_controller::publish::{
    EvidenceStore, FreshnessLayer, NewsReceiver, Replica, Snapshot, SnapshotMetrics, SnapshotPublisher, ViewUpdate,
    WatchFreshness, serve_view,
};
use catamaran_controller::pull_secrets;
use catamaran_controller::reviews::Reviews;
use catamaran_controller::writes::WriteLimits;
use catamaran_core::routing::RouteTable;
use catamaran_lease::{Leadership, LeaseSettings};
use catamaran_registry::Budgets;
use catamaran_webhook::metrics::Outcome;
use catamaran_webhook::server::{AllowedClients, Tls, connection_limits};
use catamaran_webhook::{Admission, View};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::ClientBuilder;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use account::Account;
use notifications::Notifications;

use crate::cli::{Certificates, RunArguments};
use crate::http::{self, Port, health, metrics};
use crate::{exposition, telemetry};

mod account;
mod clients;
mod notifications;
mod pulse;

/// How long the API server may be silent on a connection that is read from. A watch ends within 25 s, so a healthy one
/// is never cut.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the parts may take to end after the last request.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Threads that answer admissions.
const WEBHOOK_THREADS: usize = 2;

/// Threads for everything else.
const CONTROLLER_THREADS: usize = 2;

/// Runs the operator until SIGTERM or SIGINT.
pub fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    telemetry::start(arguments.log_format, &arguments.log_level)?;
    // One provider in the process; a second call would only say that it is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Whatever the controller is busy with, no admission waits for a thread that it has.
    let webhook = runtime("webhook", WEBHOOK_THREADS)?;
    let controller = runtime("controller", CONTROLLER_THREADS)?;
    let result = controller.block_on(operate(arguments, webhook.handle().clone()));
    webhook.shutdown_background();
    result
}

fn runtime(name: &str, threads: usize) -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .with_context(|| format!("failed to start the runtime of the {name}"))
}

async fn operate(arguments: &RunArguments, webhook: Handle) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let freshness = WatchFreshness::default();
    let client = client(&freshness).await?;
    let account = account::ask(&client, &arguments.namespace).await?;
    let parts = Parts::build(arguments, client, freshness, account)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        replica = arguments.pod_name,
        "catamaran is starting"
    );
    let running = parts.start(arguments, &webhook);
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

async fn client(freshness: &WatchFreshness) -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer()
        .await
        .context("failed to find the API server: run this in a cluster, or set KUBECONFIG")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    let builder = ClientBuilder::try_from(config).context("failed to set up the client of the API server")?;
    Ok(builder.with_layer(&FreshnessLayer(freshness.clone())).build())
}

/// Everything that runs, before it does.
struct Parts {
    context: Arc<Context>,
    mirrors: Arc<MirrorsContext>,
    tasks: Arc<MirrorTasks>,
    census: CensusTask,
    publisher: SnapshotPublisher,
    published: watch::Receiver<Snapshot>,
    restarts: watch::Receiver<u64>,
    news: NewsReceiver,
    snapshot_metrics: Arc<SnapshotMetrics>,
    freshness: WatchFreshness,
    table: watch::Sender<Arc<RouteTable>>,
    leadership: watch::Sender<Leadership>,
    view: Arc<View>,
    admission: Arc<Admission>,
    counted: Arc<catamaran_webhook::metrics::Metrics>,
    certificates: CertificateSettings,
    /// Of what is kept for this installation alone.
    owner: Option<OwnerReference>,
    certificate: Arc<ServingCertificate>,
    webhook: std::net::TcpListener,
    health: Port,
    metrics: Port,
    clients: Option<AllowedClients>,
    notifications: Option<Notifications>,
}

impl Parts {
    #[expect(clippy::too_many_lines, reason = "wiring: a line or two for each part")]
    fn build(
        arguments: &RunArguments,
        client: kube::Client,
        freshness: WatchFreshness,
        account: Account,
    ) -> anyhow::Result<Parts> {
        let (table_sender, table) = watch::channel(Arc::default());
        let (leadership_sender, leadership) = catamaran_lease::channel();
        let replica = Replica {
            client: client.clone(),
            namespace: arguments.namespace.clone(),
            identity: arguments.pod_name.clone(),
            leadership: leadership.clone(),
        };
        let excluded = context::excluded_namespaces(&arguments.namespace, &arguments.excluded_namespaces);
        let store = Arc::new(EvidenceStore::new(&replica));
        let (publisher, ends) =
            SnapshotPublisher::new(&replica, Arc::new(excluded), freshness.clone(), Arc::clone(&store));
        let clock = Clock::start();
        let proofs = Arc::new(Proofs::new(
            &arguments.pod_name,
            arguments.proof_namespaces.iter().cloned(),
            clock.now(),
        ));
        let (census, census_task) = pods::census(
            client.clone(),
            table.clone(),
            arguments.read_workloads,
            proofs.namespaces(),
        );
        let counted = Arc::<catamaran_webhook::metrics::Metrics>::default();
        let context = Arc::new(Context {
            namespace: arguments.namespace.clone(),
            clock,
            leadership,
            connections: Connections::new(client.clone(), &arguments.namespace, Arc::new(Budgets::new())),
            table,
            local: ends.local,
            store,
            flips: ends.flips,
            recorder: context::recorder(client.clone(), &arguments.pod_name),
            writes: WriteLimits::default(),
            metrics: Arc::default(),
            reviews: reviews(&arguments.pod_name, &counted),
            client,
        });
        let mirrors = MirrorsContext {
            shared: Arc::clone(&context),
            endpoints: Arc::new(Endpoints::on_node(&arguments.node_name)),
            readings: Readings::default(),
            census,
            proofs,
        };
        let view = Arc::new(View::new(Instant::now()));
        let admission = Arc::new(Admission::new(
            Arc::clone(&view),
            account.username,
            Arc::clone(&counted),
        ));
        let certificate = Arc::new(ServingCertificate::new(
            &arguments.webhook_service,
            &arguments.namespace,
        ));
        let tasks = Arc::default();
        let notifications = notifications::listen(arguments, &context, &tasks)?;
        Ok(Parts {
            context,
            mirrors: Arc::new(mirrors),
            tasks,
            census: census_task,
            publisher,
            published: ends.snapshots,
            restarts: ends.restarts,
            news: ends.news,
            snapshot_metrics: ends.metrics,
            freshness,
            table: table_sender,
            leadership: leadership_sender,
            view,
            admission,
            counted,
            certificates: certificate_settings(arguments, account.owner.clone())?,
            owner: account.owner,
            certificate,
            webhook: http::bind(arguments.webhook_address, &connection_limits())?.into_std()?,
            health: Port::bind(arguments.health_address, health::limits())?,
            metrics: Port::bind(arguments.metrics_address, metrics::limits())?,
            clients: clients::allowed(arguments)?,
            notifications,
        })
    }

    /// What the kubelet asks for.
    fn health(&self, tokens: &Tokens) -> health::Health {
        let clock = self.context.clock;
        let pulse = pulse::Pulse::start();
        let (seen, certificate, stopping) = (
            self.published.clone(),
            Arc::clone(&self.certificate),
            tokens.stopping.clone(),
        );
        health::Health {
            ready: Box::new(move || readiness(&stopping, &seen, &certificate, clock.now())),
            live: Box::new(move || pulse.check()),
        }
    }

    /// What Prometheus asks for.
    fn measured(&self) -> Registry {
        let mut listeners = vec![
            ("webhook", self.counted.listener()),
            ("health", self.health.counts()),
            ("metrics", self.metrics.counts()),
        ];
        let notifications = self.notifications.as_ref();
        listeners.extend(notifications.map(|port| ("notifications", port.counts())));
        let process = exposition::Process {
            webhook: Arc::clone(&self.counted),
            view: Arc::clone(&self.view),
            leadership: self.context.leadership.clone(),
            certificate: Arc::clone(&self.certificate),
            listeners,
        };
        exposition::registry(&self.context.metrics, &self.snapshot_metrics, process)
    }

    #[expect(clippy::too_many_lines, reason = "wiring: a line or two for each part")]
    fn start(self, arguments: &RunArguments, webhook: &Handle) -> Running {
        let tokens = Tokens::default();
        let (health, measured) = (self.health(&tokens), self.measured());
        let clock = self.context.clock;
        let now = move || clock.now();
        let client = || self.context.client.clone();
        let context = || Arc::clone(&self.context);
        let stopping = || tokens.stopping.clone();
        let mut work = vec![
            tokio::spawn(self.publisher.run()),
            tokio::spawn(serve_view(
                self.published.clone(),
                self.freshness,
                show(self.view, self.table),
            )),
            tokio::spawn(self.census.run()),
            tokio::spawn(health::serve(self.health, health, tokens.end.clone())),
            tokio::spawn(metrics::serve(self.metrics, measured, tokens.end.clone())),
            tokio::spawn(catamaran_certificates::run(
                client(),
                self.certificates,
                Arc::clone(&self.certificate),
                self.context.leadership.clone(),
                now,
                tokens.end.clone(),
            )),
        ];
        if let Some(notifications) = self.notifications {
            work.push(tokio::spawn(notifications.serve(tokens.end.clone())));
        }
        let pods = PodsContext {
            client: client(),
            table: self.context.table.clone(),
            restarts: self.restarts,
            leadership: self.context.leadership.clone(),
            recorder: self.context.recorder.clone(),
            metrics: Arc::clone(&self.context.metrics),
            reviews: Arc::clone(&self.context.reviews),
            reports: Arc::clone(&self.tasks) as _,
        };
        let name = ReplicaName {
            pod: arguments.pod_name.clone(),
            uid: arguments.pod_uid.clone(),
            node: arguments.node_name.clone(),
            lease: arguments.lease.clone(),
        };
        let endpoints = Arc::clone(&self.mirrors.endpoints);
        let proofs = Arc::clone(&self.mirrors.proofs);
        let leading = vec![
            tokio::spawn(proofs::run(context(), proofs, stopping())),
            tokio::spawn(endpoints::run(context(), endpoints, name, stopping())),
            tokio::spawn(mirrors::run(self.mirrors, self.tasks, self.news, stopping())),
            tokio::spawn(pods::run(pods, stopping())),
            tokio::spawn(pull_secrets::run(
                context(),
                minting(arguments),
                self.published,
                stopping(),
            )),
        ];
        let settings =
            LeaseSettings::new(&*arguments.namespace, &*arguments.lease, &*arguments.pod_name).owned_by(self.owner);
        let lease = tokio::spawn(catamaran_lease::run(
            client(),
            settings,
            self.leadership,
            now,
            tokens.release.clone(),
        ));
        let tls = Tls {
            certificates: self.certificate,
            clients: self.clients,
        };
        let drain = arguments.drain_seconds;
        // Converted on the runtime that serves it: a listener belongs to the one that it was made on.
        let served = webhook.spawn(serve_webhook(self.webhook, tls, self.admission, stopping(), drain));
        Running {
            tokens,
            work,
            leading,
            lease,
            webhook: served,
        }
    }
}

/// The reviews that this replica's webhook counts, for the leader to hold against pods.
fn reviews(name: &str, counted: &Arc<catamaran_webhook::metrics::Metrics>) -> Arc<Reviews> {
    let counted = Arc::clone(counted);
    let all = move || Outcome::ALL.iter().map(|outcome| counted.reviews(*outcome)).sum();
    Arc::new(Reviews::new(name, all))
}

async fn serve_webhook(
    listener: std::net::TcpListener,
    tls: Tls,
    admission: Arc<Admission>,
    stopping: CancellationToken,
    drain: Duration,
) {
    match TcpListener::from_std(listener) {
        Ok(listener) => catamaran_webhook::server::serve(listener, tls, admission, stopping, drain).await,
        Err(error) => tracing::error!(%error, "failed to serve the webhook"),
    }
}

/// Gives the webhook and the controller what is published.
fn show(view: Arc<View>, tables: watch::Sender<Arc<RouteTable>>) -> impl Fn(ViewUpdate) + Send {
    move |update| {
        if let Some(table) = update.table {
            view.publish(Arc::clone(&table));
            tables.send_replace(table);
        }
        if let Some(answered) = update.answered {
            view.touch(answered);
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
    seen: &watch::Receiver<Snapshot>,
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
