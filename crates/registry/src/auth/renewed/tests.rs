use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinSet;

use super::*;

/// A source that counts, takes a second, and fails when it is told to.
#[derive(Clone, Default)]
struct Source {
    fetched: Arc<AtomicU32>,
    failing: Arc<Mutex<Option<Class>>>,
}

impl Source {
    fn fetch(&self) -> Fetching<u32> {
        let source = self.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let value = source.fetched.fetch_add(1, Ordering::Relaxed) + 1;
            match source.failing.lock().unwrap().clone() {
                None => Ok(Fresh {
                    value,
                    life: Duration::from_hours(1),
                }),
                Some(class) => Err(Failure::new(Stage::Identity, class, "down".to_owned())),
            }
        })
    }

    fn fails(&self, class: Option<Class>) {
        *self.failing.lock().unwrap() = class;
    }

    fn count(&self) -> u32 {
        self.fetched.load(Ordering::Relaxed)
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_fetch() {
    let (cell, source) = (Renewed::default(), Source::default());
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (cell, source) = (cell.clone(), source.clone());
        tasks.spawn(async move { cell.get(|| source.fetch()).await });
    }
    assert!(tasks.join_all().await.into_iter().all(|value| value == Ok(1)));
    assert_eq!(source.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_is_renewed_at_half_of_its_life_and_nobody_waits() {
    let (cell, source) = (Renewed::default(), Source::default());
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    pass(Duration::from_mins(29)).await;
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    assert_eq!(source.count(), 1);
    pass(Duration::from_mins(2)).await;
    let asked = Instant::now();
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    assert_eq!(asked.elapsed(), Duration::ZERO);
    pass(Duration::from_secs(2)).await;
    assert_eq!(cell.get(|| source.fetch()).await, Ok(2));
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_old_value_is_used_to_its_end_while_renewing_fails() {
    let (cell, source) = (Renewed::default(), Source::default());
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    source.fails(Some(Class::CredentialsUnavailable));
    for _ in 0..1790 {
        pass(Duration::from_secs(2)).await;
        assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    }
    assert!((20..=80).contains(&source.count()), "{} attempts", source.count());
    pass(Duration::from_secs(30)).await;
    assert_eq!(
        cell.get(|| source.fetch()).await.unwrap_err().class,
        Class::CredentialsUnavailable
    );
    source.fails(None);
    pass(Duration::from_secs(11)).await;
    assert!(cell.get(|| source.fetch()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_pause() {
    let throttled = |wait| Class::Throttled { retry_after: wait };
    let cases = [
        (Class::CredentialsUnavailable, 10),
        (Class::Unauthorized, 10),
        (Class::Unavailable(Unavailable::ServerError), 1),
        (throttled(None), 30),
        (throttled(Some(Duration::from_mins(2))), 120),
        (throttled(Some(Duration::ZERO)), 1),
    ];
    for (class, seconds) in cases {
        let (cell, source) = (Renewed::default(), Source::default());
        source.fails(Some(class.clone()));
        assert!(cell.get(|| source.fetch()).await.is_err());
        source.fails(None);
        pass(Duration::from_millis(seconds * 1000 - 10)).await;
        assert!(cell.get(|| source.fetch()).await.is_err(), "{class:?}");
        assert_eq!(source.count(), 1, "{class:?}");
        pass(Duration::from_millis(20)).await;
        assert_eq!(cell.get(|| source.fetch()).await, Ok(2), "{class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn caller_that_gives_up_does_not_end_the_fetch() {
    let (cell, source) = (Renewed::default(), Source::default());
    let impatient = tokio::time::timeout(Duration::from_millis(100), cell.get(|| source.fetch()));
    assert!(impatient.await.is_err());
    pass(Duration::from_secs(1)).await;
    assert_eq!(cell.current(), Some(1));
    assert_eq!(source.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_is_dropped_unless_it_is_young_or_replaced() {
    let (cell, source) = (Renewed::default(), Source::default());
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    assert!(!cell.distrust(&1), "a new one would be refused too");
    pass(Duration::from_secs(31)).await;
    assert!(cell.distrust(&1));
    assert_eq!(cell.get(|| source.fetch()).await, Ok(2));
    assert!(cell.distrust(&1), "there is a newer one to try");
    assert_eq!(cell.current(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_hastened_value_is_renewed_early_and_used_meanwhile() {
    let (cell, source) = (Renewed::default(), Source::default());
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
    for (passed, fetched) in [(30, 1), (31, 2), (30, 2)] {
        pass(Duration::from_secs(passed)).await;
        cell.hasten();
        assert!(cell.get(|| source.fetch()).await.is_ok());
        pass(Duration::from_secs(2)).await;
        assert_eq!(source.count(), fetched, "not more often than once a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_fails_everyone_who_waits_and_the_next_one_works() {
    let (cell, source) = (Renewed::<u32>::default(), Source::default());
    let panics = cell.get(|| Box::pin(async { panic!("the source is broken") }));
    assert!(panics.await.is_err());
    pass(Duration::from_secs(2)).await;
    assert_eq!(cell.get(|| source.fetch()).await, Ok(1));
}
