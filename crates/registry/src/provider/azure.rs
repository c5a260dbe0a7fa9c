//! Azure Container Registry (Azure/acr, docs/AAD-OAuth.md): tokens from the registry's own `/oauth2`, tags with digests.

use http::Method;
use url::Url;
use url::form_urlencoded::Serializer;

use super::{Listing, Protocol, Scheme, Site, basic_token_ask};
use crate::credentials::{AZURE_TOKEN_USER, Credentials};
use crate::failure::Rung;
use crate::secret::Secret;
use crate::transport::Ask;

pub(super) struct Azure;

impl Protocol for Azure {
    fn known_scheme(&self, site: &Site) -> Scheme {
        Scheme::Bearer {
            realm: site.url("/oauth2/token"),
            service: Some(site.host()),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        site.owns(realm) && realm.path().starts_with("/oauth2/")
    }

    /// Listing needs `metadata_read` (scope-map tokens, ABAC); with `pull` alone it is refused.
    fn actions(&self) -> &'static str {
        "pull,metadata_read"
    }

    fn listing(&self) -> Listing {
        Listing::Azure
    }

    fn token_ask(&self, site: &Site, realm: &Url, service: Option<&str>, scope: Option<&str>) -> Ask {
        match &site.credentials {
            Credentials::Basic { username, password } if username == AZURE_TOKEN_USER => {
                refresh_ask(realm, service, scope, password)
            }
            _ => basic_token_ask(site, realm, service, scope),
        }
    }
}

/// Refresh tokens are exchanged by a form: as a Basic password they can't list.
fn refresh_ask(realm: &Url, service: Option<&str>, scope: Option<&str>, refresh_token: &Secret<String>) -> Ask {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("refresh_token", refresh_token.expose());
    let mut ask = Ask::new(Method::POST, realm.clone(), Rung::Token);
    ask.form = Some(Secret::new(form.finish()));
    ask
}

#[cfg(test)]
mod tests {
    use catamaran_core::policy::Provider;

    use super::*;
    use crate::connection::Connection;

    #[test]
    fn an_azure_refresh_token_is_posted_and_never_put_into_the_url() {
        let connection = Connection {
            registry: "kracr.azurecr.io".to_owned(),
            provider: Provider::Azure,
            ..Connection::default()
        };
        let mut site = Site::new(&connection).unwrap();
        site.credentials = Credentials::Basic {
            username: AZURE_TOKEN_USER.to_owned(),
            password: Secret::new("refresh&me".to_owned()),
        };
        let realm = site.url("/oauth2/token");
        let ask = site.token_ask(&realm, Some("kracr.azurecr.io"), Some("repository:a:pull"));
        assert_eq!((ask.method, ask.url, ask.authorization), (Method::POST, realm, None));
        let form = ask.form.unwrap().expose().clone();
        assert_eq!(
            form,
            "grant_type=refresh_token&service=kracr.azurecr.io&scope=repository%3Aa%3Apull&refresh_token=refresh%26me"
        );
    }
}
