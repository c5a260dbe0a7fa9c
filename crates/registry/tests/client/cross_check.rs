//! Another client, written by others, sees the same.

use catamaran_core::policy::Provider;
use catamaran_scripted_registry::Registry;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

#[tokio::test]
async fn oci_client_sees_the_same_digests_and_tags() {
    let registry = Registry::start().await.unwrap();
    for n in 0..5 {
        registry.push("krateo/web", &format!("1.{n}"), &format!("content {n}"));
    }
    let host = format!("localhost:{}", registry.address().port());
    let mut connection = registry.connection("localhost", Provider::Generic);
    connection.registry.clone_from(&host);
    let ours = crate::client(connection);

    let certificate = Certificate {
        encoding: CertificateEncoding::Pem,
        data: registry.ca_pem(),
    };
    let theirs = Client::new(ClientConfig {
        extra_root_certificates: vec![certificate],
        ..ClientConfig::default()
    });

    let listed: Vec<_> = ours
        .list_tags("krateo/web")
        .await
        .unwrap()
        .into_iter()
        .map(|tag| tag.name)
        .collect();
    let reference: Reference = format!("{host}/krateo/web:1.0").parse().unwrap();
    let their_list = theirs
        .list_tags(&reference, &RegistryAuth::Anonymous, None, None)
        .await
        .unwrap();
    assert_eq!(listed, their_list.tags);
    for tag in listed {
        let reference: Reference = format!("{host}/krateo/web:{tag}").parse().unwrap();
        let their_digest = theirs
            .fetch_manifest_digest(&reference, &RegistryAuth::Anonymous)
            .await
            .unwrap();
        let resolved = ours.resolve("krateo/web", &tag).await.unwrap();
        assert_eq!(resolved.digest.to_string(), their_digest);
        assert_eq!(
            ours.resolve_verified("krateo/web", &tag).await.unwrap().digest,
            resolved.digest
        );
    }
}
