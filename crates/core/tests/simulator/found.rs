//! Histories that once broke an invariant, made small.

use catamaran_core::side::Side::*;

use crate::play::play;
use crate::script::Edit::*;
#[allow(unused_imports)]
use crate::script::Named::*;
use crate::script::Sky::*;
use crate::script::Step::*;
use crate::script::{Setup, Step};
use crate::world::Fault::*;
use crate::world::Kind::*;

/// Plays a history that nothing must break.
#[track_caller]
fn holds(setup: Setup, steps: &[Step]) {
    let violation = play(setup, steps);
    assert_eq!(violation, None);
}

const SETUP: Setup = Setup {
    replicas: 2,
    repositories: 0,
    period: 2,
    threshold: 3,
    digests: [false, false, false],
    interval: 30,
};

/// A status without a standing had every reading of it followed by a write.
#[test]
fn suspended_mirror_does_not_write_in_circles() {
    holds(SETUP, &[Edit(Suspend(true)), Wait(1_000)]);
}

/// A digest that one side lacks was copied as if it were a tag, again and again.
#[test]
fn digest_in_use_is_not_copied_as_a_tag() {
    let setup = Setup {
        digests: [true, false, false],
        interval: 60,
        ..SETUP
    };
    holds(
        setup,
        &[
            Edit(Lies(Fallback, 2, 1)),
            Run(3, Primary, 0, 1, Digest),
            Edit(Repair(2)),
            Edit(Repositories(1)),
        ],
    );
}

/// Both sides were asked for a manifest that neither has, and said nothing else for ever.
#[test]
fn canary_that_neither_side_has_does_not_stop_flips() {
    holds(
        SETUP,
        &[
            Wait(3_000),
            Edit(Lies(Fallback, 1, 0)),
            Edit(Swap),
            Wait(2_000),
            Edit(Lies(Fallback, 2, 1)),
            Pause(0, 11_000),
        ],
    );
}

/// What is in use and not in the only listing that could be read was not known to be absent there.
#[test]
fn failover_needs_what_is_in_use_and_in_no_listing() {
    let setup = Setup {
        repositories: 1,
        period: 5,
        digests: [false, false, true],
        interval: 120,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(1_000),
            Edit(Swap),
            Edit(Lies(Primary, 2, 1)),
            PushBoth(1, 0, 8),
            Weather(0, Refuses),
            Wait(10_000),
        ],
    );
}

/// What an earlier leader knew counted for a failover after a pass had shown otherwise.
#[test]
fn failover_does_not_rest_on_what_passes_have_replaced() {
    let setup = Setup {
        repositories: 4,
        digests: [true, false, false],
        interval: 10,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(3_000),
            Vacate,
            Edit(Swap),
            Wait(6_000),
            Weather(0, BlackHole),
            Edit(Swap),
            Wait(8_000),
            Next(Resolve, Lost),
            Wait(3_000),
            Weather(0, Up),
            Wait(270_000),
            Weather(1, Refuses),
            Wait(4_000),
        ],
    );
}

/// A restored status of the same epoch, which named another registry, moved pods there.
#[test]
fn restored_status_of_the_same_epoch_moves_nothing() {
    let setup = Setup {
        replicas: 1,
        period: 3,
        threshold: 2,
        digests: [true, false, false],
        interval: 120,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(1_400),
            Edit(Lies(Primary, 1, 0)),
            Wait(20_000),
            Rescued(1),
            Wait(1_000),
            Weather(0, NoClient),
            Edit(Lies(Fallback, 0, 0)),
            Wait(2_000),
            Restore(9),
            Wait(1_000),
        ],
    );
}

/// A manifest that is not in use any more, and gone from one side, was asked for for ever.
#[test]
fn canary_that_is_not_in_use_any_more_does_not_stop_a_failback() {
    let setup = Setup {
        period: 3,
        digests: [true, false, true],
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(50_000),
            Delete(0, 0, 0),
            Weather(0, BlackHole),
            Wait(12_000),
            Stop(0),
        ],
    );
}

/// A manifest that both sides have replaced with different ones was asked for for ever.
#[test]
fn canary_that_has_moved_on_both_sides_does_not_stop_a_failback() {
    let setup = Setup {
        repositories: 2,
        threshold: 1,
        interval: 10,
        ..SETUP
    };
    holds(
        setup,
        &[
            Run(0, Primary, 1, 1, Tag),
            Edit(Swap),
            Edit(Lies(Fallback, 0, 1)),
            PushBoth(0, 1, 29),
            Edit(Invalid(true)),
            PushBoth(0, 0, 14),
            Wait(2_000),
            Restart(2),
        ],
    );
}

/// A probe that was asked for under one spec counted as proof of the next one's mapping.
#[test]
fn probe_of_another_spec_observes_nothing() {
    let setup = Setup {
        replicas: 1,
        repositories: 4,
        threshold: 1,
        digests: [true, false, false],
        ..SETUP
    };
    holds(
        setup,
        &[
            Pause(0, 2_965),
            Wait(113_110),
            Edit(Repositories(2)),
            Weather(1, BlackHole),
            Wait(1_000),
            Weather(1, Up),
        ],
    );
}

/// No fault of the machine: a tag that both listings lacked was still held to be on one of them, because the listings came late.
#[test]
fn tag_that_is_nowhere_holds_up_no_failover() {
    let setup = Setup {
        repositories: 2,
        period: 5,
        digests: [false, true, true],
        interval: 120,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(30_200),
            Run(1, Fallback, 0, 3, Tag),
            Wait(4_300),
            PushTo(Primary, 0, 2, 23),
            Wait(15_000),
            Break(Primary, 0, true),
            Wait(80_000),
            Break(Primary, 0, false),
            Wait(4_000),
            PushTo(Fallback, 0, 4, 11),
            Wait(34_100),
            Run(0, Fallback, 0, 4, Tag),
            Wait(17_000),
            PushBoth(0, 3, 12),
            Wait(110_800),
            Weather(1, BlackHole),
            Wait(234_500),
            Run(5, Fallback, 0, 5, Tag),
            Wait(38_800),
            Stop(0),
            Weather(0, BlackHole),
            Weather(1, Up),
            Wait(13_840),
            Stop(1),
            Weather(0, Up),
            Wait(100_000),
            Next(List, Late(20_000)),
            Usurp(1),
            Wait(2_000),
            Weather(0, BlackHole),
            Wait(24_000),
        ],
    );
}

/// No fault of the machine: an answer counted that it had given up, by a clock that was set back meanwhile.
#[test]
fn answer_that_a_clock_makes_late_counts_for_nothing() {
    let setup = Setup {
        replicas: 1,
        period: 3,
        threshold: 2,
        digests: [false, true, false],
        interval: 120,
        ..SETUP
    };
    holds(
        setup,
        &[
            Weather(1, BlackHole),
            Wait(10_000),
            Run(2, Fallback, 0, 2, Both),
            Wait(1_000),
            Asks(2, true),
            Wait(1_000),
            SetClock(0, -900_000),
            Wait(5_000),
            PushBoth(0, 0, 7),
            Wait(7_000),
        ],
    );
}

/// What was read before the clock was set back counted as read just now, and a failback lacked an image.
#[test]
fn clock_that_is_set_back_makes_no_reading_newer() {
    let setup = Setup {
        replicas: 3,
        repositories: 4,
        period: 3,
        interval: 10,
        ..SETUP
    };
    holds(
        setup,
        &[
            Weather(1, Unauthorized),
            PushBoth(0, 4, 2),
            Wait(2_000),
            Weather(0, BlackHole),
            SetClock(0, -900_000),
            Wait(1_000),
            Weather(0, Refuses),
            DeleteFrom(Primary, 0, 4),
            Wait(3_000),
            Weather(1, Up),
            Wait(5_000),
            Run(0, Fallback, 0, 4, Both),
            Wait(50_000),
            Weather(0, BlackHole),
            Wait(15_000),
            Break(Primary, 0, true),
            Weather(0, Up),
            Wait(80_000),
        ],
    );
}

/// No fault of the machine: an answer that it took counted for nothing, because the clock had been set back a little.
#[test]
fn answer_counts_or_not_after_a_clock_was_set_back() {
    let setup = Setup {
        repositories: 1,
        digests: [true, false, true],
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(160),
            SetClock(0, -700),
            Wait(2_000),
            Weather(1, BlackHole),
            Stop(1),
            Wait(52_000),
            Weather(0, Refuses),
            Weather(1, Up),
            Wait(15_000),
        ],
    );
}

/// No fault of the machine: a digest was known by a tag that had moved on, and the answer for the digest itself was still to come.
#[test]
fn digest_of_a_tag_that_has_moved_on_is_not_known() {
    let setup = Setup {
        replicas: 1,
        repositories: 4,
        interval: 60,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(700),
            Edit(Swap),
            Push(0, 0, 4, 5),
            Edit(Swap),
            Wait(13_000),
            Stop(1),
            Wait(90_000),
            Next(Resolve, Late(20_000)),
            Wait(19_000),
            Run(4, Primary, 0, 4, Both),
            Wait(1_000),
            PushBoth(0, 4, 25),
            Run(0, Primary, 1, 5, Digest),
            Next(InUse, Late(20_000)),
            Wait(40_000),
            Weather(0, ServerError),
            Wait(12_000),
        ],
    );
}

/// The sides changed places before any status was written: pods were sent to the registry that had served nothing, and was down.
#[test]
fn what_one_registry_has_served_says_nothing_of_another() {
    let setup = Setup {
        repositories: 2,
        period: 5,
        threshold: 1,
        digests: [false, true, false],
        ..SETUP
    };
    holds(
        setup,
        &[
            Weather(1, ServerError),
            Vacate,
            RefuseStatus(4),
            Wait(10_000),
            Restart(0),
            Wait(6_000),
            Edit(Swap),
            Wait(4_000),
        ],
    );
}

/// The primary had failed before its first failure was known, because that was a timeout, and the fallback had failed meanwhile, too.
#[test]
fn failover_waits_for_a_target_that_failed_during_a_timeout() {
    let setup = Setup {
        repositories: 4,
        threshold: 1,
        digests: [true, false, false],
        interval: 10,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(3_030),
            Weather(1, Refuses),
            Wait(1_062),
            Weather(0, BlackHole),
            Wait(1_000),
            RefuseStatus(4),
            Weather(1, Up),
            Wait(500),
            Weather(0, ServerError),
            Wait(9_000),
        ],
    );
}

/// No fault of the machine: a tag that a read by name had found on neither side was still held to be on one, because a listing had
/// come meanwhile.
#[test]
fn tag_that_both_sides_lack_is_forgotten() {
    let setup = Setup {
        repositories: 1,
        period: 5,
        digests: [true, false, true],
        interval: 60,
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(142_000),
            Run(1, Primary, 1, 5, Tag),
            Weather(0, BlackHole),
            Wait(511_000),
            Weather(1, BlackHole),
            Wait(70_000),
            Asks(1, true),
            Wait(5_000),
            Weather(0, Up),
            Wait(4_000),
            Weather(1, Up),
            Wait(2_000),
        ],
    );
}

/// No fault of the machine: what is in use counted of a repository that the spec no longer names.
#[test]
fn repository_that_the_spec_has_dropped_holds_up_no_failover() {
    let setup = Setup {
        replicas: 1,
        repositories: 1,
        period: 5,
        threshold: 2,
        digests: [false, true, false],
        interval: 120,
    };
    holds(
        setup,
        &[
            Run(0, Primary, 1, 2, Both),
            Weather(0, BlackHole),
            Edit(Lies(Fallback, 2, 1)),
            Wait(11_000),
            Weather(0, Refuses),
            Pause(0, 6_543),
            PushBoth(0, 2, 21),
            Wait(14_000),
            Edit(Repositories(2)),
        ],
    );
}

/// A blob host that had failed stayed down once there was no blob to read any more.
#[test]
fn blobs_that_nobody_reads_hold_up_no_failback() {
    let setup = Setup {
        repositories: 2,
        threshold: 1,
        digests: [true, false, false],
        ..SETUP
    };
    holds(
        setup,
        &[
            Edit(Lies(Primary, 1, 0)),
            Run(0, Primary, 1, 2, Tag),
            Edit(Lies(Fallback, 0, 2)),
            PushBoth(0, 4, 29),
            Weather(0, NoBlobs),
            Edit(Swap),
            Wait(9910),
            Edit(Lies(Fallback, 0, 0)),
        ],
    );
}

/// The same, where nothing is listed and what was in use is gone.
#[test]
fn blobs_of_what_is_not_in_use_hold_up_no_failback() {
    let setup = Setup {
        replicas: 1,
        repositories: 2,
        period: 3,
        digests: [false, true, true],
        ..SETUP
    };
    holds(
        setup,
        &[
            Wait(9_000),
            Edit(Repositories(0)),
            Wait(13_641),
            Weather(0, NoBlobs),
            Wait(862),
            Run(0, Fallback, 0, 0, Digest),
            Wait(4_000),
            Edit(Invalid(false)),
        ],
    );
}

/// What the sides had under two names of one digest was looked at under the one that the flawed side does not have.
#[test]
fn untrusted_digest_under_two_tags_is_found_sound_again() {
    let setup = Setup {
        repositories: 2,
        period: 5,
        digests: [false, true, false],
        interval: 60,
        ..SETUP
    };
    holds(
        setup,
        &[
            PushBoth(0, 1, 14),
            PushBoth(0, 2, 14),
            PushTo(Primary, 0, 2, 18),
            PushTo(Fallback, 0, 1, 26),
            Forge(Primary, 0, 1, true),
            Wait(9_000),
        ],
    );
}

/// A digest was broken below its manifest while pods named it, and one side alone had it under a tag after that.
#[test]
fn broken_digest_of_one_side_is_found_whole_again() {
    let setup = Setup {
        repositories: 3,
        period: 5,
        digests: [false, false, true],
        interval: 120,
        ..SETUP
    };
    holds(
        setup,
        &[
            PushTo(Primary, 0, 2, 27),
            PushTo(Fallback, 0, 1, 27),
            PushBoth(0, 2, 18),
            Gut(Fallback, 0, 1, true),
            Run(5, Fallback, 0, 1, Both),
            Wait(2_000),
            Edit(Invalid(true)),
            Run(5, Fallback, 0, 4, Tag),
        ],
    );
}
