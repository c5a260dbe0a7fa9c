//! What is written: the status, which carries flips out, and the evidence.

use super::*;

#[test]
fn failover_is_written_at_once_and_alone() {
    let mut bench = ready();
    bench.probes(2, DOWN, UP);
    bench.settle();
    bench.wanted.clear();
    let mut effects = bench.probe(Side::Primary, DOWN);
    if !wants_status(&effects) {
        effects = bench.probe(Side::Fallback, UP);
    }
    assert!(wants_status(&effects));
    let (_, view) = bench.writing().unwrap();
    let Some((_, Subject::Watched(seen))) = view.in_force else {
        panic!()
    };
    let flip = seen.decision.flip.unwrap();
    assert_eq!((flip.to, flip.reason), (Side::Fallback, FlipReason::PrimaryUnavailable));
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::WriteEvidence(_))));
    // Until the write has ended nothing is decided anew.
    bench.probes(1, UP, DOWN);
    assert_eq!(bench.reason(), Some(Reason::Flipped(FlipReason::PrimaryUnavailable)));
    assert!(bench.writing().is_none());
}

#[test]
fn flip_that_is_stored_apart_is_said_by_the_next_status() {
    let mut bench = ready();
    while !bench.mirror.is_flipping() {
        bench.settle();
        bench.probes(1, DOWN, UP);
    }
    let (request, view) = bench.writing().unwrap();
    let Some((_, Subject::Watched(seen))) = view.in_force else {
        panic!()
    };
    let read = StatusRead {
        standing: Some(seen.standing()),
        observed: seen.observed.clone(),
        ..StatusRead::default()
    };
    bench.status(read);
    assert_eq!(bench.active(), (Side::Fallback, 2));
    assert!(!bench.mirror.is_flipping() && bench.writing().is_none());
    bench.feed(Event::FlipStored(foreign()));
    assert!(bench.writing().is_none(), "that is another write");
    bench.feed(Event::FlipStored(request));
    let (_, view) = bench.writing().unwrap();
    let Some((_, Subject::Watched(said))) = view.in_force else {
        panic!()
    };
    assert_eq!(said.standing(), seen.standing());
    assert_eq!(said.decision.flip, None, "it is announced once");
    assert_eq!(said.last_flip, seen.decision.flip);
}

#[test]
fn flip_decided_while_a_write_waits_goes_with_it() {
    let mut bench = ready();
    bench.probes(2, DOWN, UP);
    bench.settle();
    // Some other news, whose write has to wait.
    bench.feed(Event::Rescued(1));
    let (request, _) = bench.writing().unwrap();
    while !bench.mirror.is_flipping() {
        bench.probes(1, DOWN, UP);
    }
    assert!(bench.writing().is_none(), "one write at a time");
    bench.feed(Event::WriteBegins(foreign()));
    assert!(bench.mirror.status.pending().is_none(), "that is another write");
    bench.feed(Event::WriteBegins(request));
    assert!(bench.mirror.status.pending().is_some());
    // What was decided stands until the write has ended.
    bench.probes(1, UP, DOWN);
    let Some((_, Subject::Watched(seen))) = bench.mirror.view().unwrap().in_force else {
        panic!()
    };
    assert_eq!((seen.decision.active, seen.decision.epoch), (Side::Fallback, 2));
    assert_eq!(bench.active(), (Side::Primary, 1));
    bench.feed(Event::StatusWritten {
        request,
        result: Err(WriteProblem { conflict: true }),
    });
    assert!(bench.mirror.status.pending().is_none());
}

#[test]
fn flip_is_wanted_before_the_evidence() {
    let mut bench = ready();
    // Another mapping is other evidence, and another side is asked for at the same time.
    let mut edited = listing(apps(), &[("web", "web", "team-b/web")]);
    edited.failover.active = ActiveSide::Fixed(Side::Fallback);
    let effects = bench.spec(edited, 2);
    let position = |is: fn(&Effect) -> bool| effects.iter().position(is).unwrap();
    let status = position(|effect| matches!(effect, Effect::WriteStatus(_)));
    let evidence = position(|effect| matches!(effect, Effect::WriteEvidence(_)));
    assert!(status < evidence, "{effects:?}");
}

#[test]
fn refused_flip_is_decided_anew() {
    for conflict in [true, false] {
        let mut bench = ready();
        let request = loop {
            bench.probes(1, DOWN, UP);
            let (request, view) = bench.writing().unwrap();
            let flips = matches!(view.in_force, Some((_, Subject::Watched(seen))) if seen.decision.flip.is_some());
            if flips {
                break request;
            }
            bench.feed(Event::StatusWritten {
                request,
                result: Ok(()),
            });
        };
        bench.feed(Event::StatusWritten {
            request: foreign(),
            result: Ok(()),
        });
        assert!(bench.mirror.status.pending().is_some(), "that was another write");
        bench.feed(Event::StatusWritten {
            request,
            result: Err(WriteProblem { conflict }),
        });
        assert!(bench.mirror.status.pending().is_none());
        assert_eq!(bench.active(), (Side::Primary, 1));
        bench.wait(2);
        bench.settle();
        assert_eq!(bench.active(), (Side::Fallback, 2), "conflict: {conflict}");
    }
}

#[test]
fn flip_whose_write_never_ends_is_decided_anew() {
    let mut bench = ready();
    while bench.mirror.status.pending().is_none() {
        bench.probes(1, DOWN, UP);
        if bench.mirror.status.pending().is_none() {
            bench.settle();
        }
    }
    bench.wanted.clear();
    for _ in 0..40 {
        bench.probes(1, DOWN, UP);
    }
    bench.settle();
    assert_eq!(bench.active(), (Side::Fallback, 2));
}

#[test]
fn evidence_is_not_published_before_the_earlier_one_is_read() {
    let mut bench = Bench::new();
    bench.spec(web(), 1);
    bench.status(StatusRead::default());
    bench.feed(Event::Leading(true));
    let wrote = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::WriteEvidence(_)));
    assert!(!wrote(&bench.pass(&[], &[("1", "xx")])));
    assert!(wrote(&bench.feed(Event::Prior(Evidence::default()))));
    assert!(!wrote(&bench.feed(Event::Time)), "once");
}

#[test]
fn pass_that_could_not_read_a_side_keeps_what_an_earlier_leader_published() {
    let earlier = ready().mirror;
    let groups = earlier.groups().into_iter().map(|place| Arc::new(earlier.group(place)));
    let mut bench = Bench::new();
    bench.spec(web(), 1);
    bench.status(StatusRead::default());
    bench.feed(Event::Prior(
        groups.fold(Evidence::default(), |all, group| all.with(group)),
    ));
    bench.feed(Event::Leading(true));
    let unread = Sides {
        primary: Some(failure()),
        fallback: None,
    };
    bench.in_use(&["1"]);
    bench.list(&[("1", "?x")], unread);
    bench.settle();
    assert!(bench.known("1").same, "the primary was not read");
    bench.wait(301);
    bench.pass(&["1"], &[("1", "-x")]);
    assert_eq!(bench.known("1").presence.primary, Presence::Absent);
}

#[test]
fn evidence_that_can_not_be_stored_is_reported_until_it_can() {
    let mut bench = ready();
    assert!(!wants_status(&bench.feed(Event::EvidenceStored(Ok(())))));
    assert!(wants_status(
        &bench.feed(Event::EvidenceStored(Err("quota".to_owned())))
    ));
    bench.settle();
    assert_eq!(bench.mirror.evidence_problem.as_deref(), Some("quota"));
    assert!(!wants_status(
        &bench.feed(Event::EvidenceStored(Err("quota".to_owned())))
    ));
    assert!(wants_status(&bench.feed(Event::EvidenceStored(Ok(())))));
    assert_eq!(bench.mirror.evidence_problem, None);
}

#[test]
fn rescued_pods_are_counted_once() {
    let mut bench = ready();
    bench.feed(Event::Rescued(3));
    assert_eq!(bench.mirror.status.rescued(), 3);
    let (request, _) = bench.writing().unwrap();
    bench.feed(Event::Rescued(2));
    let written = StatusRead {
        rescued: 3,
        ..status(Side::Primary, 1)
    };
    bench.status(written);
    bench.feed(Event::StatusWritten {
        request,
        result: Ok(()),
    });
    assert_eq!(bench.mirror.status.rescued(), 5);
    let (request, _) = bench.writing().unwrap();
    bench.feed(Event::StatusWritten {
        request,
        result: Err(WriteProblem { conflict: true }),
    });
    assert_eq!(
        bench.mirror.status.rescued(),
        5,
        "what was not written is still to be counted"
    );
}

#[test]
fn rescued_pods_are_counted_once_when_the_lease_is_lost_in_mid_write() {
    for reached_the_api_server in [true, false] {
        let mut bench = ready();
        bench.feed(Event::Rescued(3));
        let (request, _) = bench.writing().unwrap();
        bench.feed(Event::Leading(false));
        if reached_the_api_server {
            let written = StatusRead {
                rescued: 3,
                ..status(Side::Primary, 1)
            };
            bench.status(written);
        }
        bench.feed(Event::StatusWritten {
            request,
            result: Ok(()),
        });
        bench.feed(Event::Leading(true));
        assert_eq!(bench.mirror.status.rescued(), 3, "{reached_the_api_server}");
    }
}

#[test]
fn flip_that_a_lost_lease_cut_off_is_decided_anew() {
    let mut bench = ready();
    let flips = |view: View| matches!(view.in_force, Some((_, Subject::Watched(seen))) if seen.decision.flip.is_some());
    loop {
        bench.probes(1, DOWN, UP);
        let (request, view) = bench.writing().unwrap();
        if flips(view) {
            break;
        }
        bench.feed(Event::StatusWritten {
            request,
            result: Ok(()),
        });
    }
    bench.feed(Event::Leading(false));
    assert!(bench.mirror.status.pending().is_none());
    bench.feed(Event::Leading(true));
    assert_eq!(bench.active(), (Side::Primary, 1));
    bench.pass(&["1"], &[("1", "xx")]);
    bench.probes(1, DOWN, UP);
    bench.settle();
    assert_eq!(bench.active(), (Side::Fallback, 2), "{:?}", bench.reason());
}

#[test]
fn leader_that_leads_again_waits_for_no_write_of_before() {
    let mut bench = ready();
    bench.feed(Event::Rescued(1));
    let (before, _) = bench.writing().unwrap();
    bench.feed(Event::Leading(false));
    bench.feed(Event::Leading(true));
    let (after, _) = bench.writing().expect("a write of its own");
    assert_ne!(before, after);
}

#[test]
fn copies_end_with_the_lease_the_spec_and_what_is_suspended() {
    type End = fn(&mut Bench) -> Vec<Effect>;
    let copying = || {
        let mut policy = web();
        policy.repair.mode = RepairMode::Copy;
        policy
    };
    let ends: [(&str, End); 3] = [
        ("lease", |bench| bench.feed(Event::Leading(false))),
        ("spec", |bench| {
            bench.spec(listing(apps(), &[("web", "web", "team-b/web")]), 2)
        }),
        ("suspended", |bench| {
            let mut policy = web();
            policy.suspended = true;
            bench.spec(policy, 2)
        }),
    ];
    for (what, end) in ends {
        let mut bench = Bench::leading(copying());
        bench.probes(3, UP, UP);
        bench.pass(&["1"], &[("1", "xx"), ("2", "x-")]);
        bench.settle();
        bench.wait(1_000);
        bench.probes(3, UP, UP);
        bench.pass(&["1"], &[("1", "xx"), ("2", "x-")]);
        let copy = |effect: &Effect| matches!(effect, Effect::Copy(errand) if errand.tag == "2");
        assert!(bench.wanted.iter().any(copy), "{what}: {:?}", bench.wanted);
        assert!(end(&mut bench).contains(&Effect::StopCopies), "{what}");
    }
}
