//! Identities at Amazon: keys that a signature is checked with, STS's `AssumeRoleWithWebIdentity`, the credentials endpoint
//! of containers (Pod Identity, ECS) and instance metadata (`IMDSv2`).
//!
//! Sources: AWS General Reference ("Signature Version 4"), the STS API reference, the EKS and EC2 user guides.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::jwt;
use crate::message::{Answer, Request};
use crate::server::{Answering, Service};

/// An account's keys and roles, and the endpoints that hand them out.
pub struct Aws {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Key>,
    /// Role to the subject that it trusts.
    roles: BTreeMap<String, String>,
    /// What a container must show to get the credentials of its role.
    container_token: Option<String>,
    /// The instance's role.
    instance_role: Option<String>,
    metadata_tokens: Vec<String>,
    issued: u32,
    broken: Option<Answer>,
}

#[derive(Clone)]
struct Key {
    secret: String,
    session: Option<String>,
    until: Option<i64>,
    who: String,
}

/// How long temporary keys live.
const LIFE: Duration = Duration::from_hours(1);

impl Aws {
    /// Nobody yet.
    pub fn new(clock: Clock) -> Aws {
        Aws {
            clock,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's lasting key.
    pub fn add_key(&self, id: &str, secret: &str, who: &str) {
        let key = Key {
            secret: secret.to_owned(),
            session: None,
            until: None,
            who: who.to_owned(),
        };
        self.state().keys.insert(id.to_owned(), key);
    }

    /// A role that a service account may assume: `system:serviceaccount:{namespace}:{name}`.
    pub fn add_role(&self, arn: &str, subject: &str) {
        self.state().roles.insert(arn.to_owned(), subject.to_owned());
    }

    /// The token that a container shows for its role.
    pub fn set_container(&self, token: &str) {
        self.state().container_token = Some(token.to_owned());
    }

    /// The role of the instance.
    pub fn set_instance(&self, role: &str) {
        self.state().instance_role = Some(role.to_owned());
    }

    /// Answers every request for credentials with this; `None`: behaves again.
    pub fn set_broken(&self, answer: Option<Answer>) {
        self.state().broken = answer;
    }

    fn issue(&self, who: &str) -> (String, String, String, Timestamp) {
        let mut state = self.state();
        state.issued += 1;
        let (id, secret, session) = (
            format!("ASIAEMULATED{:04}", state.issued),
            format!("temporary-secret-{}", state.issued),
            format!("session/+token=={}", state.issued),
        );
        let until = self.clock.now().checked_add(LIFE).unwrap_or(Timestamp::MAX);
        let key = Key {
            secret: secret.clone(),
            session: Some(session.clone()),
            until: Some(until.as_second()),
            who: who.to_owned(),
        };
        state.keys.insert(id.clone(), key);
        (id, secret, session, until)
    }

    /// Who signed a request for a service of a region; otherwise the name of the error and why.
    #[expect(
        clippy::too_many_lines,
        reason = "one check after the other, as the standard has them"
    )]
    pub fn verify(&self, request: &Request, region: &str, service: &str) -> Result<String, (&'static str, String)> {
        let wrong = |why: &str| ("InvalidSignatureException", why.to_owned());
        let missing = || {
            (
                "MissingAuthenticationTokenException",
                "Missing Authentication Token".to_owned(),
            )
        };
        let header = request.header("authorization").ok_or_else(missing)?;
        let fields = header.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(missing)?;
        let field = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (Some(credential), Some(signed), Some(signature)) =
            (field("Credential"), field("SignedHeaders"), field("Signature"))
        else {
            return Err((
                "IncompleteSignature",
                "Authorization header requires all of its parts".to_owned(),
            ));
        };
        let (id, scope) = credential.split_once('/').ok_or_else(|| wrong("no scope"))?;
        let key = self.state().keys.get(id).cloned();
        let key = key.ok_or((
            "UnrecognizedClientException",
            "The security token included in the request is invalid.".to_owned(),
        ))?;
        if request.header("x-amz-security-token").map(str::to_owned) != key.session {
            return Err((
                "UnrecognizedClientException",
                "The security token included in the request is invalid.".to_owned(),
            ));
        }
        if key.until.is_some_and(|until| until <= self.clock.seconds()) {
            return Err((
                "ExpiredTokenException",
                "The security token included in the request is expired".to_owned(),
            ));
        }
        let time = request.header("x-amz-date").ok_or_else(|| wrong("no x-amz-date"))?;
        let day = time.get(..8).unwrap_or_default();
        if scope != format!("{day}/{region}/{service}/aws4_request") {
            return Err(wrong("Credential should be scoped to a valid region."));
        }
        let required = ["host", "x-amz-date", "x-amz-target"];
        if required
            .iter()
            .any(|name| !signed.split(';').any(|signed| signed == *name))
        {
            return Err(wrong("a header that must be signed is not"));
        }
        let canonical = canonical(request, signed);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut signing = format!("AWS4{}", key.secret).into_bytes();
        for part in scope.split('/') {
            signing = hmac(&signing, part.as_bytes());
        }
        if hex(&hmac(&signing, text.as_bytes())) != signature {
            return Err(wrong(
                "The request signature we calculated does not match the signature you provided.",
            ));
        }
        Ok(key.who)
    }

    fn respond(&self, request: &Request) -> Answer {
        if let Some(answer) = self.state().broken.clone() {
            return answer.kind("identity");
        }
        let path = request.path.as_str();
        match path {
            "/v1/credentials" => self.container(request),
            "/latest/api/token" if request.method == Method::PUT => self.metadata_token(request),
            _ if path.starts_with("/latest/meta-data/iam/security-credentials/") => self.instance(request),
            "/" if request.method == Method::POST => self.web_identity(request),
            _ => Answer::status("identity", 404),
        }
    }

    fn web_identity(&self, request: &Request) -> Answer {
        let field = |name: &str| request.field(name).unwrap_or_default();
        let refused = |code: &str, message: &str| {
            let body = format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
                 <Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
            );
            Answer::status("sts", 400).header("content-type", "text/xml").body(body)
        };
        if field("Action") != "AssumeRoleWithWebIdentity" || field("Version") != "2011-06-15" {
            return refused("InvalidAction", "Could not find operation");
        }
        let role = field("RoleArn");
        let claims = jwt::decode(&field("WebIdentityToken"));
        let Some(claims) = claims.filter(|claims| jwt::is_current(claims, self.clock.seconds())) else {
            return refused(
                "ExpiredTokenException",
                "Token expired: current date/time must be before the expiration date/time",
            );
        };
        let trusted = self.state().roles.get(&role).cloned();
        if claims["aud"] != "sts.amazonaws.com" || trusted.is_none_or(|trusted| claims["sub"] != trusted.as_str()) {
            return refused(
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            );
        }
        let (id, secret, session, until) = self.issue(&role);
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{session}</SessionToken>\
             <Expiration>{until}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        );
        Answer::status("sts", 200).header("content-type", "text/xml").body(body)
    }

    fn container(&self, request: &Request) -> Answer {
        let token = self.state().container_token.clone();
        if token.is_none() || request.header("authorization").map(str::to_owned) != token {
            return Answer::json("container", 401, &json!({ "message": "unauthorized" }));
        }
        let (id, secret, session, until) = self.issue("container");
        let body = json!({
            "AccessKeyId": id, "SecretAccessKey": secret, "Token": session, "Expiration": until.to_string(), "AccountId": "123456789012",
        });
        Answer::json("container", 200, &body)
    }

    fn metadata_token(&self, request: &Request) -> Answer {
        let seconds = request
            .header("x-aws-ec2-metadata-token-ttl-seconds")
            .and_then(|text| text.parse::<u32>().ok());
        if !seconds.is_some_and(|seconds| (1..=21_600).contains(&seconds)) {
            return Answer::status("metadata", 400);
        }
        let mut state = self.state();
        let token = format!("metadata-{}", state.metadata_tokens.len());
        state.metadata_tokens.push(token.clone());
        Answer::status("metadata", 200).body(token)
    }

    fn instance(&self, request: &Request) -> Answer {
        let token = request.header("x-aws-ec2-metadata-token").unwrap_or_default();
        let (known, role) = {
            let state = self.state();
            (
                state.metadata_tokens.iter().any(|known| known == token),
                state.instance_role.clone(),
            )
        };
        if !known {
            return Answer::status("metadata", 401);
        }
        let Some(role) = role else {
            return Answer::status("metadata", 404);
        };
        if request.path.ends_with("security-credentials/") {
            return Answer::status("metadata", 200).body(role);
        }
        if !request.path.ends_with(&role) {
            return Answer::status("metadata", 404);
        }
        let (id, secret, session, until) = self.issue(&role);
        let body = json!({
            "Code": "Success", "LastUpdated": self.clock.now().to_string(), "Type": "AWS-HMAC", "AccessKeyId": id,
            "SecretAccessKey": secret, "Token": session, "Expiration": until.to_string(),
        });
        Answer::json("metadata", 200, &body)
    }
}

impl Service for Aws {
    fn answer<'a>(&'a self, request: &'a Request) -> Answering<'a> {
        Box::pin(std::future::ready(self.respond(request)))
    }
}

fn canonical(request: &Request, signed: &str) -> String {
    let mut text = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for name in signed.split(';') {
        let value = if name == "host" {
            Some(request.host.as_str())
        } else {
            request.header(name)
        };
        let value = value
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{signed}\n{}", hex(&Sha256::digest(&request.body)));
    text
}

/// HMAC-SHA256 (RFC 2104), written out so that nothing is shared with the signers that are tested.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_the_standard() {
        // RFC 4231, test cases 1, 2 and 6.
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, expected) in cases {
            assert_eq!(hex(&hmac(key, message)), expected);
        }
    }
}
