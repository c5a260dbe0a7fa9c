use super::*;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn layers(config: &str, layers: &[&str]) -> Layers {
    Layers {
        config: Some(digest(config)),
        layers: layers.iter().map(|layer| digest(layer)).collect(),
    }
}

fn described(name: &str, format: Format, content: Content) -> Described {
    Described {
        digest: digest(name),
        format,
        content,
    }
}

fn image(name: &str, format: Format, config: &str, parts: &[&str]) -> Described {
    described(name, format, Content::Image(layers(config, parts)))
}

/// A manifest of a platform with two layers, of which the second goes by this name.
fn member(name: &str, format: Format, config: &str, layer: &str) -> Member {
    Member {
        digest: digest(name),
        image: Some((format, layers(config, &["base", layer]))),
    }
}

fn index(name: &str, format: Format, images: &[(&str, Member)], attestations: &[&str]) -> Described {
    let mut platforms = Platforms {
        attestations: attestations.iter().map(|name| digest(name)).collect(),
        ..Platforms::default()
    };
    for (platform, member) in images {
        let members = platforms.images.entry((*platform).to_owned()).or_default();
        members.push(member.clone());
    }
    described(name, format, Content::Index(platforms))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn check(primary: &Described, fallback: &Described, expected: &Explanation, words: &str) {
    let found = explain(Sides { primary, fallback });
    assert_eq!(found, *expected, "{words}");
    assert_eq!(found.to_string(), words);
}

use Format::{Docker, Oci};

#[test]
fn images_differ_in_layers_config_media_types_or_annotations() {
    let one = image("a", Oci, "config", &["base", "app"]);
    let cases = [
        (
            image("b", Docker, "other", &["base", "other"]),
            Explanation::Layers(Vec::new()),
            "other layers",
        ),
        (
            image("b", Oci, "config", &["base"]),
            Explanation::Layers(Vec::new()),
            "other layers",
        ),
        (
            image("b", Docker, "other", &["base", "app"]),
            Explanation::Configs(Vec::new()),
            "the same layers, other configs",
        ),
        (
            image("b", Docker, "config", &["base", "app"]),
            Explanation::MediaTypes(Sides {
                primary: Oci,
                fallback: Docker,
            }),
            "the same layers and configs, OCI media types on the primary and Docker on the fallback",
        ),
        (
            image("b", Oci, "config", &["base", "app"]),
            Explanation::Annotations,
            "the same layers and configs, other annotations or another order",
        ),
    ];
    for (other, expected, words) in &cases {
        check(&one, other, expected, words);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn indexes_differ_in_what_is_gravest() {
    let amd64 = || ("linux/amd64", member("amd64", Oci, "c1", "app"));
    let arm64 = || ("linux/arm64", member("arm64", Oci, "c2", "app"));
    let one = index("a", Oci, &[amd64(), arm64()], &["provenance"]);
    let cases = [
        (
            index("b", Oci, &[amd64(), arm64()], &["another"]),
            Explanation::Attestations,
            "the same platforms and layers, other attestations",
        ),
        (
            index("b", Oci, &[amd64(), arm64()], &[]),
            Explanation::Attestations,
            "the same platforms and layers, other attestations",
        ),
        (
            index("b", Docker, &[amd64(), arm64()], &["provenance"]),
            Explanation::MediaTypes(Sides {
                primary: Oci,
                fallback: Docker,
            }),
            "the same layers and configs, OCI media types on the primary and Docker on the fallback",
        ),
        (
            index("b", Oci, &[arm64(), amd64()], &["provenance"]),
            Explanation::Annotations,
            "the same layers and configs, other annotations or another order",
        ),
        (
            index("b", Oci, &[amd64()], &["another"]),
            Explanation::Platforms(Sides {
                primary: names(&["linux/arm64"]),
                fallback: Vec::new(),
            }),
            "linux/arm64 on the primary only",
        ),
        (
            index(
                "b",
                Oci,
                &[amd64(), ("linux/s390x", member("s390x", Oci, "c3", "app"))],
                &[],
            ),
            Explanation::Platforms(Sides {
                primary: names(&["linux/arm64"]),
                fallback: names(&["linux/s390x"]),
            }),
            "linux/arm64 on the primary only, linux/s390x on the fallback only",
        ),
        (
            // Layers are graver than a config.
            index(
                "b",
                Oci,
                &[
                    ("linux/amd64", member("x", Oci, "other", "app")),
                    ("linux/arm64", member("y", Oci, "c2", "other")),
                ],
                &["another"],
            ),
            Explanation::Layers(names(&["linux/arm64"])),
            "other layers of linux/arm64",
        ),
        (
            index(
                "b",
                Docker,
                &[
                    ("linux/amd64", member("x", Docker, "c1", "app")),
                    ("linux/arm64", member("y", Docker, "c2", "app")),
                ],
                &[],
            ),
            Explanation::MediaTypes(Sides {
                primary: Oci,
                fallback: Docker,
            }),
            "the same layers and configs, OCI media types on the primary and Docker on the fallback",
        ),
        (
            index(
                "b",
                Oci,
                &[("linux/amd64", member("x", Oci, "other", "app")), arm64()],
                &["provenance"],
            ),
            Explanation::Configs(names(&["linux/amd64"])),
            "the same layers, other configs of linux/amd64",
        ),
    ];
    for (other, expected, words) in &cases {
        check(&one, other, expected, words);
    }
}

#[test]
fn manifest_that_was_not_read_is_not_guessed_at() {
    let unread = |name: &str| Member {
        digest: digest(name),
        image: None,
    };
    let one = index("a", Oci, &[("linux/amd64", unread("x"))], &[]);
    let other = index("b", Oci, &[("linux/amd64", unread("y"))], &[]);
    check(
        &one,
        &other,
        &Explanation::Unread(names(&["linux/amd64"])),
        "other manifests of linux/amd64, which could not be compared",
    );
}

#[test]
fn single_image_is_found_among_the_platforms_of_an_index() {
    let two = index(
        "index",
        Oci,
        &[
            ("linux/amd64", member("amd64", Oci, "c1", "app")),
            ("linux/arm64", member("arm64", Oci, "c2", "app")),
        ],
        &[],
    );
    let by_digest = described("arm64", Oci, Content::Image(Layers::default()));
    let by_content = image("other", Docker, "c1", &["base", "app"]);
    let neither = image("other", Oci, "c9", &["base", "app"]);
    let found = |platform: Option<&str>, index| Explanation::SinglePlatform {
        index,
        platform: platform.map(str::to_owned),
    };
    check(
        &two,
        &by_digest,
        &found(Some("linux/arm64"), Side::Primary),
        "an index on the primary, a single image on the fallback, which is its linux/arm64",
    );
    check(
        &by_content,
        &two,
        &found(Some("linux/amd64"), Side::Fallback),
        "an index on the fallback, a single image on the primary, which is its linux/amd64",
    );
    check(
        &two,
        &neither,
        &found(None, Side::Primary),
        "an index on the primary, a single image on the fallback, which is none of its platforms",
    );
}

#[test]
fn variants_of_one_architecture_are_compared_each_with_its_own() {
    let v6 = ("linux/arm", member("v6", Oci, "c6", "app"));
    let v7 = |name: &str, layer: &str| ("linux/arm", member(name, Oci, "c7", layer));
    let one = index("a", Oci, &[v6.clone(), v7("v7", "app")], &[]);
    let other = index("b", Oci, &[v6.clone(), v7("x", "other")], &[]);
    let expected = Explanation::Layers(names(&["linux/arm"]));
    check(&one, &other, &expected, "other layers of linux/arm");
    let fewer = index("c", Oci, &[v6], &[]);
    check(&one, &fewer, &expected, "other layers of linux/arm");
}

#[test]
fn many_platforms_are_named_in_part() {
    let platforms: Vec<String> = (0..9).map(|number| format!("os/{number}")).collect();
    let words = Explanation::Layers(platforms).to_string();
    assert_eq!(words, "other layers of os/0, os/1, os/2, os/3 and 5 more");
}
