//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, 11.6.1; the token flow of the distribution project).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// More challenges than this are not read.
const MOST_CHALLENGES: usize = 16;
/// A longer `service` is not a name.
const LONGEST_SERVICE: usize = 512;

/// One way to authenticate that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from this endpoint. The challenge's own `scope` is ignored: what we ask for is ours to say.
    Bearer { realm: String, service: Option<String> },
    /// The credential itself.
    Basic,
}

/// The first challenge that we can answer, `Bearer` before `Basic`.
pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = None;
    let values = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for (scheme, parameters) in values.flat_map(parse).take(MOST_CHALLENGES) {
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(bearer) = bearer(&parameters) {
                return Some(bearer);
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = found.or(Some(Challenge::Basic));
        }
    }
    found
}

fn bearer(parameters: &[(String, String)]) -> Option<Challenge> {
    let value = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let realm = value("realm").filter(|realm| !realm.is_empty())?.clone();
    let service = value("service")
        .filter(|service| (1..=LONGEST_SERVICE).contains(&service.len()))
        .cloned();
    Some(Challenge::Bearer { realm, service })
}

/// Splits one header value into schemes with their parameters; stops at what it can't read.
fn parse(value: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut challenges: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, tail) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let after = tail.trim_start_matches([' ', '\t']);
        if let Some(after) = after.strip_prefix('=') {
            let Some((text, tail)) = parameter_value(after.trim_start_matches([' ', '\t'])) else {
                return challenges;
            };
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_owned(), text));
            }
            rest = tail;
        } else {
            if challenges.len() == MOST_CHALLENGES {
                return challenges;
            }
            challenges.push((word.to_owned(), Vec::new()));
            rest = tail;
        }
    }
}

/// The leading `token` (RFC 9110, 5.6.2) and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~/:".contains(character))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A parameter's value, quoted or not, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, tail) = text.split_at(end);
        return Some((value.to_owned(), tail));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read_all(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        read(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn challenges_are_read_in_every_shape_that_registries_send() {
        let acr = r#"Bearer realm="https://kracr.azurecr.io/oauth2/token",service="kracr.azurecr.io""#;
        let ghcr = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#;
        let many = (0..50)
            .map(|n| format!("Digest realm=\"r{n}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let cases: [(&str, &[&str], Option<Challenge>); 17] = [
            (
                "azure",
                &[acr],
                Some(bearer(
                    "https://kracr.azurecr.io/oauth2/token",
                    Some("kracr.azurecr.io"),
                )),
            ),
            (
                "github",
                &[ghcr],
                Some(bearer("https://ghcr.io/token", Some("ghcr.io"))),
            ),
            (
                "lower case",
                &[r#"bearer REALM="https://r/t""#],
                Some(bearer("https://r/t", None)),
            ),
            (
                "spaces",
                &[r#"Bearer realm = "https://r/t" , service = "s""#],
                Some(bearer("https://r/t", Some("s"))),
            ),
            (
                "unquoted",
                &["Bearer realm=https://r/t,service=s"],
                Some(bearer("https://r/t", Some("s"))),
            ),
            (
                "escaped",
                &[r#"Bearer realm="https://r/t",service="a\"b""#],
                Some(bearer("https://r/t", Some("a\"b"))),
            ),
            (
                "comma inside",
                &[r#"Bearer realm="https://r/t",scope="a:b:pull,push",service="s""#],
                Some(bearer("https://r/t", Some("s"))),
            ),
            ("basic", &[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (
                "basic, then bearer",
                &[r#"Basic realm="x", Bearer realm="https://r/t""#],
                Some(bearer("https://r/t", None)),
            ),
            (
                "two headers",
                &[r#"Basic realm="x""#, r#"Bearer realm="https://r/t""#],
                Some(bearer("https://r/t", None)),
            ),
            ("empty", &[""], None),
            ("absent", &[], None),
            ("unknown scheme", &["Negotiate abc=="], None),
            ("bearer without realm", &[r#"Bearer service="s""#], None),
            ("empty realm", &[r#"Bearer realm="""#], None),
            ("unterminated", &[r#"Bearer realm="https://r/t"#], None),
            ("fifty challenges", &[many.as_str()], None),
        ];
        for (name, values, expected) in cases {
            assert_eq!(read_all(values), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_fail(text in "[ -~]{0,200}") {
            read_all(&[&text]);
        }
    }

    #[test]
    fn fuzzed_challenges_are_read_within_bounds_and_again_when_written() {
        let samples = [
            r#"Bearer realm="https://kracr.azurecr.io/oauth2/token",service="kracr.azurecr.io""#,
            r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull""#,
            r#"Basic realm="x", Bearer realm="https://r/t",service="a\"b",error="invalid_token""#,
            "Bearer realm=https://r/t,service=s",
            "Negotiate abc==, Digest qop=auth",
        ];
        let property = |input: Vec<u8>| {
            let Ok(value) = HeaderValue::from_bytes(&input) else {
                return Ok(());
            };
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, value);
            let challenge = read(&headers);
            if let Some(Challenge::Bearer { realm, service }) = &challenge {
                prop_assert!(!realm.is_empty() && realm.len() <= input.len());
                prop_assert!(service.as_ref().is_none_or(|service| service.len() <= LONGEST_SERVICE));
                let quoted = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
                let service = service
                    .as_ref()
                    .map(|service| format!(",service=\"{}\"", quoted(service)));
                let written = format!("Bearer realm=\"{}\"{}", quoted(realm), service.unwrap_or_default());
                prop_assert_eq!(read_all(&[&written]), challenge);
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "challenges", &catamaran_fuzz::mutated(&samples), property);
    }
}
