use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn replica(name: &str) -> Arc<str> {
    name.into()
}

/// Two replicas that were never asked, and three pods within a minute.
fn unasked() -> ReviewWatch {
    let mut watch = ReviewWatch::default();
    watch.counted(&replica("a"), Some(0), at(0));
    watch.counted(&replica("b"), Some(0), at(0));
    for second in [100, 130, 160] {
        watch.created(at(second));
    }
    watch
}

#[test]
fn pods_without_reviews_are_silence_after_ten_minutes() {
    let watch = unasked();
    assert_eq!(watch.silence(at(699)), None);
    let silence = Silence {
        lasts: at(600),
        pods: 3,
    };
    assert_eq!(watch.silence(at(700)), Some(silence));
}

#[test]
fn review_of_any_replica_ends_silence() {
    for name in ["a", "b", "c"] {
        let mut watch = unasked();
        watch.counted(&replica(name), Some(1), at(650));
        assert_eq!(watch.silence(at(5_000)), None, "{name}");
    }
}

#[test]
fn same_count_again_is_no_review() {
    let mut watch = unasked();
    watch.counted(&replica("a"), Some(0), at(650));
    watch.gone("b");
    assert!(watch.silence(at(700)).is_some());
}

#[test]
fn review_right_before_a_pod_belongs_to_it() {
    let mut watch = ReviewWatch::default();
    for reviewed in 1..=3 {
        let second = reviewed * 1_000;
        watch.counted(&replica("a"), Some(reviewed), at(second));
        watch.created(at(second + 5));
    }
    assert_eq!(watch.silence(at(9_000)), None);
}

#[test]
fn review_that_is_reported_late_ends_what_its_pod_began() {
    let mut watch = ReviewWatch::default();
    for reviewed in 1..=3 {
        let second = reviewed * 1_000;
        watch.created(at(second));
        watch.counted(&replica("b"), Some(reviewed), at(second + 12));
    }
    assert_eq!(watch.silence(at(9_000)), None);
}

#[test]
fn few_pods_and_no_pods_are_no_silence() {
    let mut watch = ReviewWatch::default();
    assert_eq!(watch.silence(at(9_000)), None);
    watch.created(at(1));
    watch.created(at(2));
    assert_eq!(watch.silence(at(9_000)), None);
    watch.created(at(3));
    assert!(watch.silence(at(9_000)).is_some());
}

#[test]
fn replica_that_does_not_count_may_have_been_asked() {
    let mut watch = unasked();
    watch.counted(&replica("old"), None, at(650));
    assert_eq!(watch.silence(at(5_000)), None);
}

#[test]
fn replica_that_begins_anew_counts_from_nothing() {
    let mut watch = ReviewWatch::default();
    watch.counted(&replica("a"), Some(40), at(0));
    for second in [100, 130, 160] {
        watch.created(at(second));
    }
    watch.counted(&replica("a"), Some(0), at(200));
    assert!(watch.silence(at(700)).is_some(), "a restart is no review");
    watch.counted(&replica("a"), Some(1), at(710));
    assert_eq!(watch.silence(at(5_000)), None);
}

#[test]
fn new_term_begins_without_the_pods_of_an_earlier_one() {
    let mut watch = unasked();
    watch.restart();
    assert_eq!(watch.silence(at(5_000)), None);
}
