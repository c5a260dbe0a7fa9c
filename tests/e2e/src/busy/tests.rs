use super::*;

fn process(parent: u32, ticks: u64) -> Process {
    Process {
        parent,
        started: 7,
        ticks,
        counts: true,
    }
}

/// Looks every two seconds, between which others have so many ticks of two processors.
fn looks(others: &[u64]) -> Vec<(Instant, Ticks)> {
    let begun = Instant::now();
    let mut ticks = Ticks::default();
    let mut all = vec![(begun, ticks)];
    for (number, more) in (1..).zip(others) {
        ticks.all += 400;
        ticks.others += more;
        all.push((begun + PAUSE * number, ticks));
    }
    all
}

#[test]
fn share_is_that_of_the_time_between() {
    let before = Ticks::of("cpu  100 20 30 800 10 0 5 35 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
    let after = Ticks::of("cpu  150 20 30 820 10 0 5 65 9 0\n");
    assert!((before.share_until(after) - 0.3).abs() < 1e-9);
    let after = Ticks { others: 20, ..after };
    assert!((before.share_until(after) - 0.5).abs() < 1e-9);
}

#[test]
fn kernel_without_counts_has_stolen_nothing() {
    for stat in ["", "cpu", "cpu  100 20 30 800", "cpu  1 2 x", "garbage"] {
        let ticks = Ticks::of(stat);
        assert_eq!(ticks.stolen, 0, "{stat}");
        assert!(Ticks::default().share_until(ticks).abs() < 1e-9, "{stat}");
    }
}

#[test]
fn process_is_read_behind_a_name_with_brackets() {
    let fields = |flags: &str, policy: &str| {
        let rest = "0 0 0 0 11 12 13 14 20 0 1 0 77 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0";
        format!("42 (a) b) (c) S 41 40 39 0 -1 {flags} {rest} {policy} 0 0\n")
    };
    let read = |flags, policy| Process::of(&fields(flags, policy)).unwrap();
    let expected = Process {
        parent: 41,
        started: 77,
        ticks: 23,
        counts: true,
    };
    assert_eq!(read("4194304", "0"), expected);
    assert!(!read("4194304", "5").counts, "idle work counts");
    assert!(!read("2097216", "0").counts, "the kernel's thread counts");
    assert_eq!(Process::of("42 (a) S 1"), None);
    assert!(processes().contains_key(&std::process::id()));
}

#[test]
fn descendants_of_the_tests_are_not_others() {
    let before = HashMap::from([
        (1, process(0, 5)),
        (10, process(1, 5)),
        (20, process(1, 5)),
        (21, process(20, 5)),
    ]);
    let mut now = before.clone();
    now.insert(10, process(1, 105));
    now.insert(21, process(20, 105));
    now.insert(30, process(1, 8));
    // The number was given to another process, which has had its ticks since then.
    now.insert(
        20,
        Process {
            started: 9,
            ..process(1, 3)
        },
    );
    assert_eq!(foreign(&before, &now, &[10, 20]), 8);
    assert_eq!(foreign(&before, &now, &[10]), 8 + 3 + 100);
    assert_eq!(foreign(&before, &now, &[]), 8 + 3 + 200);
}

#[test]
fn busiest_ten_seconds_of_a_long_time_count() {
    assert!(most(&[]).abs() < 1e-9);
    assert!(most(&looks(&[])).abs() < 1e-9);
    assert!((most(&looks(&[100, 100])) - 0.25).abs() < 1e-9, "less than a window");
    let burst = [&[0; 60][..], &[200; 5], &[0; 60]].concat();
    assert!((most(&looks(&burst)) - 0.5).abs() < 1e-9);
    assert!(
        most(&looks(&[0, 0, 0, 200, 0, 0, 0])) < TOO_MUCH,
        "one look is no burst"
    );
}
