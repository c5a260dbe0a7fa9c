//! Whose certificates the webhook's clients must have.

use anyhow::Context as _;
use catamaran_webhook::server::AllowedClients;

use crate::cli::RunArguments;

/// Those of the file, if there is one. A file that can't be used is an error: without it anybody could ask.
pub fn allowed(arguments: &RunArguments) -> anyhow::Result<Option<AllowedClients>> {
    let Some(file) = &arguments.webhook_client_ca_file else {
        return Ok(None);
    };
    let what = || format!("failed to use {} of --webhook-client-ca-file", file.display());
    let pem = std::fs::read(file).with_context(what)?;
    let allowed = AllowedClients::new(&pem, &arguments.webhook_client_names).with_context(what)?;
    Ok(Some(allowed))
}
