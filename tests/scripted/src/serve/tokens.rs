//! Who may do what: challenges, and the tokens that answer them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::WWW_AUTHENTICATE;
use http::{Method, Response};
use url::form_urlencoded;

use super::plain::{error, insert, plain};
use crate::body::Scripted;
use crate::state::{Auth, Recorded, State};

/// Before the name of a repository: where tokens for it alone are given.
const OWN_REALM: &str = "/tokens/";

/// Whether tokens are given at this path, by what challenges say.
pub(super) fn are_given_at(path: &str, state: &State) -> bool {
    if path == "/token" || path == "/oauth2/token" || path.starts_with(OWN_REALM) {
        return true;
    }
    let auth = state.behaviour(|behaviour| behaviour.auth.clone());
    let Auth::Bearer { realm: Some(realm), .. } = auth else {
        return false;
    };
    url::Url::parse(&realm).is_ok_and(|realm| realm.path() == path)
}

pub(super) fn authenticated(
    request: &Recorded,
    state: &State,
    wants: Option<(&str, &str)>,
    answer: impl FnOnce() -> Response<Scripted>,
) -> Response<Scripted> {
    let (auth, account) = state.behaviour(|behaviour| (behaviour.auth.clone(), behaviour.account.clone()));
    let named = wants.map(|(repository, action)| (state.behaviour(|behaviour| behaviour.name_of(repository)), action));
    let wants = named.as_ref().map(|(name, action)| (name.as_str(), *action));
    let challenge = match auth {
        Auth::Open => return answer(),
        Auth::Basic if is_account(request, account.as_ref()) => return answer(),
        Auth::Basic => "Basic realm=\"scripted\"".to_owned(),
        Auth::Bearer { realm, .. } => {
            if may(request, state, wants) {
                return answer();
            }
            let host = &request.host;
            let realm = realm.unwrap_or_else(|| format!("https://{host}{}", own_realm(host, state, wants)));
            let scope = wants.map(|(repository, action)| format!(",scope=\"repository:{repository}:{action}\""));
            format!(
                "Bearer realm=\"{realm}\",service=\"{host}\"{}",
                scope.unwrap_or_default()
            )
        }
    };
    let mut response = error(401, "UNAUTHORIZED", "authentication required");
    insert(&mut response, WWW_AUTHENTICATE, &challenge);
    response
}

/// Where this registry gives tokens itself.
fn own_realm(host: &str, state: &State, wants: Option<(&str, &str)>) -> String {
    match wants {
        Some((repository, _)) if state.behaviour(|behaviour| behaviour.own_realms) => {
            format!("{OWN_REALM}{repository}")
        }
        _ if host.contains(".azurecr.") => "/oauth2/token".to_owned(),
        _ => "/token".to_owned(),
    }
}

fn is_account(request: &Recorded, account: Option<&(String, String)>) -> bool {
    let Some((user, password)) = account else { return true };
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    request.authorization.as_deref() == Some(&expected)
}

fn may(request: &Recorded, state: &State, wants: Option<(&str, &str)>) -> bool {
    let token = request
        .authorization
        .as_deref()
        .and_then(|value| value.strip_prefix("Bearer "));
    let tokens = state.tokens.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(scopes) = token.and_then(|token| tokens.get(token)) else {
        return false;
    };
    let Some((repository, action)) = wants else { return true };
    scopes.iter().any(|scope| {
        let actions = scope
            .strip_prefix("repository:")
            .and_then(|rest| rest.strip_prefix(repository));
        let actions = actions.and_then(|rest| rest.strip_prefix(':'));
        actions.is_some_and(|actions| actions.split(',').any(|granted| granted == action))
    })
}

pub(super) fn token(request: &Recorded, state: &State) -> Response<Scripted> {
    let (auth, account) = state.behaviour(|behaviour| (behaviour.auth.clone(), behaviour.account.clone()));
    let asked = if request.method == Method::POST {
        &request.body
    } else {
        &request.query
    };
    let pairs: Vec<_> = form_urlencoded::parse(asked.as_bytes()).into_owned().collect();
    let refresh_token = pairs
        .iter()
        .find(|(name, _)| name == "refresh_token")
        .map(|(_, value)| value);
    let known = match (refresh_token, &account) {
        (Some(token), Some((_, password))) => token == password,
        _ => is_account(request, account.as_ref()),
    };
    if !known {
        return error(401, "UNAUTHORIZED", "authentication required");
    }
    let scopes = pairs
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' '));
    let scopes: Vec<_> = scopes.map(str::to_owned).collect();
    if let Some(repository) = request.path.strip_prefix(OWN_REALM) {
        let own = format!("repository:{repository}:");
        if !scopes.iter().any(|scope| scope.starts_with(&own)) {
            return error(401, "UNAUTHORIZED", "tokens are given for another repository here");
        }
    }
    let token = format!("token-{}", state.issued.fetch_add(1, Ordering::Relaxed));
    state
        .tokens
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(token.clone(), scopes);
    let expires_in = match auth {
        Auth::Bearer {
            expires_in: Some(seconds),
            ..
        } => format!(",\"expires_in\":{seconds}"),
        _ => String::new(),
    };
    plain(
        200,
        "application/json",
        format!("{{\"token\":\"{token}\"{expires_in}}}").into(),
    )
}
