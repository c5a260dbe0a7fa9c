use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Registry, repository, tag, digest.
type Parts<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>);

fn parts(text: &str) -> Result<(String, String, Option<String>, Option<String>), ReferenceError> {
    let reference = Reference::parse(text)?;
    Ok((
        reference.registry().to_owned(),
        reference.repository().to_owned(),
        reference.tag().map(str::to_owned),
        reference.digest().map(str::to_owned),
    ))
}

fn expect((registry, repository, tag, digest): Parts<'_>) -> (String, String, Option<String>, Option<String>) {
    (
        registry.to_owned(),
        repository.to_owned(),
        tag.map(str::to_owned),
        digest.map(str::to_owned),
    )
}

#[test]
fn names_are_normalized_as_runtimes_do() {
    let cases: &[(&str, Parts)] = &[
        ("ubuntu", ("docker.io", "library/ubuntu", None, None)),
        ("ubuntu:22.04", ("docker.io", "library/ubuntu", Some("22.04"), None)),
        ("docker/docker", ("docker.io", "docker/docker", None, None)),
        ("library/debian", ("docker.io", "library/debian", None, None)),
        ("docker.io/debian", ("docker.io", "library/debian", None, None)),
        (
            "docker.io/library/debian:a",
            ("docker.io", "library/debian", Some("a"), None),
        ),
        ("index.docker.io/debian", ("docker.io", "library/debian", None, None)),
        (
            "index.docker.io/docker/docker",
            ("docker.io", "docker/docker", None, None),
        ),
        ("ghcr.io/o/n:1", ("ghcr.io", "o/n", Some("1"), None)),
        ("ghcr.io/n", ("ghcr.io", "n", None, None)),
        ("127.0.0.1:5000/debian", ("127.0.0.1:5000", "debian", None, None)),
        ("192.168.0.1/debian", ("192.168.0.1", "debian", None, None)),
        ("[2001:db8::1]:5000/x:t", ("[2001:db8::1]:5000", "x", Some("t"), None)),
        ("[fc00::1]/x", ("[fc00::1]", "x", None, None)),
        ("localhost/x", ("localhost", "x", None, None)),
        ("localhost:5000/x", ("localhost:5000", "x", None, None)),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            ("xn--n3h.com", "myimage", Some("xn--n3h.com"), None),
        ),
        ("a.b.c/b_c/d.e/f__g/h---i", ("a.b.c", "b_c/d.e/f__g/h---i", None, None)),
    ];
    for (text, expected) in cases {
        assert_eq!(parts(text), Ok(expect(*expected)), "{text}");
    }
}

#[test]
fn what_looks_like_a_host_is_one_only_in_front_of_a_slash() {
    let cases: &[(&str, Parts)] = &[
        ("localhost", ("docker.io", "library/localhost", None, None)),
        ("docker.io", ("docker.io", "library/docker.io", None, None)),
        ("index.docker.io", ("docker.io", "library/index.docker.io", None, None)),
        ("192.168.0.1", ("docker.io", "library/192.168.0.1", None, None)),
        ("192.168.0.1:80", ("docker.io", "library/192.168.0.1", Some("80"), None)),
        ("host:5000", ("docker.io", "library/host", Some("5000"), None)),
        ("host:5000/x", ("host:5000", "x", None, None)),
        ("evil/ghcr.io/x", ("docker.io", "evil/ghcr.io/x", None, None)),
    ];
    for (text, expected) in cases {
        assert_eq!(parts(text), Ok(expect(*expected)), "{text}");
    }
}

#[test]
fn only_docker_hub_has_two_names() {
    let cases: &[(&str, Parts)] = &[
        ("LOCALDOMAIN/debian", ("LOCALDOMAIN", "debian", None, None)),
        ("Docker/docker", ("Docker", "docker", None, None)),
        ("GHCR.IO/o/n", ("GHCR.IO", "o/n", None, None)),
        ("DOCKER.IO/debian", ("DOCKER.IO", "debian", None, None)),
        ("docker.io:443/debian", ("docker.io:443", "debian", None, None)),
        (
            "registry-1.docker.io/debian",
            ("registry-1.docker.io", "debian", None, None),
        ),
        ("ghcr.io:443/o/n", ("ghcr.io:443", "o/n", None, None)),
        ("ghcr.io.evil.com/o/n", ("ghcr.io.evil.com", "o/n", None, None)),
        ("evil.com/ghcr.io/x", ("evil.com", "ghcr.io/x", None, None)),
    ];
    for (text, expected) in cases {
        assert_eq!(parts(text), Ok(expect(*expected)), "{text}");
    }
}

#[test]
fn tags_and_digests_are_kept_as_written() {
    for (algorithm, length) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
        let digest = format!("{algorithm}:{}", &HEX.repeat(2)[..length]);
        let only = format!("ghcr.io/o/n@{digest}");
        assert_eq!(parts(&only), Ok(expect(("ghcr.io", "o/n", None, Some(&digest)))));
        let both = format!("ghcr.io/o/n:v1.0_A-b@{digest}");
        assert_eq!(
            parts(&both),
            Ok(expect(("ghcr.io", "o/n", Some("v1.0_A-b"), Some(&digest))))
        );
        let reference = Reference::parse(&both).unwrap();
        assert_eq!(reference.suffix(), format!(":v1.0_A-b@{digest}"));
    }
    let longest = format!("x:{}", "a".repeat(128));
    assert_eq!(Reference::parse(&longest).unwrap().tag().map(str::len), Some(128));
}

#[test]
fn a_tag_is_assumed_only_where_a_runtime_assumes_one() {
    let digest = format!("sha256:{HEX}");
    let cases = [
        ("x".to_owned(), Some("latest")),
        ("x:1".to_owned(), Some("1")),
        (format!("x:1@{digest}"), Some("1")),
        (format!("x@{digest}"), None),
    ];
    for (text, tag) in &cases {
        assert_eq!(Reference::parse(text).unwrap().effective_tag(), *tag, "{text}");
    }
}

fn refused(cases: &[(&str, ReferenceError)]) {
    for (text, error) in cases {
        assert_eq!(parts(text), Err(*error), "{text:?}");
    }
}

#[test]
fn repositories_that_runtimes_refuse_are_refused() {
    use ReferenceError::*;
    let long_path = format!("ghcr.io/{}", "a".repeat(256));
    let long_official = "a".repeat(248);
    let no_name = format!("@sha256:{HEX}");
    refused(&[
        ("", Empty),
        (HEX, ImageId),
        (":tag", Repository),
        (&no_name, Repository),
        (" x", Repository),
        ("x ", Repository),
        ("docker/Docker", UpperCase),
        ("UPPER", UpperCase),
        ("ghcr.io/O/n", UpperCase),
        ("-docker", Repository),
        ("docker///docker", Repository),
        ("/x", Repository),
        ("x/", Repository),
        ("ghcr.io/", Repository),
        ("ghcr.io//x", Repository),
        ("ghcr.io/a/../b", Repository),
        ("[fc00::1]", Repository),
        ("[fc00::1]:5000", Repository),
        ("[]/x:y", Repository),
        ("ghcr.io/a%2fb", Repository),
        ("ghcr.io/a\0b", Repository),
        ("ghcr.io/a\nb", Repository),
        ("ghcr.io/a\n", Repository),
        ("ghcr.io/a\u{200b}b", Repository),
        ("ghcr.io/\u{430}pp", Repository),
        ("ghcr.io/\u{202e}app", Repository),
        ("a___b", Repository),
        ("a..b", Repository),
        ("a._b", Repository),
        ("a-", Repository),
        ("a_", Repository),
        (&long_path, TooLong),
        (&long_official, TooLong),
    ]);
}

#[test]
fn hosts_that_runtimes_refuse_are_refused() {
    use ReferenceError::*;

    refused(&[
        ("https://github.com/docker/docker", Registry),
        ("-docker.io/docker/docker", Registry),
        ("docker-.io/docker", Registry),
        ("../x", Registry),
        ("ghcr.io./x", Registry),
        (".ghcr.io/x", Registry),
        ("ghcr..io/x", Registry),
        ("ghcr.io:/x", Registry),
        ("ghcr.io:5a/x", Registry),
        ("foo_bar.com/x", Registry),
        ("[fe80::1%eth0]:5000/debian", Registry),
        ("[2001:db8:3:4::192.0.2.33]:5000/debian", Registry),
        ("[::1/x", Registry),
        ("fc00::1:5000/debian", Registry),
        ("user:pass@ghcr.io/x", Registry),
        ("x@ghcr.io/y", Registry),
        ("gh\u{441}r.io/app", Registry),
    ]);
}

#[test]
fn tags_and_digests_that_runtimes_refuse_are_refused() {
    use ReferenceError::*;
    let long_tag = format!("x:{}", "a".repeat(129));
    let upper_digest = format!("x@sha256:{}", HEX.to_uppercase());
    let short_digest = format!("x@sha256:{}", &HEX[..62]);
    let long_digest = format!("x@sha256:{HEX}0");
    let wrong_length = format!("x@sha512:{HEX}");
    let unknown = format!("x@sha1:{}", &HEX[..40]);
    let two_digests = format!("x@sha256:{HEX}@sha256:{HEX}");
    refused(&[
        ("ghcr.io/a:b\n", Tag),
        ("x:", Tag),
        ("x:.a", Tag),
        ("x:-a", Tag),
        ("x:t\u{e0}g", Tag),
        ("x:\u{663}", Tag),
        ("x:a:b", Tag),
        (&long_tag, Tag),
        ("x@", Digest),
        ("x@sha256:", Digest),
        (&upper_digest, Digest),
        (&short_digest, Digest),
        (&long_digest, Digest),
        (&wrong_length, Digest),
        (&unknown, Digest),
        (&two_digests, Digest),
    ]);
}

#[test]
fn the_longest_path_counts_library_but_not_the_registry() {
    assert!(Reference::parse(&format!("ghcr.io/{}", "a".repeat(255))).is_ok());
    assert!(Reference::parse(&"a".repeat(247)).is_ok());
    assert!(is_repository_path(&"a".repeat(255)));
    assert!(!is_repository_path(&"a".repeat(256)));
}

#[test]
fn sixty_four_hexadecimal_digits_are_a_name_only_in_company() {
    for text in [
        format!("{HEX}:tag"),
        format!("docker.io/{HEX}"),
        format!("x/{HEX}"),
        HEX[..63].to_owned(),
    ] {
        assert!(Reference::parse(&text).is_ok(), "{text}");
    }
}

#[test]
fn registries_in_a_resource_are_hosts_that_references_can_name() {
    use ReferenceError::*;
    let cases = [
        ("ghcr.io", Ok("ghcr.io")),
        ("kracr.azurecr.io:443", Ok("kracr.azurecr.io:443")),
        ("index.docker.io", Ok("docker.io")),
        ("docker.io", Ok("docker.io")),
        ("localhost", Ok("localhost")),
        ("registry:5000", Ok("registry:5000")),
        ("[::1]:5000", Ok("[::1]:5000")),
        ("Registry", Ok("Registry")),
        ("", Err(Empty)),
        ("registry", Err(AmbiguousRegistry)),
        ("https://ghcr.io", Err(Registry)),
        ("ghcr.io/", Err(Registry)),
        ("ghcr.io/devopskev", Err(Registry)),
        ("user@ghcr.io", Err(Registry)),
        ("ghcr.io.", Err(Registry)),
        ("ghcr.io:", Err(Registry)),
        ("ghcr.io:0", Err(Registry)),
        ("ghcr.io:65536", Err(Registry)),
        ("gh_cr.io", Err(Registry)),
        ("::1", Err(Registry)),
        (" ghcr.io", Err(Registry)),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_registry(text), expected.map(str::to_owned), "{text:?}");
    }
}

#[test]
fn registries_are_the_same_without_case_and_default_port() {
    let same = [
        ("ghcr.io", "GHCR.io"),
        ("ghcr.io:443", "ghcr.io"),
        ("KRACR.azurecr.io:443", "kracr.azurecr.io"),
        ("[::1]:443", "[::1]"),
        ("index.docker.io", "docker.io"),
        ("localhost:5000", "LOCALHOST:5000"),
    ];
    let different = [
        ("ghcr.io:5000", "ghcr.io"),
        ("ghcr.io:4430", "ghcr.io:443"),
        ("ghcr.io.example", "ghcr.io"),
        // What runtimes take for Docker Hub they know to the letter.
        ("DOCKER.io", "docker.io"),
        ("docker.io:443", "docker.io"),
        ("Index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        // Endpoints of one registry are registries of their own: they fail by themselves.
        ("kracr.westeurope.geo.azurecr.io", "kracr.azurecr.io"),
        ("kracr.westeurope.data.azurecr.io", "kracr.azurecr.io"),
    ];
    for (a, b) in same {
        assert!(same_registry(a, b) && same_registry(b, a), "{a} {b}");
    }
    for (a, b) in different {
        assert!(!same_registry(a, b) && !same_registry(b, a), "{a} {b}");
    }
}

#[test]
fn tags_are_ascii_words() {
    for tag in ["latest", "_", "0", "v1.2.3-rc.1_x", "A"] {
        assert!(is_tag(tag), "{tag}");
    }
    for tag in ["", ".", "-", "a b", "a/b", "a:b", "\u{e0}", "a\n"] {
        assert!(!is_tag(tag), "{tag:?}");
    }
}

/// The grammar once more, as the regular expressions of distribution/reference, and its `ParseNormalizedNamed`.
struct Grammar {
    reference: Regex,
    name: Regex,
}

impl Grammar {
    fn new() -> Grammar {
        let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
        let domain = format!(r"(?:{label}(?:\.{label})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
        let component = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
        let path = format!("{component}(?:/{component})*");
        let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][[:xdigit:]]{32,}";
        let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        let build = |pattern: String| Regex::new(&pattern).unwrap();
        Grammar {
            reference: build(format!(r"\A((?:{domain}/)?{path})(?::({tag}))?(?:@({digest}))?\z")),
            name: build(format!(r"\A(?:({domain})/)?({path})\z")),
        }
    }

    /// `domain/path` and the rest, or nothing.
    fn normalize(&self, text: &str) -> Option<(String, String, Option<String>, Option<String>)> {
        if text.len() == 64 && text.chars().all(|c| matches!(c, 'a'..='f' | '0'..='9')) {
            return None;
        }
        let (domain, mut remainder) = match text.split_once('/') {
            Some((first, rest))
                if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first =>
            {
                (
                    if first == "index.docker.io" { "docker.io" } else { first },
                    rest.to_owned(),
                )
            }
            _ => ("docker.io", text.to_owned()),
        };
        if domain == "docker.io" && !remainder.contains('/') {
            remainder = format!("library/{remainder}");
        }
        let full = format!("{domain}/{remainder}");
        let found = self.reference.captures(&full)?;
        let name = self.name.captures(&found[1])?;
        // Here distribution/reference goes on without a registry; see `Reference::parse`.
        let registry = name.get(1)?.as_str().to_owned();
        if name[2].len() > 255 {
            return None;
        }
        let group = |index| {
            found
                .get(index)
                .map(|found: regex::Match<'_>| found.as_str().to_owned())
        };
        if group(3).is_some_and(|digest| digest.parse::<crate::digest::Digest>().is_err()) {
            return None;
        }
        Some((registry, name[2].to_owned(), group(2), group(3)))
    }
}

/// References by the grammar, and texts that nearly are.
fn texts() -> impl Strategy<Value = String> {
    let registry = "(|ghcr\\.io/|docker\\.io/|index\\.docker\\.io/|localhost/|\\[::1\\]:5/|[A-Za-z0-9.:_-]{1,12}/)";
    let path = "([a-z0-9]{1,4}(\\.|_|__|-{1,3})?[a-z0-9]{1,3}/){0,2}[a-z0-9]{1,9}";
    let suffix = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?(@sha256:[0-9a-f]{64})?";
    prop_oneof![
        4 => proptest::string::string_regex(&format!("{registry}{path}{suffix}")).unwrap(),
        2 => "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}",
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_parser_agrees_with_the_grammar(text in texts()) {
        static GRAMMAR: LazyLock<Grammar> = LazyLock::new(Grammar::new);
        prop_assert_eq!(parts(&text).ok(), GRAMMAR.normalize(&text));
    }
}

proptest! {
    #[test]
    fn formatting_and_parsing_again_changes_nothing(text in texts()) {
        if let Ok(reference) = Reference::parse(&text) {
            let formatted = reference.to_string();
            let again = Reference::parse(&formatted).unwrap();
            prop_assert_eq!(&again, &reference);
            prop_assert_eq!(again.to_string(), formatted);
            prop_assert!(text.ends_with(reference.suffix()));
        }
    }

    #[test]
    fn relocation_keeps_tag_and_digest_byte_for_byte(text in texts(), path in "[a-z0-9]{1,9}(/[a-z0-9]{1,9}){1,2}") {
        if let Ok(reference) = Reference::parse(&text) {
            let moved = reference.relocate("kracr.azurecr.io", &path);
            let moved = Reference::parse(&moved).unwrap();
            prop_assert_eq!(moved.registry(), "kracr.azurecr.io");
            prop_assert_eq!(moved.repository(), path);
            prop_assert_eq!(moved.tag(), reference.tag());
            prop_assert_eq!(moved.digest(), reference.digest());
        }
    }

    #[test]
    fn a_parsed_registry_is_what_references_to_it_have(text in "[a-zA-Z0-9.:\\[\\]-]{1,16}") {
        if let Ok(registry) = parse_registry(&text) {
            let image = format!("{text}/some/image");
            let reference = Reference::parse(&image).unwrap();
            prop_assert_eq!(reference.registry(), registry);
        }
    }
}

#[test]
fn fuzzed_references_agree_with_the_grammar_and_stay_what_they_are() {
    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(Grammar::new);
    let digest = format!("ghcr.io/o/n:1@sha256:{HEX}");
    let samples = [
        "ubuntu",
        "docker.io/library/debian:a",
        "KRACR.azurecr.io:443/team/web:3f2a91c",
        "[2001:db8::1]:5000/x__y/z-0:t",
        "localhost/x:latest",
        digest.as_str(),
    ];
    let property = |text: String| {
        prop_assert_eq!(parts(&text).ok(), GRAMMAR.normalize(&text));
        if let Ok(reference) = Reference::parse(&text) {
            let formatted = reference.to_string();
            prop_assert!(formatted.is_ascii() && formatted.len() <= text.len() + "docker.io/library/:latest".len());
            prop_assert_eq!(Reference::parse(&formatted), Ok(reference));
        }
        Ok(())
    };
    catamaran_fuzz::run(file!(), "references", &catamaran_fuzz::mutated_text(&samples), property);
}
