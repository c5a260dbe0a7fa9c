//! What a minted Secret looks like.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_api::annotations;
use catamaran_api::mirror::RegistryMirror;
use catamaran_registry::PullCredential;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use serde_json::json;

use super::plan::{Existing, Ours};
use super::wanted::Wanted;
use crate::publish::owned_by;

/// The type of Secrets that kubelets pull with.
const TYPE: &str = "kubernetes.io/dockerconfigjson";

/// The Secret with this credential.
pub(super) fn make(wanted: &Wanted, credential: &PullCredential, now: Timestamp) -> Secret {
    let password = credential.password.expose();
    let auth = BASE64_STANDARD.encode(format!("{}:{password}", credential.username));
    let entry = json!({ "username": credential.username, "password": password, "auth": auth });
    let config = json!({ "auths": { wanted.registry.as_str(): entry } }).to_string();
    let pairs = |pairs: &[(&str, String)]| {
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        owned.collect::<BTreeMap<_, _>>()
    };
    Secret {
        metadata: ObjectMeta {
            name: Some(wanted.place.name.clone()),
            namespace: Some(wanted.place.namespace.clone()),
            labels: Some(pairs(&[
                (annotations::MANAGED_BY, annotations::MANAGER.to_owned()),
                (annotations::MIRROR, wanted.mirror.name.to_string()),
            ])),
            annotations: Some(pairs(&[
                (annotations::MINTED, now.to_string()),
                (annotations::EXPIRES, credential.expires.to_string()),
                (annotations::REGISTRY, wanted.registry.clone()),
            ])),
            owner_references: Some(vec![owned_by(&wanted.mirror)]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            ByteString(config.into_bytes()),
        )])),
        ..Secret::default()
    }
}

/// Whether it is ours, and what it says of itself. Only what carries all our marks is: the label alone is anybody's.
pub(super) fn read(secret: &Secret) -> Existing {
    let metadata = &secret.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let noted = |key: &str| metadata.annotations.as_ref().and_then(|notes| notes.get(key));
    let managed = label(annotations::MANAGED_BY).is_some_and(|manager| manager == annotations::MANAGER);
    let marked = label(annotations::MIRROR).is_some() && noted(annotations::MINTED).is_some();
    if !managed || !marked || secret.type_.as_deref() != Some(TYPE) {
        return Existing::Foreign;
    }
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.kind == RegistryMirror::kind(&()));
    let time = |key: &str| noted(key).and_then(|text| text.parse().ok());
    Existing::Ours(Ours {
        mirror: owner.map(|owner| owner.uid.clone()),
        registry: noted(annotations::REGISTRY).cloned(),
        minted: time(annotations::MINTED),
        expires: time(annotations::EXPIRES),
        uid: metadata.uid.clone(),
        version: metadata.resource_version.clone(),
    })
}

#[cfg(test)]
mod tests {
    use catamaran_core::policy::MirrorId;
    use catamaran_core::side::Side;
    use catamaran_registry::{Credentials, Keyring};

    use super::*;
    use crate::pull_secrets::wanted::Place;

    fn wanted() -> Wanted {
        Wanted {
            place: Place::new("team", "acr-pull"),
            mirror: MirrorId {
                name: "images".into(),
                uid: "1".into(),
            },
            side: Side::Primary,
            registry: "kracr.azurecr.io".to_owned(),
        }
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn made() -> Secret {
        let credential = PullCredential {
            username: "00000000-0000-0000-0000-000000000000".to_owned(),
            password: "token".to_owned().into(),
            expires: time(10_800),
        };
        make(&wanted(), &credential, time(0))
    }

    #[test]
    fn what_was_made_reads_back_as_ours() {
        let mut secret = made();
        secret.metadata.uid = Some("2".to_owned());
        secret.metadata.resource_version = Some("3".to_owned());
        let expected = Ours {
            mirror: Some("1".to_owned()),
            registry: Some("kracr.azurecr.io".to_owned()),
            minted: Some(time(0)),
            expires: Some(time(10_800)),
            uid: Some("2".to_owned()),
            version: Some("3".to_owned()),
        };
        assert_eq!(read(&secret), Existing::Ours(expected));
    }

    #[test]
    fn kubelets_and_we_ourselves_can_read_it_for_exactly_its_registry() {
        let secret = made();
        let config = &secret.data.as_ref().unwrap()[".dockerconfigjson"].0;
        let read = Keyring::from_docker_config_json(config, "kracr.azurecr.io")
            .unwrap()
            .credentials;
        let Credentials::Basic { username, password } = read else {
            panic!("a user name and a token")
        };
        assert_eq!(username, "00000000-0000-0000-0000-000000000000");
        assert_eq!(password.expose(), "token");
        assert!(Keyring::from_docker_config_json(config, "ghcr.io").is_err());
    }

    #[test]
    fn what_lacks_one_of_our_marks_is_somebody_elses() {
        type Change = fn(&mut Secret);
        let cases: [(&str, Change); 5] = [
            ("no labels", |secret| secret.metadata.labels = None),
            ("another manager", |secret| {
                let labels = secret.metadata.labels.as_mut().unwrap();
                labels.insert(annotations::MANAGED_BY.to_owned(), "Helm".to_owned());
            }),
            ("no mirror", |secret| {
                secret.metadata.labels.as_mut().unwrap().remove(annotations::MIRROR);
            }),
            ("never minted", |secret| secret.metadata.annotations = None),
            ("another type", |secret| secret.type_ = Some("Opaque".to_owned())),
        ];
        for (name, change) in cases {
            let mut secret = made();
            change(&mut secret);
            assert_eq!(read(&secret), Existing::Foreign, "{name}");
        }
    }
}
