//! What it costs to verify Azure's registry against GitHub's, both emulated in a process of their own and each in its own
//! protocol: requests, seconds, peak memory, and differences found, beside regsync on the same registries.
//!
//! `make bench-parity`. The process that verifies runs the operator's scanner and clients and nothing else. Bars of requests,
//! memory and differences fail the run; times are told. `REGSYNC` is the path of regsync; without it that part is left out.
//! regsync asks for one tag after the other, so with latency it gets a tenth of the tags, unless `BENCH_FULL` is set: then it
//! takes a quarter of an hour more.

mod ground;
mod plan;
mod regsync;
mod table;
mod talk;
mod worker;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ground::Ground;
use plan::{Kind, Size, planted};
use table::{Measured, Row, Table, bar, told};
use worker::{Access, Primary, Task, Worker};

const SMALL: Size = Size {
    repositories: 10,
    each: 100,
};
const USUAL: Size = Size {
    repositories: 100,
    each: 100,
};
/// As many repositories as a mirror lists.
const LARGE: Size = Size {
    repositories: 500,
    each: 200,
};
const LATENCY: Duration = Duration::from_millis(40);
/// Bytes that the process may have resident.
const MOST_USUAL: u64 = 25_000_000;
/// The same with [`LARGE`].
const MOST_LARGE: u64 = 60_000_000;
/// The first pass may take so many seconds.
const MOST_SECONDS: f64 = 90.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let role = |role: &str| arguments.iter().position(|argument| argument == role);
    if let Some(place) = role(ground::ROLE) {
        let size = serde_json::from_str(&arguments[place + 1]).expect("a size");
        run(ground::serve(size));
        return ExitCode::SUCCESS;
    }
    if let Some(place) = role(worker::ROLE) {
        let task = serde_json::from_str(&arguments[place + 1]).expect("a task");
        run(worker::work(task));
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(missed) => {
            eprintln!("{missed}");
            ExitCode::FAILURE
        }
    }
}

/// On the operator's kind of runtime.
fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime starts").block_on(future);
}

fn measure() -> Result<(), String> {
    let mut table = Table::begin();
    let regsync = std::env::var_os("REGSYNC").map(PathBuf::from);
    let mut usual = Ground::start(USUAL);
    for primary in [Primary::Azure, Primary::Github] {
        passes(&mut table, &mut usual, primary, Access::Rest);
        passes(&mut table, &mut usual, primary, Access::Head);
    }
    if let Some(program) = &regsync {
        beside(&mut table, &mut usual, program);
    } else {
        println!("regsync was not measured: REGSYNC does not say where it is");
    }
    drop(usual);
    many(&mut table);
    table.end()
}

/// A tenth with latency, everything without it.
fn beside(table: &mut Table, usual: &mut Ground, program: &Path) {
    let mut small = Ground::start(SMALL);
    check(table, &mut small, program, LATENCY);
    passes(table, &mut small, Primary::Azure, Access::Rest);
    passes(table, &mut small, Primary::Azure, Access::Head);
    check(table, usual, program, Duration::ZERO);
    if std::env::var_os("BENCH_FULL").is_some() {
        check(table, usual, program, LATENCY);
    }
}

/// The first pass with latency and the default budgets; a second one, which confirms differences, and a third, in which
/// nothing has changed, as fast as they go.
fn passes(table: &mut Table, ground: &mut Ground, primary: Primary, access: Access) {
    let tags = ground.size.tags() as u64;
    let (first, unchanged) = match access {
        Access::Rest => (tags * 7 / 100, None),
        Access::Head => (tags * 104 / 100, Some(tags * 52 / 1000)),
    };
    let mut series = Series::start(table, ground, primary, access, MOST_USUAL);
    let slowly = Look {
        latency: LATENCY,
        requests: Some(first),
        seconds: (access == Access::Head).then_some(MOST_SECONDS),
        confirms: false,
    };
    series.pass("first pass", &slowly);
    series.worker.unbind();
    series.pass("second look", &Look::CONFIRMING);
    let last = Look {
        requests: unchanged,
        ..Look::CONFIRMING
    };
    series.pass("unchanged pass", &last);
}

/// Memory with many tags, by both ways: the hour's limit of the REST interface is soon used up.
fn many(table: &mut Table) {
    let mut large = Ground::start(LARGE);
    let mut series = Series::start(table, &mut large, Primary::Azure, Access::Rest, MOST_LARGE);
    series.worker.unbind();
    let first = Look {
        confirms: false,
        ..Look::CONFIRMING
    };
    series.pass("first pass, no budget", &first);
    series.pass("second look", &Look::CONFIRMING);
}

/// One pass and what is expected of it.
struct Look {
    latency: Duration,
    requests: Option<u64>,
    seconds: Option<f64>,
    /// Whether differences are confirmed by it.
    confirms: bool,
}

impl Look {
    /// As fast as it goes.
    const CONFIRMING: Look = Look {
        latency: Duration::ZERO,
        requests: None,
        seconds: None,
        confirms: true,
    };
}

/// Passes of one process.
struct Series<'a> {
    table: &'a mut Table,
    ground: &'a mut Ground,
    worker: Worker,
    what: String,
    memory: u64,
}

impl<'a> Series<'a> {
    fn start(
        table: &'a mut Table,
        ground: &'a mut Ground,
        primary: Primary,
        access: Access,
        memory: u64,
    ) -> Series<'a> {
        let task = Task {
            place: ground.place.clone(),
            size: ground.size,
            primary,
            access,
        };
        let github = match access {
            Access::Rest => "GitHub REST",
            Access::Head => "ghcr.io by HEAD",
        };
        let what = match primary {
            Primary::Azure => format!("ACR to {github}"),
            Primary::Github => format!("{github} to ACR"),
        };
        let worker = Worker::start(&task);
        Series {
            table,
            ground,
            worker,
            what,
            memory,
        }
    }

    fn pass(&mut self, pass: &str, look: &Look) {
        self.ground.begin(look.latency);
        let passed = self.worker.pass();
        let what = format!("{}, {pass}", self.what);
        let planted = planted(self.ground.size);
        let tags = self.ground.size.tags();
        self.table.row(&Row {
            what: &what,
            tags,
            latency: look.latency.as_millis(),
            requests: Measured {
                value: self.ground.requests(),
                most: look.requests,
            },
            seconds: Measured {
                value: passed.seconds,
                most: look.seconds,
            },
            peak: bar(passed.peak, self.memory),
            found: look
                .confirms
                .then(|| (passed.found.intersection(&planted).count(), planted.len())),
        });
        let in_sync = passed.in_sync;
        if in_sync != tags - planted.len() {
            self.table.fail(format!("{what}: {in_sync} of {tags} tags in sync"));
        }
        if look.confirms && passed.found != planted {
            let (found, all) = (passed.found.len(), planted.len());
            self.table
                .fail(format!("{what}: {found} differences found where {all} are, or others"));
        }
    }
}

/// regsync beside it: it looks from Azure to GitHub only, so what Azure lacks is beyond it.
fn check(table: &mut Table, ground: &mut Ground, program: &Path, latency: Duration) {
    let planted = planted(ground.size);
    let visible: BTreeSet<_> = planted
        .iter()
        .filter(|(_, _, kind)| *kind != Kind::NotOnAzure)
        .map(|(repository, tag, _)| (repository.clone(), tag.clone()))
        .collect();
    ground.begin(latency);
    let checked = regsync::check(program, ground);
    table.row(&Row {
        what: "regsync check, ACR to ghcr.io",
        tags: ground.size.tags(),
        latency: latency.as_millis(),
        requests: told(ground.requests()),
        seconds: told(checked.seconds),
        peak: told(checked.peak),
        found: Some((checked.found.intersection(&visible).count(), planted.len())),
    });
    if checked.found != visible {
        let (found, all) = (checked.found.len(), visible.len());
        table.fail(format!("regsync: found {found} tags to copy where {all} are"));
    }
}
