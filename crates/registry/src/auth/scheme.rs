//! How a registry wants to be authenticated with.

use url::Url;

/// How requests are authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// The registry has not been asked yet.
    Unknown,
    /// Not at all.
    Open,
    /// With the credential itself.
    Basic,
    /// With a token from an admitted endpoint.
    Bearer {
        realm: Url,
        service: Option<String>,
        /// Scopes that the registry wants to see besides the one that we ask for.
        also: Vec<String>,
    },
}

impl Scheme {
    /// What it says of any repository: scopes that a challenge names are about one.
    pub(crate) fn in_general(&self) -> Scheme {
        match self {
            Scheme::Bearer { realm, service, .. } => Scheme::Bearer {
                realm: realm.clone(),
                service: service.clone(),
                also: Vec::new(),
            },
            other => other.clone(),
        }
    }

    /// Adds the scopes of another challenge of the same token endpoint.
    pub(crate) fn add(&mut self, other: &Scheme) {
        if self.in_general() != other.in_general() {
            return;
        }
        if let (Scheme::Bearer { also, .. }, Scheme::Bearer { also: more, .. }) = (self, other) {
            let new: Vec<_> = more.iter().filter(|scope| !also.contains(scope)).cloned().collect();
            also.extend(new);
        }
    }

    /// Without the scopes that we ask for anyway.
    pub(crate) fn without(mut self, asked: impl Fn(&str) -> bool) -> Scheme {
        if let Scheme::Bearer { also, .. } = &mut self {
            also.retain(|scope| !asked(scope));
        }
        self
    }
}
