use super::*;
use crate::digest::Digest;
use crate::endpoint::{GONE_AFTER, Unavailable, UnknownReason};

const UP: Outcome = Outcome::Reachable;
const REFUSED: Outcome = Outcome::Unavailable(Unavailable::ConnectionFailed);
const TIMED_OUT: Outcome = Outcome::Unavailable(Unavailable::Timeout);
const BROKEN: Outcome = Outcome::Unavailable(Unavailable::ServerError);

/// Milliseconds after an arbitrary instant, at which a slot begins.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_760_000_000_000 + ms).unwrap()
}

fn target(path: &str) -> Target {
    Target {
        path: path.to_owned(),
        digest: Digest::of(path.as_bytes()),
    }
}

fn watcher(mirror: &str) -> Watcher {
    Watcher {
        mirror: mirror.into(),
        side: Side::Primary,
    }
}

fn watch(generation: i64, paths: &[&str]) -> Watch {
    Watch {
        generation,
        period: Duration::from_secs(2),
        threshold: 3,
        targets: paths.iter().map(|path| target(path)).collect(),
    }
}

/// An endpoint whose probes take 20 ms each unless a test ends them itself.
struct Bench {
    endpoint: Endpoint,
    now: i64,
    begun: Vec<(i64, Send)>,
    readings: Vec<(i64, String, Outcome)>,
    suspected: Vec<i64>,
    vantages: BTreeMap<String, Vec<(String, bool)>>,
}

impl Bench {
    fn new() -> Bench {
        Bench::of(Endpoint::new(Duration::from_secs(2), false))
    }

    fn of(endpoint: Endpoint) -> Bench {
        Bench {
            endpoint,
            now: 0,
            begun: Vec::new(),
            readings: Vec::new(),
            suspected: Vec::new(),
            vantages: BTreeMap::new(),
        }
    }

    /// With mirrors that watch these paths.
    fn watched(mirrors: &[(&str, &[&str])]) -> Bench {
        let mut bench = Bench::new();
        for (mirror, paths) in mirrors {
            bench.feed(Input::Watched(watcher(mirror), watch(1, paths)));
        }
        bench
    }

    fn feed(&mut self, input: Input) {
        for output in self.endpoint.handle(input, at(self.now)) {
            match output {
                Output::Probe(send) => self.begun.push((self.now, send)),
                Output::Reading(watchers, reading) => {
                    for watcher in watchers {
                        let outcome = reading.probe.outcome;
                        self.readings.push((self.now, watcher.mirror.to_string(), outcome));
                    }
                }
                Output::Suspected(_) => self.suspected.push(self.now),
                Output::Vantages(watchers, vantages) => {
                    for watcher in watchers {
                        let seen = vantages
                            .others
                            .iter()
                            .map(|vantage| (vantage.node.to_string(), vantage.fails))
                            .collect();
                        self.vantages.insert(watcher.mirror.to_string(), seen);
                    }
                }
            }
        }
    }

    fn end(&mut self, index: usize, outcome: Outcome, layer: Layer) {
        let (begun, send) = self.begun[index].clone();
        self.feed(Input::Ended(Box::new(Ended {
            number: send.number,
            probe: Probe {
                begun: at(begun),
                at: at(self.now),
                outcome,
                message: Arc::default(),
            },
            layer,
            client: Ok(()),
        })));
    }

    /// Lets time pass; probes end after so many ms with what `fate` says of each.
    fn run(&mut self, until: i64, took: i64, fate: impl Fn(i64, &Send) -> (Outcome, Layer)) {
        let mut ended = self.begun.len();
        for (index, (begun, _)) in self.begun.iter().enumerate() {
            if begun + took > self.now {
                ended = ended.min(index);
            }
        }
        while self.now < until {
            self.now += 10;
            if self
                .endpoint
                .wake_at(at(self.now))
                .is_some_and(|wake| wake <= at(self.now))
            {
                self.feed(Input::Time);
            }
            while self.begun.get(ended).is_some_and(|(begun, _)| begun + took <= self.now) {
                let (begun, send) = self.begun[ended].clone();
                let (outcome, layer) = fate(begun, &send);
                self.end(ended, outcome, layer);
                ended += 1;
            }
        }
    }

    fn well(&mut self, until: i64) {
        self.run(until, 20, |_, _| (UP, Layer::Manifest));
    }

    /// What one mirror was told since.
    fn told(&self, mirror: &str, since: i64) -> Vec<Outcome> {
        let told = self.readings.iter().filter(|(at, of, _)| of == mirror && *at >= since);
        told.map(|(.., outcome)| *outcome).collect()
    }

    fn begun_since(&self, since: i64) -> usize {
        self.begun.iter().filter(|(at, _)| *at >= since).count()
    }
}

#[test]
fn healthy_endpoint_is_probed_as_often_for_many_mirrors_as_for_one() {
    let count = |mirrors: usize| {
        let mut bench = Bench::new();
        for mirror in 0..mirrors {
            let path = format!("team-{mirror}/app");
            bench.feed(Input::Watched(watcher(&mirror.to_string()), watch(1, &[&path])));
        }
        bench.well(5_000);
        let readings = bench.readings.len();
        bench.well(65_000);
        assert!(bench.readings.len() > readings + 20 * mirrors, "each is told of each");
        bench.begun_since(5_000)
    };
    let one = count(1);
    assert!((26..=28).contains(&one), "{one}");
    assert_eq!(count(500), one);
}

#[test]
fn requests_of_a_healthy_minute_stay_below_thirty() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(10_000);
    bench.well(190_000);
    let sends = bench.begun.iter().filter(|(at, _)| *at >= 10_000).map(|(_, send)| send);
    // A token of its own takes a refusal and a request for it.
    let requests: usize = sends.map(|send| if send.fresh_token { 3 } else { 1 }).sum();
    assert!(requests <= 90, "{requests} in three minutes");
}

#[test]
fn idle_endpoint_does_nothing() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(3_000);
    bench.feed(Input::Left(watcher("a")));
    let begun = bench.begun.len();
    bench.well(60_000);
    assert_eq!(bench.begun.len(), begun);
    assert!(bench.endpoint.is_idle());
    assert_eq!(bench.endpoint.wake_at(at(bench.now)), None);
}

#[test]
fn canaries_of_all_mirrors_take_turns() {
    let mut bench = Bench::watched(&[("a", &["one", "two"]), ("b", &["three", "one"])]);
    bench.well(30_000);
    let count = |path: &str| {
        let of = |send: &Send| send.target.as_ref().is_some_and(|target| target.path == path);
        bench.begun.iter().filter(|(_, send)| of(send)).count()
    };
    for path in ["one", "two", "three"] {
        assert!((4..=6).contains(&count(path)), "{path}: {}", count(path));
    }
}

#[test]
fn refusing_registry_is_probed_fast_until_all_have_seen_enough() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.run(60_000, 20, |_, _| (REFUSED, Layer::Host));
    let failures: Vec<i64> = bench
        .readings
        .iter()
        .filter(|(.., outcome)| *outcome == REFUSED)
        .map(|(at, ..)| *at)
        .collect();
    assert!(failures[3] - failures[0] <= 800, "{failures:?}");
    let late: Vec<i64> = failures
        .iter()
        .copied()
        .filter(|at| *at > failures[0] + 5_000)
        .collect();
    assert!(
        late.windows(2).all(|pair| pair[1] - pair[0] >= 2_000),
        "it is left alone then: {late:?}"
    );
    let recovery = bench.now;
    bench.well(recovery + 10_000);
    assert!(bench.told("a", recovery).len() >= 3);
}

#[test]
fn black_hole_is_suspected_before_its_first_timeout() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    let from = bench.begun.last().unwrap().0;
    bench.run(from + 8_000, 2_000, |_, _| (TIMED_OUT, Layer::Host));
    let first = bench.begun.iter().map(|(at, _)| *at).find(|at| *at > from).unwrap();
    assert_eq!(bench.suspected.len(), 1, "{:?}", bench.suspected);
    assert!(
        (first + 300..first + 900).contains(&bench.suspected[0]),
        "{:?}",
        bench.suspected
    );
    let failures: Vec<i64> = bench
        .readings
        .iter()
        .filter(|(.., outcome)| *outcome == TIMED_OUT)
        .map(|(at, ..)| *at)
        .collect();
    assert!(failures[2] <= first + 3_000, "{first}: {failures:?}");
}

#[test]
fn slow_answer_of_a_registry_that_works_is_no_failure() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    // One probe is lost, those after it come through.
    let lost = bench.begun.len() as u64;
    let mut deferred = Vec::new();
    while bench.now < 30_000 {
        bench.now += 10;
        if bench
            .endpoint
            .wake_at(at(bench.now))
            .is_some_and(|wake| wake <= at(bench.now))
        {
            bench.feed(Input::Time);
        }
        for index in 0..bench.begun.len() {
            let (begun, send) = bench.begun[index].clone();
            let took = if send.number == lost { 2_000 } else { 20 };
            if begun + took == bench.now && send.number >= lost {
                let outcome = if send.number == lost { TIMED_OUT } else { UP };
                bench.end(index, outcome, Layer::Host);
                deferred.push(send.number);
            }
        }
    }
    assert!(deferred.contains(&lost));
    assert!(
        bench.told("a", 0).iter().all(|outcome| *outcome == UP),
        "a later probe came through"
    );
}

#[test]
fn dead_repository_is_an_outage_for_its_mirrors_only() {
    let mut bench = Bench::watched(&[("a", &["dead"]), ("b", &["alive"]), ("c", &["alive", "dead"])]);
    bench.well(20_000);
    bench.run(60_000, 20, |_, send| {
        let dead = send.target.as_ref().is_some_and(|target| target.path == "dead");
        (if dead { BROKEN } else { UP }, Layer::Manifest)
    });
    for (mirror, outcome) in [("a", BROKEN), ("b", UP), ("c", BROKEN)] {
        let told = bench.told(mirror, 25_000);
        assert!(
            told.len() > 5 && told.iter().all(|told| *told == outcome),
            "{mirror}: {told:?}"
        );
    }
    let recovery = bench.now;
    bench.well(recovery + 20_000);
    for mirror in ["a", "b", "c"] {
        let told = bench.told(mirror, recovery + 8_000);
        assert!(
            told.len() > 3 && told.iter().all(|told| *told == UP),
            "{mirror}: {told:?}"
        );
    }
}

#[test]
fn server_errors_of_several_repositories_are_an_outage_for_all() {
    let mirrors = ["a", "b", "c", "d"].map(|mirror| (mirror, [mirror]));
    let mut bench = Bench::new();
    for (mirror, paths) in &mirrors {
        bench.feed(Input::Watched(watcher(mirror), watch(1, paths)));
    }
    bench.well(20_000);
    bench.run(26_000, 20, |_, _| (BROKEN, Layer::Manifest));
    for (mirror, _) in mirrors {
        let failures = bench
            .told(mirror, 20_000)
            .iter()
            .filter(|told| **told == BROKEN)
            .count();
        assert!(failures >= 3, "{mirror}: {failures}");
    }
}

#[test]
fn dead_blob_host_is_not_forgotten_for_each_manifest() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.run(40_000, 20, |_, send| {
        if send.blob {
            (REFUSED, Layer::Blob)
        } else {
            (UP, Layer::Manifest)
        }
    });
    let told = bench.told("a", 20_000);
    let first = told.iter().position(|told| *told == REFUSED).unwrap();
    assert!(first <= 3, "{told:?}");
    assert!(told[first..].iter().all(|told| *told == REFUSED), "{told:?}");
    let recovery = bench.now;
    bench.well(recovery + 5_000);
    assert!(bench.told("a", recovery).contains(&UP));
}

#[test]
fn dead_token_endpoint_is_seen_within_a_minute() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.run(80_000, 20, |_, send| {
        if send.fresh_token {
            (BROKEN, Layer::Token)
        } else {
            (UP, Layer::Manifest)
        }
    });
    let failures = bench.told("a", 20_000).iter().filter(|told| **told == BROKEN).count();
    assert!(failures >= 3, "{failures}");
    assert_eq!(bench.readings.last().unwrap().2, BROKEN, "and not forgotten");
}

#[test]
fn heads_only_endpoint_reads_no_blob() {
    let mut bench = Bench::of(Endpoint::new(Duration::from_secs(2), true));
    bench.feed(Input::Watched(watcher("a"), watch(1, &["library/app"])));
    bench.well(30_000);
    assert!(bench.begun.iter().all(|(_, send)| !send.blob));
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(30_000);
    assert!(bench.begun.iter().any(|(_, send)| send.blob));
}

#[test]
fn canary_that_is_gone_is_told_to_those_that_name_it_first() {
    let mut bench = Bench::watched(&[("a", &["gone", "kept"]), ("b", &["kept", "gone"])]);
    bench.well(20_000);
    let gone = |send: &Send| send.target.as_ref().is_some_and(|target| target.path == "gone");
    bench.run(60_000, 20, |_, send| {
        (if gone(send) { Outcome::CanaryNotFound } else { UP }, Layer::Manifest)
    });
    assert!(bench.told("a", 20_000).contains(&Outcome::CanaryNotFound));
    assert!(bench.told("b", 20_000).iter().all(|told| *told == UP));
    let asked = bench
        .begun
        .iter()
        .filter(|(at, send)| *at >= 30_000 && gone(send))
        .count();
    assert_eq!(asked, 0, "it is left out while there is another");
    assert!(bench.begun_since(30_000) <= 15);
}

#[test]
fn blobs_that_are_served_do_not_hide_manifests_that_are_not() {
    for missing in [Outcome::CanaryNotFound, Outcome::Unauthorized, BROKEN] {
        let mut bench = Bench::watched(&[("a", &["app"])]);
        bench.well(20_000);
        bench.run(60_000, 20, |_, send| {
            if send.blob {
                (UP, Layer::Blob)
            } else {
                (missing, Layer::Manifest)
            }
        });
        let told = bench.told("a", 30_000);
        assert!(told.len() > 5 && told.iter().all(|told| *told == missing), "{told:?}");
        let recovery = bench.now;
        bench.well(recovery + 10_000);
        let told = bench.told("a", recovery + 5_000);
        assert!(told.len() > 1 && told.iter().all(|told| *told == UP), "{told:?}");
    }
}

#[test]
fn throttling_registry_is_left_alone() {
    let limited = Outcome::Throttled { retry_after: None };
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.run(140_000, 20, |_, _| (limited, Layer::Manifest));
    let begun: Vec<i64> = bench
        .begun
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at > 20_000)
        .collect();
    assert!(begun.len() <= 7, "{begun:?}");
    bench.feed(Input::Wanted(at(bench.now)));
    bench.run(bench.now + 50, 20, |_, _| (limited, Layer::Manifest));
    assert_eq!(bench.begun_since(140_000), 0, "not even for a decision");
}

#[test]
fn wanted_probe_begins_at_once_and_once_for_all() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_500);
    let begun = bench.begun.len();
    for _ in 0..1_000 {
        bench.feed(Input::Wanted(at(bench.now)));
    }
    assert_eq!(bench.begun.len(), begun + 1);
}

fn report(at: Timestamp, fails: bool, failing: &[&str]) -> Report {
    Report {
        at,
        fails,
        down: fails,
        failing: failing.iter().map(|path| (*path).to_owned()).collect(),
        suspects: false,
    }
}

impl Bench {
    fn hears(&mut self, replica: &str, fails: bool, failing: &[&str]) {
        let report = report(at(self.now), fails, failing);
        self.feed(Input::Report {
            replica: replica.into(),
            node: format!("node-of-{replica}").into(),
            report,
        });
    }
}

#[test]
fn probe_that_is_wanted_for_later_begins_then() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_500);
    let begun = bench.begun.len();
    for after in [300, 500, 300] {
        bench.feed(Input::Wanted(at(bench.now + after)));
    }
    bench.well(21_200);
    let times: Vec<i64> = bench.begun[begun..].iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [20_800, 21_000]);
}

#[test]
fn blobs_that_no_probe_can_read_any_more_fail_no_longer() {
    let no_blobs = |_, send: &Send| {
        if send.blob {
            (REFUSED, Layer::Blob)
        } else {
            (UP, Layer::Manifest)
        }
    };
    let mut bench = Bench::watched(&[("apps", &["app"])]);
    bench.run(20_000, 20, no_blobs);
    assert!(bench.endpoint.report().unwrap().fails);
    bench.feed(Input::Watched(watcher("apps"), watch(2, &[])));
    bench.run(30_000, 20, no_blobs);
    assert!(bench.endpoint.report().unwrap().is_well());
    let (.., latest) = bench.readings.last().unwrap();
    assert_eq!(*latest, UP);
}

#[test]
fn failure_of_another_replica_has_it_probed_at_once_and_answered() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_500);
    let begun = bench.begun.len();
    assert!(!bench.endpoint.take_answer());
    bench.hears("b", true, &[]);
    assert_eq!((bench.begun.len(), bench.suspected.len()), (begun + 1, 1));
    bench.hears("b", true, &[]);
    assert_eq!(bench.suspected.len(), 1, "it is no news");
    bench.well(23_000);
    assert!(bench.begun.len() <= begun + 3, "a success calms it");
    assert!(bench.endpoint.take_answer());
    assert!(!bench.endpoint.take_answer());
    let own = bench.endpoint.report().unwrap();
    assert!(own.is_well() && own.at > at(20_500), "{own:?}");
}

#[test]
fn mirrors_are_told_what_other_replicas_see_of_what_they_use() {
    let mut bench = Bench::watched(&[("a", &["dead"]), ("b", &["alive"])]);
    bench.well(20_000);
    bench.hears("one", false, &["dead"]);
    bench.hears("two", true, &[]);
    let seen = |one, two| vec![("node-of-one".to_owned(), one), ("node-of-two".to_owned(), two)];
    assert_eq!(bench.vantages["a"], seen(true, true));
    assert_eq!(bench.vantages["b"], seen(false, true));
    bench.feed(Input::Gone("two".into()));
    assert_eq!(bench.vantages["b"], seen(false, true)[..1]);
    bench.well(20_000 + i64::try_from(GONE_AFTER.as_millis()).unwrap() + 20);
    assert_eq!(bench.vantages["a"], [], "a replica that says nothing is not asked");
}

#[test]
fn report_says_what_fails() {
    let mut bench = Bench::watched(&[("a", &["dead"]), ("b", &["alive"])]);
    assert_eq!(bench.endpoint.report(), None);
    bench.well(20_000);
    let dead = |send: &Send| send.target.as_ref().is_some_and(|target| target.path == "dead");
    bench.run(40_000, 20, |_, send| {
        (if dead(send) { BROKEN } else { UP }, Layer::Manifest)
    });
    let own = bench.endpoint.report().unwrap();
    assert_eq!((own.fails, own.failing), (false, vec!["dead".to_owned()]));
    bench.run(50_000, 20, |_, _| (REFUSED, Layer::Host));
    assert!(bench.endpoint.report().unwrap().fails);
}

#[test]
fn reading_of_an_earlier_generation_is_not_told() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.run(22_500, 100_000, |_, _| (UP, Layer::Manifest));
    let late = bench.begun.len() - 1;
    bench.feed(Input::Watched(watcher("a"), watch(2, &["app"])));
    let readings = bench.readings.len();
    bench.end(late, REFUSED, Layer::Host);
    assert_eq!(bench.readings.len(), readings);
}

#[test]
fn lost_probe_and_clock_set_back_do_not_silence_it() {
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.run(200_000, 1_000_000, |_, _| (UP, Layer::Manifest));
    assert!(bench.begun_since(100_000) > 3, "{:?}", bench.begun);
    let mut bench = Bench::watched(&[("a", &["app"])]);
    bench.well(20_000);
    bench.now = -3_600_000;
    let begun = bench.begun.len();
    bench.feed(Input::Time);
    assert!(bench.begun.len() > begun);
}

#[test]
fn endpoint_with_a_problem_of_ours_tells_everybody() {
    let mut bench = Bench::watched(&[("a", &["one"]), ("b", &["two"])]);
    bench.well(10_000);
    bench.run(20_000, 20, |_, _| (Outcome::CredentialsUnavailable, Layer::Host));
    for mirror in ["a", "b"] {
        assert!(
            bench
                .told(mirror, 10_000)
                .iter()
                .all(|told| told.as_str() == UnknownReason::CredentialsUnavailable.as_str())
        );
    }
}
