//! Credentials for pods.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use catamaran_core::policy::Provider;
use catamaran_registry::{Class, Credentials, PullError};
use catamaran_scripted_registry::{Fault, What};

use crate::{AZURE, basic, client, registry_with_image};

/// The user name that stands for "the password is a refresh token".
const NULL_USER: &str = "00000000-0000-0000-0000-000000000000";

fn refresh_token(claims: &str) -> String {
    format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims))
}

#[tokio::test]
async fn a_refresh_token_that_the_registry_takes_is_given_to_pods_until_it_ends() {
    let registry = registry_with_image().await;
    let token = refresh_token(r#"{"iat":1700000000,"exp":1700010800}"#);
    let mut connection = registry.connection(AZURE, Provider::Azure);
    connection.credentials = basic(NULL_USER, &token);
    let minted = client(connection).pull_credential().await.unwrap();
    assert_eq!(minted.username, NULL_USER);
    assert_eq!(*minted.password.expose(), token);
    assert_eq!(minted.expires.as_second(), 1_700_010_800);
    assert!(!format!("{minted:?}").contains(&token));
    assert_eq!(registry.count("/oauth2/token"), 1);
}

#[tokio::test]
async fn a_refresh_token_that_the_registry_refuses_is_not_given_away() {
    let registry = registry_with_image().await;
    registry.fault(Fault::on("/oauth2/token", What::status(401)));
    let mut connection = registry.connection(AZURE, Provider::Azure);
    connection.credentials = basic(NULL_USER, &refresh_token(r#"{"iat":1,"exp":1700010800}"#));
    let refused = client(connection).pull_credential().await.unwrap_err();
    assert!(
        matches!(&refused, PullError::Refused(failure) if failure.class == Class::Unauthorized),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_never_ends_is_not_spread() {
    let registry = registry_with_image().await;
    let cases = [
        (Provider::Azure, Credentials::Anonymous, "it is anonymous"),
        (Provider::Azure, basic("app", "hunter2"), "it is a password"),
        (Provider::GitHub, basic("bot", "hunter2"), "it is a password"),
        (Provider::Aws, basic("AWS", "hunter2"), "it is a password"),
        (Provider::Azure, basic(NULL_USER, "opaque"), "does not say when it ends"),
        (Provider::Generic, basic(NULL_USER, "opaque"), "it is a password"),
    ];
    for (provider, credentials, why) in cases {
        let mut connection = registry.connection(AZURE, provider);
        connection.credentials = credentials;
        let error = client(connection).pull_credential().await.unwrap_err().to_string();
        assert!(
            error.starts_with("this side's credential can't mint: ") && error.contains(why),
            "{error}"
        );
        assert!(!error.contains("hunter2"));
    }
}
