//! What was seen on a step, in a line for people.

use catamaran_registry::advice::{self, Whose};
use catamaran_registry::steps::{Address, Certificate, Finding, Granted, Step, StepResult, Wants};
use catamaran_registry::{Class, CredentialKind, Presented, advice_for};
use jiff::Timestamp;

use super::hint;
use super::line::{Line, Mark};
use super::plan::Plan;

/// A certificate or token that ends within so many days is worth a word.
const SOON_DAYS: i64 = 14;
/// A credential that ends within so many minutes is.
const SOON_MINUTES: i64 = 15;

/// Describes the steps of one plan in order; what earlier steps found decides about the advice of later ones.
pub struct Describe<'l> {
    plan: &'l Plan,
    now: Timestamp,
    presented: Option<Presented>,
    addresses: Vec<Address>,
}

impl<'l> Describe<'l> {
    /// Nothing was seen yet.
    pub fn new(plan: &'l Plan, now: Timestamp) -> Describe<'l> {
        Describe {
            plan,
            now,
            presented: None,
            addresses: Vec::new(),
        }
    }

    /// One step in a line.
    pub fn line(&mut self, checked: &StepResult) -> Line {
        match &checked.finding {
            Some(Finding::Addresses { addresses, .. }) => self.addresses.clone_from(addresses),
            Some(Finding::Presented(presented)) => self.presented = Some(presented.clone()),
            _ => {}
        }
        let Some(failure) = &checked.failure else {
            return checked.finding.as_ref().map_or_else(
                || Line::well(checked.step, ""),
                |finding| self.seen(checked.step, finding),
            );
        };
        let about = hint::About {
            provider: self.plan.provider,
            repository: self.plan.target.repository.as_deref(),
            registry: self.about(),
        };
        let mut details = vec![failure.message.clone()];
        if let Some(Finding::Certificates(chain)) = &checked.finding {
            details.extend(chain.iter().map(|certificate| certificate_line(certificate, self.now)));
        }
        let refused = matches!(failure.class, Class::Unauthorized | Class::Forbidden);
        let presented = self.presented.as_ref();
        let anonymous = presented.is_some_and(|presented| presented.kind == CredentialKind::ANONYMOUS);
        // The operator may be let in where this command, without the operator's identity, is not.
        let mark = match &self.plan.whose {
            Whose::Operator { exec: Some(_), .. } if refused && anonymous => Mark::Unknown,
            _ => Mark::Failed,
        };
        Line {
            step: checked.step.as_str(),
            mark,
            text: failed(checked.step, &failure.class).to_owned(),
            details,
            hint: hint::hint(&about, checked.step, failure),
        }
    }

    fn about(&self) -> advice::About<'_> {
        let kind = self.presented.as_ref().map(|presented| presented.kind);
        advice::About {
            registry: &self.plan.registry,
            whose: &self.plan.whose,
            kind: kind.unwrap_or(CredentialKind::ANONYMOUS),
            private: self.addresses.iter().any(|address| address.private),
        }
    }

    fn seen(&self, step: Step, finding: &Finding) -> Line {
        match finding {
            Finding::Addresses { addresses, proxy } => addresses_line(addresses, proxy.as_deref()),
            Finding::Connected(port) => Line::well(step, format!("takes connections on port {port}")),
            Finding::Certificates(chain) => trusted(chain, self.now),
            Finding::Wants(Wants::Nothing) => Line::well(step, "answers as a registry, and lets everyone in"),
            Finding::Wants(Wants::Basic) => {
                Line::well(step, "answers as a registry, and wants a user name and password")
            }
            Finding::Wants(Wants::Bearer { realm, .. }) => {
                Line::well(step, format!("answers as a registry, and wants a token from {realm}"))
            }
            Finding::Presented(presented) => self.presented_line(presented),
            Finding::Admitted { scope, granted } => self.admitted(scope.as_deref(), granted.as_ref()),
            Finding::Tags(1) => Line::well(step, "lists its tags: there is one"),
            Finding::Tags(count) => Line::well(step, format!("lists its tags: there are {count}")),
            Finding::Manifest {
                tag,
                digest,
                media_type,
            } => {
                let mut line = Line::well(step, format!("serves the manifest of '{tag}'"));
                line.details.push(digest.to_string());
                line.details.extend(media_type.clone());
                line
            }
            Finding::Blob(request) => {
                let host = request.split("://").nth(1).and_then(|rest| rest.split('/').next());
                Line::well(
                    step,
                    format!("serves its blobs from {}", host.unwrap_or("the registry")),
                )
            }
        }
    }

    fn presented_line(&self, presented: &Presented) -> Line {
        let step = Step::Credential;
        let text = match (&presented.username, presented.kind) {
            (_, CredentialKind::ANONYMOUS) => "there is no credential: goes on anonymously".to_owned(),
            (Some(username), kind) => format!("the credential is {}, as '{username}'", kind.words),
            (None, kind) => format!("the credential is {}", kind.words),
        };
        let mut line = Line::well(step, text);
        if let Some(warning) = presented.kind.warning {
            line = line.warn(warning);
        }
        if presented.by_repository {
            line.details
                .push("this registry gives rights by repository (ABAC)".to_owned());
        }
        if let Some(expires) = presented.expires {
            let minutes = expires.duration_since(self.now).as_mins();
            line.details.push(format!("it ends {}", when(expires, self.now)));
            if minutes < SOON_MINUTES {
                return line.warn(advice_for(self.plan.provider).renew(&self.about()));
            }
        }
        line
    }

    fn admitted(&self, scope: Option<&str>, granted: Option<&Granted>) -> Line {
        let Some(scope) = scope else {
            return Line::well(Step::Token, "lets us in");
        };
        let mut line = Line::well(Step::Token, format!("gives a token for {scope}"));
        let Some(granted) = granted else { return line };
        let wanted = scope.rsplit(':').next().unwrap_or_default().split(',');
        let lacks: Vec<&str> = wanted
            .filter(|action| !granted.actions.iter().any(|has| has == action))
            .collect();
        if let Some(expires) = granted.expires {
            line.details.push(format!("it ends {}", when(expires, self.now)));
        }
        // Some registries give tokens that say nothing about rights.
        if granted.actions.is_empty() || lacks.is_empty() {
            return line;
        }
        line.details.push(format!("it lacks {}", lacks.join(" and ")));
        line.warn(advice_for(self.plan.provider).lacks(&self.about()))
    }
}

fn failed(step: Step, class: &Class) -> &'static str {
    match (step, class) {
        (_, Class::Throttled { .. }) => "asks to slow down",
        (Step::Dns, Class::RefusedAddress) => "resolves to an address that no registry may have",
        (Step::Dns, _) => "does not resolve",
        (Step::Connect, _) => "takes no connection",
        (Step::Tls, _) => "shows no certificate that can be trusted",
        (Step::Challenge, Class::NetworkDenied) => "refuses this network",
        (Step::Challenge, Class::ForeignRealm) => "sends for tokens to a host that is not admitted",
        (Step::Challenge, _) => "does not answer as a registry",
        (Step::Credential, _) => "has no usable credential",
        (Step::Token, Class::NetworkDenied) => "gives no token to this network",
        (Step::Token, _) => "does not let us in",
        (Step::Tags, Class::Absent) => "has no such repository",
        (Step::Tags, _) => "does not list its tags",
        (Step::Manifest, _) => "has no manifest to pull",
        (Step::Blob, _) => "serves no blobs",
    }
}

fn addresses_line(addresses: &[Address], proxy: Option<&str>) -> Line {
    let step = Step::Dns;
    let shown = addresses.iter().map(|at| {
        let kind = if at.private { "private" } else { "public" };
        format!("{} ({kind})", at.address)
    });
    let shown: Vec<String> = shown.collect();
    let mut line = match (shown.is_empty(), proxy) {
        (true, Some(proxy)) => Line::well(step, format!("is left to the proxy {proxy}: it does not resolve here")),
        _ => Line::well(step, format!("resolves to {}", shown.join(", "))),
    };
    if let (false, Some(proxy)) = (shown.is_empty(), proxy) {
        line.details.push(format!("requests may go through the proxy {proxy}"));
    }
    line
}

fn trusted(chain: &[Certificate], now: Timestamp) -> Line {
    let mut line = Line::well(Step::Tls, "shows a certificate that is trusted");
    line.details = chain
        .iter()
        .map(|certificate| certificate_line(certificate, now))
        .collect();
    let days = chain.iter().map(|certificate| days_left(certificate, now)).min();
    match days {
        Some(days) if days < SOON_DAYS => {
            line.text = format!("shows a certificate that ends in {days} days");
            line.warn("renew it at the registry before it takes every pull down")
        }
        _ => line,
    }
}

fn days_left(certificate: &Certificate, now: Timestamp) -> i64 {
    certificate.not_after.duration_since(now).as_hours().div_euclid(24)
}

fn certificate_line(certificate: &Certificate, now: Timestamp) -> String {
    let Certificate {
        subject,
        issuer,
        not_after,
        ..
    } = certificate;
    let named = |name: &str| {
        if name.is_empty() {
            "(no name)".to_owned()
        } else {
            name.to_owned()
        }
    };
    let days = days_left(certificate, now);
    let ends = if days < 0 {
        format!("ended on {}", not_after.strftime("%Y-%m-%d"))
    } else {
        format!("for {days} more days")
    };
    format!("{} by {}, {ends}", named(subject), named(issuer))
}

fn when(at: Timestamp, now: Timestamp) -> String {
    let minutes = at.duration_since(now).as_mins();
    match minutes {
        ..0 => "in the past".to_owned(),
        0..120 => format!("in {minutes} minutes"),
        _ => format!("in {} hours", minutes / 60),
    }
}

/// A line about a Secret, before the first step.
pub fn about_secret(mark: Mark, text: String, hint: String) -> Line {
    Line {
        step: "secret",
        mark,
        text,
        details: Vec::new(),
        hint: Some(hint),
    }
}

/// A line about an identity that can't be had, before the first step.
pub fn about_identity(problem: String) -> Line {
    Line {
        step: "identity",
        mark: Mark::Failed,
        text: problem,
        details: Vec::new(),
        hint: Some(
            "run it where the identity is, as in a pod of the operator, or correct the mirror's `identity`".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
