//! A replica that does not lead.

use super::*;

/// Parts that take memory.
fn parts(mirror: &Mirror) -> Vec<&'static str> {
    let parts = [
        ("pulls", mirror.pulls.is_there()),
        ("ledger", mirror.ledger.is_there()),
        ("passes", mirror.passes.is_there()),
        ("verification", mirror.verification.is_there()),
        ("contents", mirror.contents.is_there()),
        ("copies", mirror.copies.is_there()),
        ("cache", mirror.cache.is_there()),
        ("failback", mirror.failback.is_there()),
        ("proofs", mirror.proofs.is_there()),
    ];
    parts
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
}

#[test]
fn replica_that_never_led_has_nothing_of_what_a_leader_fills() {
    let mut bench = Bench::new();
    bench.status(status(Side::Primary, 1));
    bench.spec(web(), 1);
    for outcome in [UP, DOWN, UP] {
        bench.now += 5;
        for side in Side::ALL {
            bench.probe(side, outcome);
        }
        bench.feed(Event::Time);
        bench.feed(Event::Suspected(Side::Primary));
    }
    let wanted = vec![ReferenceName {
        repository: "web".to_owned(),
        reference: "1.0".to_owned(),
    }];
    bench.feed(Event::Wanted {
        references: wanted,
        urgent: true,
    });
    bench.status(status(Side::Fallback, 2));
    bench.feed(Event::InvalidSpec {
        generation: 2,
        problem: "a typo".to_owned(),
    });
    let mut suspended = web();
    suspended.suspended = true;
    bench.spec(suspended, 3);
    bench.spec(web(), 4);
    assert_eq!(parts(&bench.mirror), Vec::<&str>::new());
    assert!(bench.mirror.view().is_some(), "what is not there reads as empty");
    bench.feed(Event::Prior(Evidence::default()));
    bench.feed(Event::Leading(true));
    assert!(parts(&bench.mirror).contains(&"passes"));
}
