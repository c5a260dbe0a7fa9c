//! The kinds of senders.

/// Whose protocol a notification comes by; each has a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Azure Container Registry's webhooks.
    Azure,
    /// GitHub's webhooks.
    GitHub,
    /// `CloudEvents`, and Azure Event Grid's own schema.
    Events,
}

impl Sender {
    /// The sender that a path belongs to.
    pub fn of_path(path: &str) -> Option<Sender> {
        match path {
            "/azure" => Some(Sender::Azure),
            "/github" => Some(Sender::GitHub),
            "/events" => Some(Sender::Events),
            _ => None,
        }
    }

    /// In one word, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Sender::Azure => "azure",
            Sender::GitHub => "github",
            Sender::Events => "events",
        }
    }
}
