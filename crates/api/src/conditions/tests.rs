use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn ready(status: Truth, message: &str) -> Statement {
    Statement::new(READY, status, reason::SERVING_FROM_PRIMARY, message)
}

#[test]
fn the_transition_time_moves_only_with_the_status() {
    let mut conditions = Vec::new();
    assert!(set_condition(&mut conditions, ready(Truth::True, "a"), 1, at(0)));
    assert!(
        set_condition(&mut conditions, ready(Truth::True, "b"), 2, at(10)),
        "another message is a change"
    );
    assert_eq!(conditions[0].last_transition_time, Time(at(0)));
    assert_eq!(conditions[0].message, "b");
    assert_eq!(conditions[0].observed_generation, Some(2));
    assert!(set_condition(&mut conditions, ready(Truth::Unknown, "b"), 2, at(20)));
    assert_eq!(conditions[0].last_transition_time, Time(at(20)));
    assert_eq!(conditions.len(), 1);
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let mut conditions = Vec::new();
    set_condition(&mut conditions, ready(Truth::True, "a"), 1, at(0));
    let before = conditions.clone();
    assert!(!set_condition(&mut conditions, ready(Truth::True, "a"), 1, at(99)));
    assert_eq!(conditions, before);
}

#[test]
fn a_condition_keeps_its_place_and_a_new_one_goes_to_the_end() {
    let mut conditions = Vec::new();
    set_condition(&mut conditions, ready(Truth::True, ""), 1, at(0));
    set_condition(
        &mut conditions,
        Statement::new(IN_SYNC, Truth::Unknown, reason::VERIFYING, ""),
        1,
        at(0),
    );
    set_condition(&mut conditions, ready(Truth::False, ""), 1, at(1));
    let kinds: Vec<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(kinds, [READY, IN_SYNC]);
    assert!(remove_condition(&mut conditions, READY));
    assert!(!remove_condition(&mut conditions, READY), "there is none any more");
    assert_eq!(
        find_condition(&conditions, IN_SYNC).map(|found| found.status.as_str()),
        Some("Unknown")
    );
}
