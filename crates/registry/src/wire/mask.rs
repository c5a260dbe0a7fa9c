//! Keeps what a request carried out of what is said about its answer: registries repeat credentials in their errors.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use url::form_urlencoded;

use crate::wire::ask::Ask;
use crate::wire::secret::Secret;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";
/// A shorter secret is a word that would be found everywhere.
const SHORTEST: usize = 4;
/// So much of a secret's beginning counts as the secret: what repeats it may cut it.
const BEGINNING: usize = 12;
/// More of a text is not looked at, nor shown.
const LONGEST_TEXT: usize = 8 * 1024;
/// Headers besides `Authorization` that carry a credential.
const SESSION_TOKEN: &str = "x-amz-security-token";
/// Fields of a form that carry a credential.
const SECRET_FIELDS: [&str; 4] = ["access_token", "refresh_token", "password", "client_secret"];

/// The credentials of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    authorization: Option<HeaderValue>,
    session_token: Option<HeaderValue>,
    form: Option<Secret<String>>,
}

impl Sent {
    pub(crate) fn with(ask: &Ask) -> Sent {
        Sent {
            authorization: ask.authorization.clone(),
            session_token: ask.headers.get(SESSION_TOKEN).cloned(),
            form: ask.form.clone(),
        }
    }

    /// The text without anything that the request carried.
    pub(crate) fn hide(&self, text: &str) -> String {
        hide(text, &self.secrets())
    }

    /// Whether a text repeats something that the request carried.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let secrets = self.secrets();
        let secrets = secrets
            .iter()
            .map(Secret::expose)
            .filter(|secret| secret.len() >= SHORTEST);
        secrets
            .flat_map(|secret| forms(secret))
            .any(|form| without(text, &form) != text)
    }

    fn secrets(&self) -> Vec<Secret<String>> {
        let mut secrets = Vec::new();
        let headers = [&self.authorization, &self.session_token];
        for value in headers.into_iter().flatten().filter_map(|value| value.to_str().ok()) {
            let (scheme, credential) = value.split_once(' ').unwrap_or(("", value));
            secrets.push(Secret::new(credential.to_owned()));
            let pair = BASE64_STANDARD.decode(credential).ok();
            let pair = pair.filter(|_| scheme.eq_ignore_ascii_case("basic"));
            let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
            if let Some((_, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
                secrets.push(Secret::new(password.to_owned()));
            }
        }
        if let Some(form) = &self.form {
            let fields = form_urlencoded::parse(form.expose().as_bytes());
            let secret = fields.filter(|(name, _)| SECRET_FIELDS.contains(&name.as_ref()));
            secrets.extend(secret.map(|(_, value)| Secret::new(value.into_owned())));
        }
        secrets
    }
}

/// A text without these secrets, in plain, percent-encoded or Base64, whole or cut, whatever their case; and without
/// anything that looks like a JSON Web Token.
pub(crate) fn hide(text: &str, secrets: &[Secret<String>]) -> String {
    let mut text = without_tokens(&text[..text.floor_char_boundary(LONGEST_TEXT)]);
    for secret in secrets.iter().map(Secret::expose) {
        if secret.len() >= SHORTEST {
            for form in forms(secret) {
                text = without(&text, &form);
            }
        }
    }
    text
}

fn forms(secret: &str) -> [String; 4] {
    [
        secret.to_owned(),
        form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    ]
}

fn without(text: &str, secret: &str) -> String {
    let least = secret.len().min(BEGINNING);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let same = |(one, other): &(u8, u8)| one.eq_ignore_ascii_case(other);
        let run = text[at..].bytes().zip(secret.bytes()).take_while(same).count();
        if run >= least {
            shown.push_str(REDACTED);
            at = text.ceil_char_boundary(at + run);
        } else {
            shown.push(character);
            at += character.len_utf8();
        }
    }
    shown
}

/// Takes out what looks like a JSON Web Token: someone's, whatever sent it.
pub(crate) fn without_tokens(text: &str) -> String {
    const SHORTEST: usize = 20;
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let (before, token) = rest.split_at(at);
        let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let (token, after) = token.split_at(token.bytes().take_while(inside).count());
        shown.push_str(before);
        shown.push_str(if token.len() < SHORTEST { token } else { REDACTED });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use http::Method;
    use url::Url;

    use super::*;
    use crate::wire::failure::Stage;
    use crate::wire::secret::secret_header;

    fn ask() -> Ask {
        Ask::new(Method::GET, Url::parse("https://r.test/v2/").unwrap(), Stage::Token)
    }

    #[test]
    fn a_token_that_is_repeated_is_taken_out() {
        let cases = [
            ("no token", "no token"),
            ("bad token eyJhbGciOiJSUzI1NiJ9.e30.c2ln!", "bad token [redacted]!"),
            ("\"eyJhbGciOiJSUzI1NiJ9.e30.c2ln\" eyJ", "\"[redacted]\" eyJ"),
        ];
        for (text, shown) in cases {
            assert_eq!(without_tokens(text), shown);
        }
    }

    #[test]
    fn whatever_a_request_carried_is_taken_out_in_each_form() {
        let mut basic = ask();
        basic.authorization = secret_header("Basic", &BASE64_STANDARD.encode("user:p/ss wörd+12"));
        let mut bearer = ask();
        bearer.authorization = secret_header("Bearer", "opaque-token-1");
        let mut form = ask();
        form.form = Some(Secret::new(
            "grant_type=refresh_token&refresh_token=p%2Fss+1".to_owned(),
        ));
        let mut signed = ask();
        signed
            .headers
            .insert(SESSION_TOKEN, HeaderValue::from_static("session-token-1"));
        let cases = [
            (&basic, "wrong: p/ss wörd+12!", "wrong: [redacted]!"),
            (&basic, "wrong: P/SS WöRD+12", "wrong: [redacted]"),
            (&basic, "wrong: p%2Fss+w%C3%B6rd%2B12", "wrong: [redacted]"),
            (&basic, "cut: p/ss wörd+1", "cut: [redacted]"),
            (&basic, "sent Basic dXNlcjpwL3NzIHfDtnJkKzEy.", "sent Basic [redacted]."),
            (&basic, "user may not read p/ss", "user may not read p/ss"),
            (&bearer, "opaque-token-1 opaque-token-1", "[redacted] [redacted]"),
            (&bearer, "b3BhcXVlLXRva2VuLTE=", "[redacted]="),
            (&form, "p/ss 1, p%2Fss+1", "[redacted], [redacted]"),
            (&form, "grant_type=refresh_token", "grant_type=refresh_token"),
            (
                &signed,
                "x-amz-security-token:session-token-1",
                "x-amz-security-token:[redacted]",
            ),
        ];
        for (ask, text, shown) in cases {
            assert_eq!(Sent::with(ask).hide(text), shown, "{text}");
            assert_eq!(Sent::with(ask).is_in(text), text != shown, "{text}");
            assert!(!format!("{:?}", Sent::with(ask)).contains("p/ss"));
        }
    }

    #[test]
    fn a_long_text_is_cut_and_a_short_secret_left_alone() {
        assert_eq!(hide(&"ä".repeat(10_000), &[]).len(), LONGEST_TEXT);
        assert_eq!(hide("abc", &[Secret::new("abc".to_owned())]), "abc");
        assert_eq!(hide("", &[Secret::new("abcd".to_owned())]), "");
    }

    #[test]
    fn fuzzed_texts_that_repeat_a_secret_show_nothing_of_it() {
        use proptest::prelude::*;

        let samples = [
            "unauthorized: PASSWORD is not the password of user",
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"bad PASSWORD"}]}"#,
            "https://evil.test/?q=PASSWORD&PASSWORD#PASSWORD",
            "eyJhbGciOiJSUzI1NiJ9.PASSWORD.c2ln PASSWORDPASSWORD",
        ];
        let texts = catamaran_fuzz::mutated_text(&samples);
        let inputs = (texts, "[!-~äß ]{12,60}", 0..5_usize, 14..60_usize);
        let property = |(text, secret, form, cut): (String, String, usize, usize)| {
            let repeated = match form {
                0..=3 => forms(&secret)[form].clone(),
                _ => secret[..secret.floor_char_boundary(cut)].to_ascii_uppercase(),
            };
            let shown = hide(&text.replace("PASSWORD", &repeated), &[Secret::new(secret.clone())]);
            // What stands around it may complete another beginning by chance, but not the secret.
            prop_assert!(
                !shown.contains(&secret) && !shown.contains(&repeated),
                "{:?} in {:?}",
                secret,
                shown
            );
            prop_assert!(shown.len() <= 3 * LONGEST_TEXT);
            Ok(())
        };
        catamaran_fuzz::run(file!(), "masks", &inputs, property);
    }
}
