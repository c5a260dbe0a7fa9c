//! Azure Container Registry (Azure/acr, docs/AAD-OAuth.md): tokens from the registry's own `/oauth2`, tags with digests.

use http::Method;
use url::Url;
use url::form_urlencoded::Serializer;

use super::site::{Context, Listing, Protocol, Scheme, Site, basic_token_ask};
use crate::ask::Ask;
use crate::credentials::{AZURE_TOKEN_USER, Credentials};
use crate::failure::{Class, Failure, Rung};
use crate::jwt::Claims;
use crate::secret::Secret;

#[derive(Debug)]
pub(super) struct Azure;

impl Protocol for Azure {
    /// A regional endpoint is asked first: what it calls itself as a service is its own to say.
    fn known_scheme(&self, site: &Site) -> Scheme {
        if global_name(&site.host()).is_some() {
            return Scheme::Unknown;
        }
        Scheme::Bearer {
            realm: site.url("/oauth2/token"),
            service: Some(site.host()),
        }
    }

    fn admits(&self, site: &Site, realm: &Url) -> bool {
        let global = global_name(&site.host());
        let own = site.owns(realm)
            || (realm.port().is_none() && global.is_some_and(|global| realm.host_str() == Some(&global)));
        own && realm.path().starts_with("/oauth2/")
    }

    /// Listing needs `metadata_read` (scope-map tokens, ABAC); with `pull` alone it is refused.
    fn actions(&self) -> &'static str {
        "pull,metadata_read"
    }

    fn listing(&self) -> Listing {
        Listing::Azure
    }

    fn token_ask(
        &self,
        site: &Site,
        realm: &Url,
        service: Option<&str>,
        scope: Option<&str>,
        refresh_token: Option<&Secret<String>>,
    ) -> Ask {
        match (refresh_token, &site.credentials) {
            (Some(refresh_token), _) => refresh_ask(realm, service, scope, refresh_token),
            (None, Credentials::Basic { username, password }) if username == AZURE_TOKEN_USER => {
                refresh_ask(realm, service, scope, password)
            }
            _ => basic_token_ask(site, realm, service, scope),
        }
    }

    fn exchange_url(&self, realm: &Url) -> Option<Url> {
        let mut url = realm.clone();
        url.set_path("/oauth2/exchange");
        url.set_query(None);
        Some(url)
    }

    /// Microsoft Entra ID's token for a refresh token of the registry.
    fn exchange_ask(&self, realm: &Url, service: Option<&str>, token: &Secret<String>) -> Option<Ask> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "access_token");
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        if let Some(tenant) = Claims::of(token.expose()).and_then(|claims| claims.tid) {
            form.append_pair("tenant", &tenant);
        }
        form.append_pair("access_token", token.expose());
        let mut ask = Ask::new(Method::POST, self.exchange_url(realm)?, Rung::Exchange);
        ask.form = Some(Secret::new(form.finish()));
        Some(ask)
    }

    fn explain(&self, site: &Site, failure: &mut Failure, context: &Context<'_>) {
        match failure.class {
            Class::Unexpected if failure.status == Some(400) && unreadable_credential(site, failure) => {
                failure.class = Class::CredentialsUnavailable;
            }
            Class::Unauthorized | Class::Forbidden => refused(site, failure, context),
            _ => {}
        }
    }
}

/// The registry of a regional endpoint, `name.region.geo.azurecr.io`.
fn global_name(host: &str) -> Option<String> {
    let (front, cloud) = host.split_once(".geo.azurecr.")?;
    let (name, region) = front.split_once('.')?;
    let plain = !name.is_empty() && !region.is_empty() && !region.contains('.') && !cloud.contains([':', '.']);
    plain.then(|| format!("{name}.azurecr.{cloud}"))
}

/// Whether a "bad request" is about the credential: nothing else in these requests is not ours.
fn unreadable_credential(site: &Site, failure: &Failure) -> bool {
    failure.rung == Rung::Exchange || (failure.rung == Rung::Token && site.credentials != Credentials::Anonymous)
}

/// Whether a refused exchange is about the token itself and not about rights: the words of .NET's token validation, and of
/// Microsoft Entra ID.
fn calls_the_token_bad(message: &str) -> bool {
    ["IDX", "AADSTS", "invalid_token", "expired", "malformed"]
        .iter()
        .any(|word| message.contains(word))
}

fn refused(site: &Site, failure: &mut Failure, context: &Context<'_>) {
    let advice = match (context.identity, &site.credentials) {
        (Some(name), _) if failure.rung == Rung::Exchange && calls_the_token_bad(&failure.message) => {
            failure.class = Class::CredentialsUnavailable;
            format!("the token of {name} is not one that this registry accepts: check its tenant and the clock")
        }
        (Some(name), _) => {
            if context.proven {
                format!("{name} is no longer let in: {}", roles(context))
            } else {
                failure.class = Class::WaitingForAuthorization;
                format!(
                    "{name} has no right to it yet; a new role takes up to 10 minutes to arrive: {}",
                    roles(context)
                )
            }
        }
        (None, Credentials::Anonymous) => {
            "without a credential only registries with anonymous pull can be read: give it one".to_owned()
        }
        (None, Credentials::Basic { .. }) if failure.rung == Rung::Token => {
            "the user name or password is not accepted; new passwords and tokens take about a minute to arrive"
                .to_owned()
        }
        (None, _) => format!(
            "{}; a token with a scope map needs content/read and metadata/read on the repository",
            roles(context)
        ),
    };
    failure.message.push_str(": ");
    failure.message.push_str(&advice);
}

fn roles(context: &Context<'_>) -> String {
    let of = context
        .repository
        .map(|repository| format!(" for '{repository}'"))
        .unwrap_or_default();
    if context.abac {
        return format!(
            "this registry grants by repository (ABAC), where AcrPull means nothing: it needs the role \
             'Container Registry Repository Reader'{of}"
        );
    }
    format!(
        "it needs the role 'AcrPull', or where the registry grants by repository (ABAC) 'Container Registry Repository Reader'{of}"
    )
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

    fn site(registry: &str, credentials: Credentials) -> Site {
        let connection = Connection {
            registry: registry.to_owned(),
            provider: Provider::Azure,
            credentials,
            ..Connection::default()
        };
        crate::provider::site(&connection).unwrap()
    }

    fn user(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: Secret::new(password.to_owned()),
        }
    }

    #[test]
    fn an_azure_refresh_token_is_posted_and_never_put_into_the_url() {
        let stored = site("kracr.azurecr.io", user(AZURE_TOKEN_USER, "refresh&me"));
        let minted = site("kracr.azurecr.io", Credentials::Anonymous);
        let token = Secret::new("refresh&me".to_owned());
        for (site, token) in [(stored, None), (minted, Some(&token))] {
            let realm = site.url("/oauth2/token");
            let ask = site.token_ask(&realm, Some("kracr.azurecr.io"), Some("repository:a:pull"), token);
            assert_eq!((ask.method, ask.url, ask.authorization), (Method::POST, realm, None));
            let form = ask.form.unwrap().expose().clone();
            assert_eq!(
                form,
                "grant_type=refresh_token&service=kracr.azurecr.io&scope=repository%3Aa%3Apull&refresh_token=refresh%26me"
            );
        }
    }

    #[test]
    fn a_regional_endpoint_belongs_to_its_registry() {
        let regional = site("kracr.westeurope.geo.azurecr.io", Credentials::Anonymous);
        assert_eq!(regional.scheme(), Scheme::Unknown);
        let cases = [
            ("https://kracr.westeurope.geo.azurecr.io/oauth2/token", true),
            ("https://kracr.azurecr.io/oauth2/token", true),
            ("https://kracr.azurecr.io:444/oauth2/token", false),
            ("https://other.azurecr.io/oauth2/token", false),
            ("https://westeurope.geo.azurecr.io/oauth2/token", false),
            ("https://kracr.azurecr.cn/oauth2/token", false),
        ];
        for (realm, admitted) in cases {
            assert_eq!(
                Azure.admits(&regional, &Url::parse(realm).unwrap()),
                admitted,
                "{realm}"
            );
        }
        for host in [
            "kracr.azurecr.io",
            "a.b.c.geo.azurecr.io",
            ".r.geo.azurecr.io",
            "kracr.r.geo.azurecr.io.evil.test",
        ] {
            assert_eq!(global_name(host), None, "{host}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn each_refusal_says_what_to_grant() {
        let context = |identity, abac, proven| Context {
            repository: Some("web"),
            identity,
            abac,
            proven,
        };
        let name = Some("managed identity 1");
        let both = ["'AcrPull'", "'Container Registry Repository Reader' for 'web'"];
        let waiting = Class::WaitingForAuthorization;
        let anonymous = || Credentials::Anonymous;
        let account = || user("app", "hunter22");
        let cases: [(Credentials, Context<'_>, Rung, Class, &[&str]); 7] = [
            (
                anonymous(),
                context(name, false, false),
                Rung::Exchange,
                waiting.clone(),
                &both,
            ),
            (
                anonymous(),
                context(name, false, false),
                Rung::Tags,
                waiting.clone(),
                &both,
            ),
            (
                anonymous(),
                context(name, true, false),
                Rung::Manifest,
                waiting,
                &["AcrPull means nothing", both[1]],
            ),
            (
                anonymous(),
                context(name, false, true),
                Rung::Manifest,
                Class::Unauthorized,
                &["no longer", both[0]],
            ),
            (
                account(),
                context(None, false, true),
                Rung::Tags,
                Class::Unauthorized,
                &["metadata/read", both[0]],
            ),
            (
                account(),
                context(None, false, true),
                Rung::Token,
                Class::Unauthorized,
                &["password is not accepted"],
            ),
            (
                anonymous(),
                context(None, false, true),
                Rung::Token,
                Class::Unauthorized,
                &["anonymous pull"],
            ),
        ];
        for (credentials, context, rung, class, words) in cases {
            let site = site("kracr.azurecr.io", credentials);
            let mut failure = Failure::new(rung, Class::Unauthorized, "401".to_owned());
            site.explain(&mut failure, &context);
            assert_eq!(failure.class, class, "{failure}");
            for word in words {
                assert!(failure.message.contains(word), "{failure} lacks {word}");
            }
        }
    }
}
