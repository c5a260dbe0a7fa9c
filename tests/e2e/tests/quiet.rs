//! What goes wrong around the operator and must cost nothing: stores that go back in time, outages that never say the same twice, many
//! mirrors, many pods, mistakes in a mirror, and a definition that goes and comes.

mod crowds;
mod mistakes;
mod restores;
mod thousand;
mod together;

use catamaran_e2e::runner::Scenario;

/// What is measured in seconds.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-long-outage-of-many-mirrors-is-quiet",
        run: crowds::a_long_outage_is_quiet,
    },
    Scenario {
        name: "requests-do-not-grow-with-mirrors",
        run: crowds::requests_do_not_grow_with_mirrors,
    },
    Scenario {
        name: "an-edit-that-makes-no-sense-keeps-the-last-policy",
        run: mistakes::an_edit_that_makes_no_sense,
    },
];

/// They take Kubernetes' store or the definition away for a while.
pub const DISRUPTIVE: &[Scenario] = &[
    Scenario {
        name: "a-wiped-status-is-healed-in-a-later-epoch",
        run: restores::a_wiped_status_is_healed,
    },
    Scenario {
        name: "a-definition-is-deleted-and-created-again",
        run: restores::a_definition_is_created_again,
    },
    Scenario {
        name: "a-store-with-reused-revisions-is-agreed-on",
        run: restores::revisions_are_reused,
    },
    Scenario {
        name: "a-store-with-bumped-revisions-is-agreed-on",
        run: restores::revisions_are_bumped,
    },
];

/// They take all of the machine's processors, and are held to seconds and megabytes.
pub const ALONE: &[Scenario] = &[
    Scenario {
        name: "thousands-of-pending-pods-are-no-burden",
        run: crowds::thousands_of_pending_pods,
    },
    Scenario {
        name: "mirrors-of-one-registry-flip-as-one",
        run: thousand::flip_as_one,
    },
];
