use super::*;
use crate::issue;

const LIFE: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(passed: Duration) -> Timestamp {
    now().checked_add(passed).unwrap()
}

fn names() -> Vec<String> {
    crate::settings::dns_names("catamaran", "catamaran-system")
}

fn issued() -> (CaCertificate, Pair) {
    let (ca, key) = issue::ca(now(), LIFE * 3).unwrap();
    let (chain, leaf_key) = issue::leaf(&ca, &key, &names(), now(), LIFE).unwrap();
    (ca, Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap())
}

#[test]
fn leaf_verifies_only_for_its_names_lifetime_and_ca() {
    let (ca, pair) = issued();
    let (other, _) = issue::ca(now(), LIFE * 3).unwrap();
    let ours = vec![ca.clone()];
    let both = vec![other.clone(), ca];
    let svc = "catamaran.catamaran-system.svc";
    for (case, bundle, name, at, good) in [
        ("the API server's name", &ours, svc, now(), true),
        (
            "the full name",
            &ours,
            "catamaran.catamaran-system.svc.cluster.local",
            now(),
            true,
        ),
        ("the short name", &ours, "catamaran.catamaran-system", now(), true),
        ("a bundle of two", &both, svc, now(), true),
        ("another service", &ours, "other.catamaran-system.svc", now(), false),
        ("another CA", &vec![other], svc, now(), false),
        ("an empty bundle", &vec![], svc, now(), false),
        (
            "the last second",
            &ours,
            svc,
            later(LIFE.saturating_sub(Duration::from_secs(1))),
            true,
        ),
        (
            "after its life",
            &ours,
            svc,
            later(LIFE + Duration::from_secs(1)),
            false,
        ),
        (
            "an API server whose clock is ten minutes slow, after a replica whose clock is ten minutes fast",
            &ours,
            svc,
            now() - Duration::from_mins(20),
            true,
        ),
        (
            "long before its life",
            &ours,
            svc,
            now() - Duration::from_mins(26),
            false,
        ),
    ] {
        assert_eq!(
            verify(&pair, bundle, name, at).is_ok(),
            good,
            "{case}: {:?}",
            verify(&pair, bundle, name, at)
        );
    }
}

#[test]
fn expired_ca_verifies_no_leaf() {
    let (ca, key) = issue::ca(now(), LIFE).unwrap();
    let (mut ca, (chain, leaf_key)) = (ca.clone(), issue::leaf(&ca, &key, &names(), now(), LIFE).unwrap());
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap();
    ca.not_after = later(LIFE / 2);
    let name = &names()[0];
    assert!(verify(&pair, std::slice::from_ref(&ca), name, later(LIFE / 3)).is_ok());
    assert!(verify(&pair, &[ca], name, later(LIFE / 2)).is_err());
}

#[test]
fn leaf_never_outlasts_its_ca() {
    let (ca, key) = issue::ca(now(), LIFE).unwrap();
    let (chain, leaf_key) = issue::leaf(&ca, &key, &names(), later(LIFE / 2), LIFE).unwrap();
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap();
    assert_eq!(pair.not_after, ca.not_after);
}

/// The key inside of a PKCS#8 document: SEC1 of an EC key, PKCS#1 of an RSA key.
fn inner(pkcs8: &[u8]) -> Vec<u8> {
    let (_, document) = x509_parser::der_parser::parse_der(pkcs8).unwrap();
    document.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
    .into_bytes()
}

#[test]
fn private_key_in_pkcs8_pkcs1_and_sec1_is_accepted() {
    let ec = rcgen::KeyPair::generate().unwrap();
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for (key, label) in [(&ec, "EC PRIVATE KEY"), (&rsa, "RSA PRIVATE KEY")] {
        let chain = rcgen::CertificateParams::new(names())
            .unwrap()
            .self_signed(key)
            .unwrap()
            .pem();
        let bare = pem(label, &inner(key.serialized_der()));
        for (kind, key) in [
            ("PRIVATE KEY", pem("PRIVATE KEY", key.serialized_der())),
            (label, bare.clone()),
        ] {
            let pair = Pair::new(chain.as_bytes(), &key);
            assert!(pair.is_ok(), "{kind} of {label}: {pair:?}");
        }
        let other = rcgen::KeyPair::generate().unwrap();
        let chain = rcgen::CertificateParams::new(names())
            .unwrap()
            .self_signed(&other)
            .unwrap()
            .pem();
        assert!(
            matches!(Pair::new(chain.as_bytes(), &bare), Err(MaterialError::Mismatch(_))),
            "{label}"
        );
    }
}

#[test]
fn unreadable_part_is_named_by_key_and_never_quoted() {
    let (chain, leaf_key) = {
        let (ca, key) = issue::ca(now(), LIFE).unwrap();
        issue::leaf(&ca, &key, &names(), now(), LIFE).unwrap()
    };
    let data = |entries: &[(&str, &str)]| {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect()
    };
    let garbled = leaf_key.replace('M', "!");
    for (case, data, message) in [
        ("an empty secret", data(&[]), "failed to find \"tls.crt\" in the secret"),
        (
            "no key",
            data(&[("tls.crt", &chain)]),
            "failed to find \"tls.key\" in the secret",
        ),
        (
            "no certificate",
            data(&[("tls.crt", ""), ("tls.key", &leaf_key)]),
            "failed to find \"tls.crt\" in the secret",
        ),
        (
            "a garbled key",
            data(&[("tls.crt", &chain), ("tls.key", &garbled)]),
            "failed to read \"tls.key\": no private key in PEM",
        ),
    ] {
        let material = Material::read(&data);
        assert_eq!(material.pair.as_ref().unwrap_err().to_string(), message, "{case}");
        assert!(material.cas.is_empty() && material.signing_ca().is_none(), "{case}");
    }
    let cut = chain.replace("MII", "AAA");
    let material = Material::read(&data(&[("tls.crt", &cut), ("tls.key", &leaf_key)]));
    assert!(matches!(
        material.pair,
        Err(MaterialError::Unreadable {
            key: TLS_CERTIFICATE,
            ..
        })
    ));
}

#[test]
fn bundle_written_and_read_loses_only_unreadable_parts() {
    let (first, _) = issue::ca(now(), LIFE).unwrap();
    let (second, _) = issue::ca(now(), LIFE).unwrap();
    let pem = encode_bundle([&first, &second]);
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert_eq!(bundle(pem.as_bytes()), [first.clone(), second.clone()]);
    let damaged = format!(
        "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n# note\n{}",
        encode_bundle([&first]),
        encode_bundle([&second])
    );
    assert_eq!(bundle(damaged.as_bytes()), [first, second]);
}

#[test]
fn ca_signs_only_with_its_own_key() {
    let (first, first_key) = issue::ca(now(), LIFE).unwrap();
    let (second, second_key) = issue::ca(now(), LIFE).unwrap();
    let material = |key: Option<&String>| Material {
        cas: vec![first.clone(), second.clone()],
        ca_key: key.cloned(),
        pair: Err(MaterialError::Missing { key: TLS_CERTIFICATE }),
    };
    assert_eq!(material(Some(&first_key)).signing_ca(), Some(&first));
    assert_eq!(
        material(Some(&second_key)).signing_ca(),
        None,
        "the key of the second, not of the newest"
    );
    assert_eq!(material(Some(&"nonsense".to_owned())).signing_ca(), None);
    assert_eq!(material(None).signing_ca(), None);
}

#[test]
fn debug_output_shows_no_secret() {
    let (ca, key) = issue::ca(now(), LIFE).unwrap();
    let (chain, leaf_key) = issue::leaf(&ca, &key, &names(), now(), LIFE).unwrap();
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes());
    let shown = format!(
        "{:?}",
        Material {
            cas: vec![ca],
            ca_key: Some(key.clone()),
            pair
        }
    );
    for secret in [key, leaf_key] {
        let body = secret.lines().nth(1).unwrap();
        assert!(!shown.contains(body) && !shown.contains("PRIVATE"), "{shown}");
    }
}
