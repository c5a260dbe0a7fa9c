//! Reviews for the operator's process, from this one on the other core.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use crate::client::{self, Load};
use crate::mirror::MirrorOf;
use crate::others::Others;
use crate::table::{Table, median};
use crate::threads;

/// Reviews a second, over so many connections.
const RATE: u32 = 500;
const CONNECTIONS: usize = 8;

/// Rounds without changes and with them, in turn.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

const RATIO_BAR: f64 = 3.0;
const LATEST_BAR: Duration = Duration::from_millis(100);
/// A bar on a clock that others can hold up is missed if each of so many attempts misses it.
const ATTEMPTS: usize = 3;

const REVIEW: &str = include_str!("../../../webhook/tests/fixtures/create.json");

/// The operator as a process on core 0.
struct Operator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    review: String,
    clients: tokio::runtime::Runtime,
}

impl Operator {
    fn start(mirrors: u32, tags: u32) -> Operator {
        threads::pin_process(1);
        let me = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(me)
            .args(["--serve", &mirrors.to_string(), &tags.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this needs two cores and taskset");
        let input = child.stdin.take().expect("it was piped");
        let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the operator says where it is");
        let (port, certificate) = line.trim().split_once(' ').expect("and who");
        let (repository, tag) = MirrorOf { number: 0, tags }.names(0);
        let clients = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Operator {
            child,
            input,
            output,
            address: SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))),
            certificate: STANDARD.decode(certificate).expect("base64").into(),
            review: REVIEW.replace("shop/web:3f2a91c", &format!("{repository}:{tag}")),
            clients: clients.expect("a runtime starts"),
        }
    }

    /// Counts what is done by others than the operator and its clients.
    fn others(&self) -> Others {
        Others::than(vec![std::process::id(), self.child.id()])
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.input, "{what}").expect("the operator listens");
    }

    fn heard(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the operator answers");
        assert_eq!(line.trim(), "done");
    }

    fn act(&mut self, what: &str) {
        self.tell(what);
        self.heard();
    }

    /// Sends reviews for a time; how long each took, sorted.
    fn review(&self, duration: Duration) -> Vec<Duration> {
        let load = Load::paced(CONNECTIONS, RATE);
        let certificate = self.certificate.clone();
        self.clients
            .block_on(client::run(self.address, certificate, &self.review, load, duration))
    }

    /// The slowest review of those sent until the operator has done something.
    fn slowest_during(&mut self, what: &str) -> Duration {
        self.tell(what);
        let mut slowest = Duration::ZERO;
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let output = &mut self.output;
            scope.spawn(move || {
                let mut line = String::new();
                output.read_line(&mut line).expect("the operator answers");
                let _ = done.send(());
            });
            let load = Load::paced(CONNECTIONS, RATE);
            while is_done.try_recv().is_err() {
                let second = Duration::from_secs(1);
                let run = client::run(self.address, self.certificate.clone(), &self.review, load, second);
                slowest = slowest.max(self.clients.block_on(run).last().copied().unwrap_or_default());
            }
        });
        slowest
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The p99 of reviews while tags of one mirror change and passes run, as a multiple of what it is while nothing happens.
pub fn compare(tags: u32, barred: bool, table: &mut Table) {
    let mut operator = Operator::start(1, tags);
    operator.act("load");
    operator.review(ROUND / 2);
    let attempts = if barred { ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        let others = operator.others();
        let p99 = |times: &[Duration]| times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e3;
        let rounds: Vec<(f64, f64)> = (0..if barred { ROUNDS } else { ROUNDS / 2 })
            .map(|_| {
                let idle = p99(&operator.review(ROUND));
                operator.act("change");
                let busy = p99(&operator.review(ROUND));
                operator.act("rest");
                (idle, busy)
            })
            .collect();
        let share = others.share();
        let ratio = median(rounds.iter().map(|(idle, busy)| busy / idle));
        let of = |which: fn(&(f64, f64)) -> f64| median(rounds.iter().map(which));
        let figure = format!("{:.2} / {:.2}", of(|round| round.1), of(|round| round.0));
        Table::row(tags, "p99 ms of a review: with changes / without", &figure, "");
        Table::row(tags, "the one as a multiple of the other", &format!("{ratio:.2}"), "3");
        if ratio <= RATIO_BAR || attempt == attempts {
            let holds = !barred || ratio <= RATIO_BAR;
            let bar = "the p99 of reviews is at most 3 times what it is without changes";
            return table.expect_by_clock(holds, share, bar);
        }
    }
}

/// The slowest review while the tags of ten mirrors are read and stored, change, and their mirrors flip.
pub fn wait(tags: u32, barred: bool, table: &mut Table) {
    let attempts = if barred { ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        let mut operator = Operator::start(10, tags / 10);
        let others = operator.others();
        let mut slowest = vec![("all tags are read and stored", operator.slowest_during("load"))];
        slowest.push(("another replica loads them", operator.slowest_during("restart")));
        operator.act("change");
        let seconds = Duration::from_secs(if barred { 6 } else { 2 });
        slowest.push((
            "tags change and passes run",
            operator.review(seconds).pop().unwrap_or_default(),
        ));
        operator.act("flip");
        slowest.push(("and mirrors flip", operator.review(seconds).pop().unwrap_or_default()));
        for (what, time) in &slowest {
            let figure = format!("{:.1}", time.as_secs_f64() * 1e3);
            Table::row(tags, &format!("ms of the slowest review: {what}"), &figure, "100");
        }
        let holds = slowest.iter().all(|(_, time)| *time <= LATEST_BAR);
        if holds || attempt == attempts {
            let bar = "no admission is later than 100 ms";
            return table.expect_by_clock(!barred || holds, others.share(), bar);
        }
    }
}
