//! What a token is good for, by its own words. Nothing else of it leaves this file.

use http::HeaderValue;
use jiff::Timestamp;
use serde::Deserialize;

use crate::auth::jwt;
use crate::wire::failure::one_line;
use crate::wire::json;

/// What a token is good for, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The actions on the repository, such as `pull` and `metadata_read`.
    pub actions: Vec<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<i64>,
    #[serde(default, alias = "Access", deserialize_with = "json::nullable")]
    access: Vec<Access>,
}

#[derive(Deserialize)]
struct Access {
    // Azure's tokens had capital letters once.
    #[serde(default, alias = "Actions", deserialize_with = "json::nullable")]
    actions: Vec<String>,
}

/// Reads the token in a header, if it is one that can be read.
pub(super) fn granted(header: &HeaderValue) -> Option<Granted> {
    let claims = claims(header.to_str().ok()?.strip_prefix("Bearer ")?)?;
    Some(Granted {
        expires: claims.end(),
        actions: claims
            .access
            .into_iter()
            .flat_map(|access| access.actions)
            .take(16)
            .map(|action| one_line(&action))
            .collect(),
    })
}

impl Claims {
    fn end(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp?).ok()
    }
}

/// The claims of a JSON Web Token. They are not verified: they are only shown.
fn claims(token: &str) -> Option<Claims> {
    serde_json::from_slice(&jwt::payload(token)?).ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn what_a_token_is_good_for_is_read_where_it_can_be() {
        let small =
            r#"{"exp":1700000000,"access":[{"type":"repository","name":"web","actions":["pull","metadata_read"]}]}"#;
        let capital =
            r#"{"exp":1700000000,"access":[{"Type":"repository","Name":"web","Actions":["pull","metadata_read"]}]}"#;
        let header = |token: &str| HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        for claims in [small, capital] {
            let read = granted(&header(&token(claims))).unwrap();
            assert_eq!(read.actions, ["pull", "metadata_read"]);
            assert_eq!(read.expires, Timestamp::from_second(1_700_000_000).ok());
        }
        let none = granted(&header(&token(r#"{"exp":1700000000,"access":null}"#))).unwrap();
        assert!(none.actions.is_empty());
        for other in ["opaque", "a.b.c", "a.!!.c"] {
            assert_eq!(granted(&header(other)), None, "{other}");
        }
    }
}
