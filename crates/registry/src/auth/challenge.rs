//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, 11.6.1; the token flow of the distribution project).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::auth::scope;

/// More challenges than this are not read.
const MOST_CHALLENGES: usize = 16;
/// A longer `service` is not a name.
const LONGEST_SERVICE: usize = 512;

/// One way to authenticate that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from this endpoint.
    Bearer {
        realm: String,
        service: Option<String>,
        /// Of the scopes that it names, those that pull from a repository.
        pulls: Vec<String>,
    },
    /// The credential itself.
    Basic,
}

/// What a refusal asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenges {
    /// The challenges that we can answer, `Bearer` before `Basic`.
    pub(crate) offered: Vec<Challenge>,
    /// The token that was sent is good, and not for this (RFC 6750, 3.1: `insufficient_scope`).
    pub(crate) is_insufficient: bool,
}

/// The challenges of an answer. There may be several in one header, and several headers.
pub(crate) fn read(headers: &HeaderMap) -> Challenges {
    let mut read = Challenges::default();
    let mut basic = None;
    let values = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for (scheme, parameters) in values.flat_map(parse).take(MOST_CHALLENGES) {
        if scheme.eq_ignore_ascii_case("bearer") {
            read.offered.extend(bearer(&parameters));
            read.is_insufficient |= named(&parameters, "error").any(|error| error == "insufficient_scope");
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    read.offered.extend(basic);
    read
}

/// The values of the parameters of a name.
fn named<'p>(parameters: &'p [(String, String)], name: &'p str) -> impl Iterator<Item = &'p str> {
    let named = parameters.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str())
}

fn bearer(parameters: &[(String, String)]) -> Option<Challenge> {
    let realm = named(parameters, "realm").next().filter(|realm| !realm.is_empty())?;
    let service = named(parameters, "service").next();
    let service = service.filter(|service| (1..=LONGEST_SERVICE).contains(&service.len()));
    Some(Challenge::Bearer {
        realm: realm.to_owned(),
        service: service.map(str::to_owned),
        pulls: scope::pulls(named(parameters, "scope")),
    })
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
        all(values).offered.into_iter().next()
    }

    fn all(values: &[&str]) -> Challenges {
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
            pulls: Vec::new(),
        }
    }

    fn pulling(realm: &str, service: Option<&str>, pulls: &[&str]) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            pulls: pulls.iter().map(|pull| (*pull).to_owned()).collect(),
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
                Some(pulling(
                    "https://ghcr.io/token",
                    Some("ghcr.io"),
                    &["repository:user/image:pull"],
                )),
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
                &[r#"Bearer realm="https://r/t",scope="repository:b:pull,push",service="s""#],
                Some(pulling("https://r/t", Some("s"), &["repository:b:pull"])),
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

    #[test]
    fn repeated_challenges_are_all_read_and_basic_comes_last() {
        let read = all(&[
            r#"Basic realm="x", Bearer realm="https://one.test/t",scope="repository:a:pull repository:b:pull,push""#,
            r#"Bearer realm="https://two.test/t",scope="repository:c:push",scope="repository:d:*",error="insufficient_scope""#,
            "Negotiate abc==",
        ]);
        let one = pulling("https://one.test/t", None, &["repository:a:pull", "repository:b:pull"]);
        let two = pulling("https://two.test/t", None, &["repository:d:pull"]);
        assert_eq!(read.offered, [one, two, Challenge::Basic]);
        assert!(read.is_insufficient);
        assert!(!all(&[r#"Bearer realm="https://r/t",error="invalid_token""#]).is_insufficient);
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
            r#"Bearer realm="https://r/t",scope="repository:r.test:5000/a/b:pull,push registry:catalog:*""#,
            "Negotiate abc==, Digest qop=auth",
        ];
        let property = |input: Vec<u8>| {
            let Ok(value) = HeaderValue::from_bytes(&input) else {
                return Ok(());
            };
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, value);
            let challenges = read(&headers).offered;
            prop_assert!(challenges.len() <= MOST_CHALLENGES + 1);
            for challenge in challenges {
                let Challenge::Bearer { realm, service, pulls } = &challenge else {
                    continue;
                };
                prop_assert!(!realm.is_empty() && realm.len() <= input.len());
                prop_assert!(service.as_ref().is_none_or(|service| service.len() <= LONGEST_SERVICE));
                prop_assert!(pulls.iter().all(|scope| scope.ends_with(":pull")));
                let quoted = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
                let service = service
                    .as_ref()
                    .map(|service| format!(",service=\"{}\"", quoted(service)));
                let written = format!(
                    "Bearer realm=\"{}\"{},scope=\"{}\"",
                    quoted(realm),
                    service.unwrap_or_default(),
                    pulls.join(" ")
                );
                prop_assert_eq!(read_all(&[&written]), Some(challenge));
            }
            Ok(())
        };
        catamaran_fuzz::run(file!(), "challenges", &catamaran_fuzz::mutated(&samples), property);
    }
}
