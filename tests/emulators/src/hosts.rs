//! Several emulators behind one address.

use std::future::ready;
use std::sync::Arc;

use crate::message::{Answer, Request};
use crate::server::{Answering, Service};

/// Chooses by `Host`; a host that nobody has is answered with 421.
#[derive(Default)]
pub struct Hosts {
    services: Vec<(String, Arc<dyn Service>)>,
}

impl Hosts {
    /// Nobody yet.
    pub fn new() -> Hosts {
        Hosts::default()
    }

    /// Has a service answer for a host.
    #[must_use]
    pub fn with(mut self, host: &str, service: Arc<dyn Service>) -> Hosts {
        self.services.push((host.to_owned(), service));
        self
    }
}

impl Service for Hosts {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        let found = self.services.iter().find(|(host, _)| *host == request.host);
        match found {
            Some((_, service)) => service.answer(request),
            None => Box::pin(ready(Answer::status("unknown host", 421))),
        }
    }
}
