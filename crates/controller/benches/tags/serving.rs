//! The operator as a process: the webhook on a runtime of its own, beside a leader's work for its mirrors.
//!
//! It does what lines on its standard input say, answers each with a line, and ends with the input.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_controller::publish::{ViewUpdate, serve_view};
use catamaran_webhook::{Admission, View};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::apiserver::{ApiServer, MIRRORS, NAMESPACES};
use crate::leader::Command;
use crate::mirror::{MirrorOf, namespace};
use crate::replica::{Replica, pass};
use crate::threads;

/// Between two changes of a tag.
const CHANGE_EVERY: Duration = Duration::from_millis(200);
/// Between two flips.
const FLIP_EVERY: Duration = Duration::from_millis(300);

/// What lies between two changes of a tag in this process.
struct Operator {
    server: ApiServer,
    replica: Replica,
    mirrors: Vec<MirrorOf>,
    leaders: Vec<UnboundedSender<Command>>,
    work: Vec<AbortOnDropHandle<()>>,
}

/// Serves so many mirrors of so many tags each, until standard input ends. Prints the port and the certificate first.
pub fn run(mirrors: u32, tags: u32) {
    let api = threads::runtime("apiserver", 1);
    let (webhook, controller) = (threads::runtime("webhook", 2), threads::runtime("controller", 2));
    // The API server is another machine's work.
    threads::pin("apiserver", 1);
    let server = ApiServer::new(api.handle().clone());
    let mirrors: Vec<MirrorOf> = (0..mirrors).map(|number| MirrorOf { number, tags }).collect();
    for mirror in &mirrors {
        server.put(MIRRORS, mirror.object(0));
    }
    server.put(NAMESPACES, namespace("shop"));
    let replica = Replica::start(&server, controller.handle(), true);
    let view = Arc::new(View::new(Instant::now()));
    let shown = Arc::clone(&view);
    controller.spawn(serve_view(
        replica.snapshots.clone(),
        replica.freshness.clone(),
        move |update: ViewUpdate| {
            update.table.into_iter().for_each(|table| shown.publish(table));
            update.answered.into_iter().for_each(|answered| shown.touch(answered));
        },
    ));
    let admission = Admission::new(
        view,
        "system:serviceaccount:catamaran:catamaran".to_owned(),
        Arc::default(),
    );
    let (port, certificate) = webhook.block_on(listen(admission));
    println!("{port} {certificate}");
    let mut operator = Operator {
        server,
        replica,
        mirrors,
        leaders: Vec::new(),
        work: Vec::new(),
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        controller.block_on(operator.act(&line));
        println!("done");
        let _ = std::io::stdout().flush();
    }
    std::process::exit(0);
}

impl Operator {
    async fn act(&mut self, what: &str) {
        match what {
            // All tags are read for the first time.
            "load" => {
                self.leaders = self.mirrors.iter().map(|mirror| self.replica.lead(*mirror)).collect();
                futures::future::join_all(self.leaders.iter().map(pass)).await;
                let tags: u32 = self.mirrors.iter().map(|mirror| mirror.tags).sum();
                self.replica.knows(tags as usize).await;
            }
            // Tags change, and passes run.
            "change" => {
                let passes = self.leaders.clone();
                self.spawn(async move {
                    loop {
                        futures::future::join_all(passes.iter().map(pass)).await;
                        tokio::time::sleep(CHANGE_EVERY).await;
                    }
                });
                let (leaders, mirrors) = (self.leaders.clone(), self.mirrors.clone());
                self.spawn(change(leaders, mirrors));
            }
            "flip" => self.spawn(flip(self.server.clone(), self.mirrors.clone())),
            // Another replica begins with what is stored.
            "restart" => {
                let mut other = Replica::start(&self.server, &tokio::runtime::Handle::current(), false);
                let tags: u32 = self.mirrors.iter().map(|mirror| mirror.tags).sum();
                other.knows(tags as usize).await;
            }
            // Nothing is under way any more.
            _ => {
                self.work.clear();
                futures::future::join_all(self.leaders.iter().map(pass)).await;
            }
        }
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.push(AbortOnDropHandle::new(tokio::spawn(work)));
    }
}

async fn change(leaders: Vec<UnboundedSender<Command>>, mirrors: Vec<MirrorOf>) {
    let mut ticks = tokio::time::interval(CHANGE_EVERY);
    for round in 0u64.. {
        ticks.tick().await;
        let which = round as usize % leaders.len();
        let tag = round * 7_919 * 101 % u64::from(mirrors[which].tags);
        let _ = leaders[which].send(Command::Change(tag as u32));
    }
}

/// The status of one mirror after the other names the other side.
async fn flip(server: ApiServer, mirrors: Vec<MirrorOf>) {
    let mut ticks = tokio::time::interval(FLIP_EVERY);
    for round in 0u32.. {
        ticks.tick().await;
        let count = mirrors.len() as u32;
        server.put(MIRRORS, mirrors[(round % count) as usize].object(round / count + 1));
    }
}

/// Starts the real server on this runtime; its port and certificate.
async fn listen(admission: Admission) -> (u16, String) {
    let issued = rcgen::generate_simple_self_signed(["webhook".to_owned()]).expect("a certificate is made");
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("the key is one");
    let key = CertifiedKey::from_der(vec![issued.cert.der().clone()], key, &aws_lc_rs::default_provider());
    let resolver = Arc::new(Always(Arc::new(key.expect("the key fits"))));
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(catamaran_webhook::server::serve(
        listener,
        catamaran_webhook::server::Tls {
            certificates: resolver,
            clients: None,
        },
        Arc::new(admission),
        CancellationToken::new(),
        Duration::from_secs(1),
    ));
    (port, STANDARD.encode(issued.cert.der()))
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
