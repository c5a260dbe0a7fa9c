use super::*;
use crate::limits::KeepAlive;

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const C: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

fn places(connections: usize, per_address: usize, burst: u32) -> Arc<Places> {
    let second = Duration::from_secs(1);
    let limits = Limits {
        connections,
        per_address,
        rate: Rate { burst, per_second: 1 },
        handshake: second,
        head: second,
        request: second,
        write: second,
        idle: second,
        keep_alive: KeepAlive::Off,
        head_size: 1,
        kernel_buffers: 1,
    };
    Places::new(&limits, Arc::default())
}

fn evicted(places: &[&Place]) -> Vec<bool> {
    places.iter().map(|place| place.tenant.evicted.is_cancelled()).collect()
}

#[tokio::test(start_paused = true)]
async fn full_listener_takes_from_the_address_that_has_most() {
    let places = places(3, 3, 100);
    let kubelet = places.take(B, Phase::Idle).unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    let flood = [
        places.take(A, Phase::Idle).unwrap(),
        places.take(A, Phase::Idle).unwrap(),
    ];
    let third = places.take(C, Phase::Idle).unwrap();
    assert_eq!(
        evicted(&[&kubelet, &flood[0], &flood[1], &third]),
        [false, true, false, false],
        "an address with one connection keeps it, however long it has been idle"
    );
    assert_eq!(places.counts.closed(Closed::Evicted), 1);
}

#[tokio::test(start_paused = true)]
async fn flood_of_one_address_only_evicts_itself() {
    let places = places(4, 4, 1000);
    let others = [
        places.take(B, Phase::Idle).unwrap(),
        places.take(C, Phase::Handshake).unwrap(),
    ];
    let mut flood = Vec::new();
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(10)).await;
        match places.take(A, Phase::Handshake) {
            Ok(place) => flood.push(place),
            Err(error) => assert_eq!(error, Closed::Full, "evicted ones are still there"),
        }
        flood.retain(|place| !place.tenant.evicted.is_cancelled());
    }
    assert_eq!(flood.len(), 2);
    assert_eq!(evicted(&[&others[0], &others[1]]), [false, false]);
}

#[tokio::test(start_paused = true)]
async fn address_at_its_bound_loses_its_own_slowest() {
    let places = places(100, 2, 100);
    let first = places.take(A, Phase::Handshake).unwrap();
    let second = places.take(A, Phase::Idle).unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    first.tenant.progress.enter(Phase::Write);
    let third = places.take(A, Phase::Idle).unwrap();
    assert_eq!(evicted(&[&first, &second, &third]), [false, true, false]);
    tokio::time::advance(Duration::from_secs(5)).await;
    third.tenant.progress.enter(Phase::Idle);
    let fourth = places.take(A, Phase::Idle).unwrap();
    assert_eq!(
        evicted(&[&first, &third, &fourth]),
        [true, false, false],
        "a writer that stalls waits, too"
    );
}

#[tokio::test(start_paused = true)]
async fn request_under_way_is_not_evicted() {
    let places = places(100, 1, 100);
    let busy = places.take(A, Phase::Idle).unwrap();
    tokio::time::advance(Duration::from_secs(50)).await;
    busy.tenant.progress.enter(Phase::Request);
    assert_eq!(places.take(A, Phase::Idle).unwrap_err(), Closed::Full);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(places.take(A, Phase::Idle).is_ok(), "a body that does not come waits");
    assert_eq!(evicted(&[&busy]), [true]);
}

#[tokio::test(start_paused = true)]
async fn address_that_connects_too_often_is_refused() {
    let places = places(100, 100, 3);
    let all: Vec<_> = (0..5).map(|_| places.take(A, Phase::Idle).map(drop)).collect();
    let refused = Err(Closed::TooMany);
    assert_eq!(all, [Ok(()), Ok(()), Ok(()), refused, refused]);
    assert!(places.take(B, Phase::Idle).is_ok(), "others may");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(places.take(A, Phase::Idle).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_addresses_is_bounded() {
    let places = places(10, 10, 100);
    for number in 0..20_000_u32 {
        let address = IpAddr::V4(number.into());
        drop(places.take(address, Phase::Idle).unwrap());
    }
    assert!(places.taken().addresses.len() <= REMEMBERED + 1);
    let alive = places.taken().alive;
    assert_eq!(alive, 0);
    tokio::time::advance(Duration::from_mins(1)).await;
    drop(places.take(A, Phase::Idle).unwrap());
    tokio::time::advance(Duration::from_mins(1)).await;
    drop(places.take(A, Phase::Idle).unwrap());
}

#[tokio::test(start_paused = true)]
async fn evicted_tasks_that_do_not_end_are_bounded_too() {
    let places = places(4, 4, 1000);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.extend(places.take(A, Phase::Handshake).ok());
    }
    assert_eq!(held.len(), 8);
    assert_eq!(places.counts.closed(Closed::Full), 0, "anyone who asks counts it");
}
