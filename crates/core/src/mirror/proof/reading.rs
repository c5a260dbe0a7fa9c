//! What the state of a proof pod says of its pulls.

use std::fmt;
use std::str::FromStr;

use crate::pod::message::PullFailure;

/// How long a proof pod may take. Long enough for large images on a slow line, and for the timeouts of a node that gets no answer.
pub const LIMIT: std::time::Duration = std::time::Duration::from_mins(10);

/// Characters of a message that are kept.
const LONGEST_MESSAGE: usize = 256;

/// What the kubelet refuses a pod with whose node selector does not fit: the node is of another operating system.
const OTHER_SYSTEM: &str = "NodeAffinity";

/// Why something is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The pull failed.
    Pull(PullFailure),
    /// The pull had not ended when the time was up.
    PullNotEnded,
    /// A policy of the cluster refused the pod.
    Refused,
    /// The pod was not run.
    NotStarted,
    /// The operator has no right to make pods there.
    NotPermitted,
}

impl Cause {
    /// As in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Pull(PullFailure::NotFound) => "NotFound",
            Cause::Pull(PullFailure::Unauthorized) => "Unauthorized",
            Cause::Pull(PullFailure::Throttled) => "Throttled",
            Cause::Pull(PullFailure::Connection) => "ConnectionFailed",
            Cause::Pull(PullFailure::ServerError) => "ServerError",
            Cause::Pull(PullFailure::Tls) => "TLSError",
            Cause::Pull(PullFailure::Dns) => "DNSFailure",
            Cause::Pull(PullFailure::SignatureInvalid) => "SignatureInvalid",
            Cause::Pull(PullFailure::Other) => "Other",
            Cause::PullNotEnded => "PullNotEnded",
            Cause::Refused => "Refused",
            Cause::NotStarted => "NotStarted",
            Cause::NotPermitted => "NotPermitted",
        }
    }

    /// All of them.
    pub const ALL: [Cause; 13] = [
        Cause::Pull(PullFailure::NotFound),
        Cause::Pull(PullFailure::Unauthorized),
        Cause::Pull(PullFailure::Throttled),
        Cause::Pull(PullFailure::Connection),
        Cause::Pull(PullFailure::ServerError),
        Cause::Pull(PullFailure::Tls),
        Cause::Pull(PullFailure::Dns),
        Cause::Pull(PullFailure::SignatureInvalid),
        Cause::Pull(PullFailure::Other),
        Cause::PullNotEnded,
        Cause::Refused,
        Cause::NotStarted,
        Cause::NotPermitted,
    ];

    /// Whether a pod of the mirror would fail for it. A pod that was not run says nothing about pulls.
    pub const fn is_failure(self) -> bool {
        matches!(self, Cause::Pull(_) | Cause::PullNotEnded | Cause::Refused)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status that names a cause this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the cause of a failed proof: {0:?} is not one")]
pub struct UnknownCause(pub String);

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Cause, UnknownCause> {
        let mut all = Cause::ALL.into_iter();
        all.find(|cause| cause.as_str() == text)
            .ok_or_else(|| UnknownCause(text.to_owned()))
    }
}

/// Why something is not proven, with the words of who says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The class.
    pub cause: Cause,
    /// The kubelet's or the API server's words.
    pub message: String,
}

impl Outcome {
    /// As in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Pulls(pulls) if pulls.iter().all(Result::is_ok) => "Pulled",
            Outcome::Pulls(_) => "PullsFail",
            Outcome::Skipped => "Skipped",
            Outcome::Whole(problem) => problem.cause.as_str(),
        }
    }
}

impl Problem {
    /// With the message as far as it is kept, on one line.
    pub fn new(cause: Cause, message: &str) -> Problem {
        let words: Vec<&str> = message.split_whitespace().collect();
        let message = words.join(" ");
        let message = match message.char_indices().nth(LONGEST_MESSAGE) {
            Some((end, _)) => format!("{}...", &message[..end]),
            None => message,
        };
        Problem { cause, message }
    }

    /// The API server's refusal, without the pod's name, which is another one each time.
    pub fn refused(message: &str) -> Problem {
        let without_name = [" is forbidden: ", " is invalid: "]
            .into_iter()
            .find_map(|middle| message.split_once(middle))
            .map_or(message, |(_, rest)| rest);
        Problem::new(Cause::Refused, without_name)
    }
}

/// How a proof pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// For each image of the pod, in its order: pulled, or why not.
    Pulls(Vec<Result<(), Problem>>),
    /// It said nothing about any image.
    Whole(Problem),
    /// The node is none that runs the mirror's images.
    Skipped,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// The kubelet has said nothing, or that it creates it.
    #[default]
    Creating,
    /// It waits, for this reason.
    Waiting {
        /// The kubelet's word.
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// It got as far as to be started: its image is on the node.
    Started,
}

/// What of a proof pod's status counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// The kubelet has taken it.
    pub is_taken: bool,
    /// It has ended, for this reason and with this message.
    pub failed: Option<(String, String)>,
    /// Its containers, one for each image, in that order.
    pub containers: Vec<ContainerState>,
}

/// How the pod ended, as soon as its state says so. `is_over`: its time is up.
pub fn read(state: &PodState, is_over: bool) -> Option<Outcome> {
    if let Some((reason, message)) = &state.failed {
        if reason == OTHER_SYSTEM {
            return Some(Outcome::Skipped);
        }
        if state.containers.iter().all(|it| pull(it).is_none()) && reason != "DeadlineExceeded" {
            return Some(not_started(&format!("{reason}: {message}")));
        }
    }
    let pulls: Vec<_> = state.containers.iter().map(pull).collect();
    let is_decided = !pulls.is_empty() && pulls.iter().all(Option::is_some);
    if !is_decided && !is_over && state.failed.is_none() {
        return None;
    }
    if !state.is_taken {
        return Some(not_started("its kubelet has not taken it"));
    }
    let not_ended = || {
        let minutes = LIMIT.as_secs() / 60;
        Err(Problem::new(
            Cause::PullNotEnded,
            &format!("not pulled within {minutes} minutes"),
        ))
    };
    Some(Outcome::Pulls(
        pulls.into_iter().map(|pull| pull.unwrap_or_else(not_ended)).collect(),
    ))
}

fn not_started(message: &str) -> Outcome {
    Outcome::Whole(Problem::new(Cause::NotStarted, message))
}

/// What a container says of its image; none while it is being pulled. A container whose command is not there, or whose user may not
/// be, has its image.
fn pull(state: &ContainerState) -> Option<Result<(), Problem>> {
    match state {
        ContainerState::Creating => None,
        ContainerState::Started => Some(Ok(())),
        ContainerState::Waiting { reason, message } => match reason.as_str() {
            // All of these come after the pull.
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "PreCreateHookError"
            | "PreStartHookError"
            | "RunContainerError"
            | "PostStartHookError"
            | "CrashLoopBackOff" => Some(Ok(())),
            "InvalidImageName" | "ImageInspectError" => {
                Some(Err(Problem::new(Cause::Pull(PullFailure::Other), message)))
            }
            _ => PullFailure::of(reason, message).map(|failure| Err(Problem::new(Cause::Pull(failure), message))),
        },
    }
}

#[cfg(test)]
mod tests;
