//! Large layers, in the pieces that each cloud takes.

use std::sync::Arc;

use bytes::Bytes;
use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::copy::Placed;
use catamaran_registry::{Budget, Client, Copied, Copier, CopyBudget, CopyLimits, CopySettings, Image};
use catamaran_scripted_registry::{IMAGE_MANIFEST, Registry};
use serde_json::json;

use crate::{aws, github, limits};

const MIB: usize = 1 << 20;

fn copier(source: &Registry, target: &Client) -> Copier {
    let plenty = || CopyBudget {
        reads: Arc::new(Budget::per_minute(6_000_000)),
        writes: Arc::new(Budget::per_minute(6_000_000)),
    };
    let settings = CopySettings {
        limits: CopyLimits::default(),
        ..CopySettings::default()
    };
    let from = Client::new(source.connection("registry.test", Provider::Generic), limits()).unwrap();
    let placed = Arc::new(Placed::default());
    Copier::new((&from, plenty()), (target, plenty()), placed, settings).unwrap()
}

/// An image with one layer of 11 MiB, to be copied to `krateo/large`.
fn push(source: &Registry) -> Image {
    let layer: Bytes = b"eleven bytes".repeat(MIB).split_off(MIB).into();
    let descriptor = |body: Bytes| {
        let size = body.len();
        let digest = source.put_blob(body);
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": size})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": descriptor(Bytes::from_static(b"{}")),
        "layers": [descriptor(layer)],
    });
    let digest: Digest = source.put_manifest("teams/large", Some("1.0"), IMAGE_MANIFEST, manifest.to_string());
    Image {
        from: "teams/large".to_owned(),
        to: "krateo/large".to_owned(),
        tag: "1.0".to_owned(),
        digest,
    }
}

#[tokio::test]
async fn ecr_gets_pieces_of_five_mebibytes() {
    let ground = aws::Ground::start().await;
    let source = Registry::start().await.unwrap();
    let image = push(&source);
    let target = ground.with_key();
    assert_eq!(copier(&source, &target).copy(&image).await, Ok(Copied::Written));
    assert_eq!(
        target.resolve("krateo/large", "1.0").await.unwrap().digest,
        image.digest
    );
}

#[tokio::test]
async fn ghcr_gets_pieces_of_four_mebibytes() {
    let ground = github::Ground::start().await;
    let source = Registry::start().await.unwrap();
    let image = push(&source);
    ground.ghcr.add_writer("ghp_writer", &["krateo/large"]);
    let target = ground.client(crate::basic("kev", "ghp_writer"));
    assert_eq!(copier(&source, &target).copy(&image).await, Ok(Copied::Written));
    assert_eq!(
        target.resolve("krateo/large", "1.0").await.unwrap().digest,
        image.digest
    );
}
