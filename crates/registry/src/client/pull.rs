//! A credential for pods: short-lived, and made from what this client authenticates with.

use crate::auth::pull::{PullCredential, PullError};
use crate::client::Client;

impl Client {
    /// A credential that pods can pull with until it ends: a token of the registry or of the cloud, by the provider.
    ///
    /// The registry is asked first, so that pods are never given what it refuses; what is refused is replaced then.
    pub async fn pull_credential(&self) -> Result<PullCredential, PullError> {
        let session = &self.shared().session;
        session.protocol.mints(&session.site)?;
        session.check_credentials().await?;
        session.protocol.pull_credential(&session.site).await
    }
}
