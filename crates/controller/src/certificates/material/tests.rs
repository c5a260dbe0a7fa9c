use super::*;
use crate::certificates::issue;

const LIFE: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(passed: Duration) -> Timestamp {
    now().checked_add(passed).unwrap()
}

fn names() -> Vec<String> {
    crate::certificates::settings::dns_names("catamaran", "catamaran-system")
}

fn issued() -> (Authority, Pair) {
    let (authority, key) = issue::authority(now(), LIFE * 3).unwrap();
    let (chain, leaf_key) = issue::leaf(&authority, &key, &names(), now(), LIFE).unwrap();
    (authority, Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap())
}

#[test]
fn a_leaf_verifies_for_its_names_within_its_life_and_under_its_authority_alone() {
    let (authority, pair) = issued();
    let (other, _) = issue::authority(now(), LIFE * 3).unwrap();
    let ours = vec![authority.clone()];
    let both = vec![other.clone(), authority];
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
        ("another authority", &vec![other], svc, now(), false),
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
fn an_expired_authority_vouches_for_nobody() {
    let (authority, key) = issue::authority(now(), LIFE).unwrap();
    let (mut authority, (chain, leaf_key)) = (
        authority.clone(),
        issue::leaf(&authority, &key, &names(), now(), LIFE).unwrap(),
    );
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap();
    authority.not_after = later(LIFE / 2);
    let name = &names()[0];
    assert!(verify(&pair, std::slice::from_ref(&authority), name, later(LIFE / 3)).is_ok());
    assert!(verify(&pair, &[authority], name, later(LIFE / 2)).is_err());
}

#[test]
fn a_leaf_never_outlasts_its_authority() {
    let (authority, key) = issue::authority(now(), LIFE).unwrap();
    let (chain, leaf_key) = issue::leaf(&authority, &key, &names(), later(LIFE / 2), LIFE).unwrap();
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes()).unwrap();
    assert_eq!(pair.not_after, authority.not_after);
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
fn keys_are_accepted_in_pkcs8_pkcs1_and_sec1() {
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
fn what_is_missing_or_garbled_is_named_by_its_key_and_never_quoted() {
    let (chain, leaf_key) = {
        let (authority, key) = issue::authority(now(), LIFE).unwrap();
        issue::leaf(&authority, &key, &names(), now(), LIFE).unwrap()
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
        assert!(
            material.authorities.is_empty() && material.signing_authority().is_none(),
            "{case}"
        );
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
fn a_bundle_survives_writing_and_reading_and_loses_only_what_is_unreadable() {
    let (first, _) = issue::authority(now(), LIFE).unwrap();
    let (second, _) = issue::authority(now(), LIFE).unwrap();
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
fn an_authority_signs_only_with_its_own_key() {
    let (first, first_key) = issue::authority(now(), LIFE).unwrap();
    let (second, second_key) = issue::authority(now(), LIFE).unwrap();
    let material = |key: Option<&String>| Material {
        authorities: vec![first.clone(), second.clone()],
        authority_key: key.cloned(),
        pair: Err(MaterialError::Missing { key: TLS_CERTIFICATE }),
    };
    assert_eq!(material(Some(&first_key)).signing_authority(), Some(&first));
    assert_eq!(
        material(Some(&second_key)).signing_authority(),
        None,
        "the key of the second, not of the newest"
    );
    assert_eq!(material(Some(&"nonsense".to_owned())).signing_authority(), None);
    assert_eq!(material(None).signing_authority(), None);
}

#[test]
fn nothing_secret_is_shown_for_debugging() {
    let (authority, key) = issue::authority(now(), LIFE).unwrap();
    let (chain, leaf_key) = issue::leaf(&authority, &key, &names(), now(), LIFE).unwrap();
    let pair = Pair::new(chain.as_bytes(), leaf_key.as_bytes());
    let shown = format!(
        "{:?}",
        Material {
            authorities: vec![authority],
            authority_key: Some(key.clone()),
            pair
        }
    );
    for secret in [key, leaf_key] {
        let body = secret.lines().nth(1).unwrap();
        assert!(!shown.contains(body) && !shown.contains("PRIVATE"), "{shown}");
    }
}
