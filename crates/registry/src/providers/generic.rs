//! Any registry that keeps to the specification.

use std::sync::Arc;

use crate::protocol::advice::{Advice, Plain};
use crate::protocol::{Protocol, Provider, Setup};
use crate::wire::error::ClientError;

#[derive(Debug)]
pub(crate) struct Generic;

impl Provider for Generic {
    fn advice(&self) -> &'static dyn Advice {
        &Plain
    }

    fn connect(&self, setup: &Setup<'_>) -> Result<Arc<dyn Protocol>, ClientError> {
        setup.refuse_identity()?;
        Ok(Arc::new(GenericProtocol))
    }
}

struct GenericProtocol;

impl Protocol for GenericProtocol {}
