//! Carries out probes, each on a fresh connection.

use catamaran_core::endpoint::{Outcome, Probe};
use catamaran_core::mirror::parity::Canary;
use catamaran_core::mirror::{ClientProblem, Event, Probed, RequestId};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use catamaran_registry::ProbeTarget;

use crate::connections::Problem;
use crate::context::Context;

/// One probe that a mirror wants.
pub(super) struct WantedProbe {
    pub(super) request: RequestId,
    pub(super) side: Side,
    pub(super) canary: Option<Canary>,
    pub(super) blob: bool,
}

/// Probes one side once.
pub(super) async fn probe(context: &Context, policy: &MirrorPolicy, wanted: WantedProbe) -> Event {
    let WantedProbe {
        request,
        side,
        canary,
        blob,
    } = wanted;
    let client = match context.connections.client(policy, side).await {
        Ok(client) => client,
        Err(error) => {
            let probe = Probe {
                at: context.clock.now(),
                outcome: Outcome::CredentialsUnavailable,
                message: error.to_string(),
            };
            return Event::Probed(Box::new(Probed {
                request,
                side,
                probe,
                canary: None,
                client: Err(error.problem().map(ClientProblem::from)),
            }));
        }
    };
    let place = |canary: &Canary| {
        let path = policy.path(side, &canary.repository).into_owned();
        (path, canary.digest.clone())
    };
    let target = ProbeTarget {
        canary: canary.as_ref().map(place),
        blob,
    };
    let report = client.probe(&target, policy.health.timeout).await;
    context
        .metrics
        .probed(&policy.id.name, side, &report.outcome, report.elapsed);
    if matches!(report.outcome, Outcome::Unauthorized | Outcome::Forbidden) {
        context.connections.distrust(&policy.id, side);
    }
    Event::Probed(Box::new(Probed {
        request,
        side,
        probe: Probe {
            at: context.clock.now(),
            outcome: report.outcome,
            message: report.message,
        },
        canary,
        client: Ok(()),
    }))
}

impl From<Problem> for ClientProblem {
    fn from(problem: Problem) -> ClientProblem {
        ClientProblem {
            reason: problem.reason,
            message: problem.message,
        }
    }
}
