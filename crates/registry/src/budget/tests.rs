use catamaran_core::policy::Provider;

use super::*;

async fn take(budget: &Budget, count: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        budget.acquire().await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_out_at_once_and_the_rest_evenly() {
    let budget = Budget::per_minute(600);
    assert_eq!(take(&budget, 100).await, Duration::ZERO);
    let rest = take(&budget, 100).await;
    assert!(
        (Duration::from_millis(9_900)..=Duration::from_millis(10_300)).contains(&rest),
        "{rest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_minute_never_sees_more_than_the_limit_and_its_burst() {
    let budget = Arc::new(Budget::per_minute(60));
    let mut waiters = tokio::task::JoinSet::new();
    let start = Instant::now();
    for _ in 0..200 {
        let budget = budget.clone();
        waiters.spawn(async move {
            budget.acquire().await;
            start.elapsed()
        });
    }
    let times = waiters.join_all().await;
    assert!(times.iter().filter(|at| **at < Duration::from_mins(1)).count() <= 71);
    assert!(times.iter().max().unwrap() <= &Duration::from_secs(195));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_halves_the_rate_and_pauses_everyone() {
    let budget = Budget::per_minute(600);
    budget.throttled(Some(Duration::from_secs(7)));
    assert_eq!(budget.rate() as i64, 300);
    let wait = take(&budget, 1).await;
    assert!(
        (Duration::from_secs(7)..Duration::from_secs(8)).contains(&wait),
        "{wait:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_of_requests_under_way_together_halve_once() {
    let budget = Budget::per_minute(600);
    for _ in 0..50 {
        budget.throttled(None);
    }
    assert_eq!(budget.rate() as i64, 300);
    for _ in 0..50 {
        tokio::time::advance(HALVE_EVERY).await;
        budget.throttled(None);
    }
    assert_eq!(budget.rate() as i64, 37, "never below a sixteenth");
}

#[tokio::test(start_paused = true)]
async fn success_restores_the_rate_slowly() {
    let budget = Budget::per_minute(160);
    budget.throttled(None);
    for _ in 0..1000 {
        budget.succeeded();
    }
    assert_eq!(budget.rate() as i64, 80);
    for step in 1..=8 {
        tokio::time::advance(STEP_EVERY).await;
        budget.succeeded();
        budget.succeeded();
        assert_eq!(budget.rate() as i64, 80 + step * 10);
    }
    tokio::time::advance(STEP_EVERY).await;
    budget.succeeded();
    assert_eq!(budget.rate() as i64, 160);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_pause_is_cut_to_five_minutes() {
    let budget = Budget::per_minute(60);
    budget.throttled(Some(Duration::from_secs(u64::MAX)));
    assert!(take(&budget, 1).await <= Duration::from_secs(301));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_costs_nothing() {
    let budget = Budget::per_minute(60);
    take(&budget, 10).await;
    for _ in 0..5 {
        let _ = tokio::time::timeout(Duration::from_millis(10), budget.acquire()).await;
    }
    assert!(take(&budget, 1).await <= Duration::from_secs(1));
}

#[tokio::test]
async fn mirrors_share_the_budget_of_a_host() {
    let budgets = Budgets::new();
    let one = budgets.for_registry("ghcr.io", Provider::GitHub);
    let other = budgets.for_registry("GHCR.io", Provider::Generic);
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(one.rate() as i64, 8_000);
    budgets.set_limit("ghcr.io", 1_000);
    assert_eq!(other.rate() as i64, 1_000);
    assert_eq!(
        budgets.for_registry("kracr.azurecr.io", Provider::Azure).rate() as i64,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn of_several_wishes_the_smallest_counts_until_its_owner_is_gone() {
    let budgets = Budgets::new();
    let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
    let wish = |who, limit| budgets.wish("ghcr.io", Provider::GitHub, who, limit).rate() as i64;
    assert_eq!(wish(&one, None), 8_000);
    assert_eq!(wish(&one, Some(900)), 900);
    assert_eq!(wish(&other, Some(300)), 300);
    assert_eq!(wish(&one, Some(1_000)), 300);
    budgets.retain(|who| who == "one");
    let budget = budgets.for_registry("ghcr.io", Provider::GitHub);
    assert_eq!(budget.rate() as i64, 1_000);
    assert_eq!(wish(&one, None), 8_000);
}
