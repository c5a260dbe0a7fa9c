//! Makes one probe, on a fresh connection.

use catamaran_core::endpoint::{ClientProblem, Ended, Layer, Outcome, Probe, Send};
use catamaran_core::policy::MirrorPolicy;
use catamaran_core::side::Side;
use catamaran_registry::{ProbeTarget, Stage};

use crate::connections::Problem;
use crate::context::Context;

/// Probes a registry as this side of this mirror reaches it.
pub(super) async fn probe(context: &Context, policy: &MirrorPolicy, side: Side, send: Send) -> Ended {
    let begun = context.clock.now();
    let number = send.number;
    let client = match context.connections.client(policy, side).await {
        Ok(client) => client,
        Err(error) => {
            return Ended {
                number,
                probe: Probe {
                    begun,
                    at: context.clock.now(),
                    outcome: Outcome::CredentialsUnavailable,
                    message: error.to_string().into(),
                },
                layer: Layer::Host,
                client: Err(error.problem().map(ClientProblem::from)),
            };
        }
    };
    let target = ProbeTarget {
        canary: send.target.map(|target| (target.path, target.digest)),
        blob: send.blob,
        fresh_token: send.fresh_token,
    };
    let report = client.probe(&target, policy.health.timeout).await;
    if matches!(report.outcome, Outcome::Unauthorized | Outcome::Forbidden) {
        context.connections.distrust(policy, side);
    }
    Ended {
        number,
        probe: Probe {
            begun,
            at: context.clock.now(),
            outcome: report.outcome,
            message: report.message.into(),
        },
        layer: layer(report.stage),
        client: Ok(()),
    }
}

fn layer(stage: Stage) -> Layer {
    match stage {
        Stage::Identity | Stage::Exchange | Stage::Token => Layer::Token,
        Stage::Manifest | Stage::Tags => Layer::Manifest,
        Stage::Blob => Layer::Blob,
        _ => Layer::Host,
    }
}

impl From<Problem> for ClientProblem {
    fn from(problem: Problem) -> ClientProblem {
        ClientProblem {
            reason: problem.reason,
            message: problem.message,
        }
    }
}
