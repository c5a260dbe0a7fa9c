//! Copying with registries as they are in the wild, distribution above all: what the scripted registry of the unit tests takes, they
//! take too.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "copying/others.rs"]
mod others;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_core::digest::Digest;
use catamaran_core::policy::Provider;
use catamaran_registry::copy::{Count, Placed, Tally};
use catamaran_registry::{
    Budget, Client, Connection, Copied, Copier, CopyBudget, CopyLimits, CopySettings, Image, Limits,
};
use catamaran_scripted_registry::{IMAGE_INDEX, IMAGE_MANIFEST, Registry as Scripted};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

const HOST: &str = "registry.test";
const PIECE: usize = 64 << 10;

/// A registry on loopback, with a certificate of its own; it ends when it is dropped.
struct Real {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
    ca: Vec<u8>,
}

impl Real {
    fn start() -> Real {
        Real::run(|folder, address| {
            let place = folder.display();
            let configuration = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
                 http: {{addr: \"{address}\", relativeurls: true, tls: {{certificate: {place}/leaf.crt, key: {place}/leaf.key}}}}\n"
            );
            std::fs::write(folder.join("registry.yaml"), configuration).unwrap();
            let mut command = Command::new(catamaran_cluster::Registry::program());
            command.arg("serve").arg(folder.join("registry.yaml"));
            command.env("OTEL_TRACES_EXPORTER", "none");
            command
        })
    }

    /// A registry that a program serves, with `leaf.crt` and `leaf.key` of a folder.
    fn run(command: impl FnOnce(&Path, SocketAddr) -> Command) -> Real {
        let folder = tempfile::tempdir().unwrap();
        let ca = certificates(folder.path());
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = command(folder.path(), address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_mins(3);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Real {
            process,
            folder,
            address,
            ca,
        }
    }

    fn client(&self) -> Client {
        let connection = Connection {
            registry: HOST.to_owned(),
            extra_ca: Some(self.ca.clone()),
            resolve: vec![(HOST.to_owned(), self.address)],
            ..Connection::default()
        };
        Client::new(connection, Limits::default()).unwrap()
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        std::fs::read(self.folder.path().join(path)).unwrap()
    }

    /// Uploads of a repository whose content is still kept; of one that was cancelled the registry keeps an empty folder.
    fn uploads(&self, repository: &str) -> usize {
        let path = format!("data/docker/registry/v2/repositories/{repository}/_uploads");
        let folders = std::fs::read_dir(self.folder.path().join(path)).into_iter().flatten();
        folders
            .filter(|folder| folder.as_ref().unwrap().path().join("data").exists())
            .count()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes a leaf for [`HOST`] and for loopback; the authority's certificate.
fn certificates(folder: &Path) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "copying");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, key)).unwrap();
    std::fs::write(folder.join("leaf.crt"), leaf.pem()).unwrap();
    std::fs::write(folder.join("leaf.key"), leaf_key.serialize_pem()).unwrap();
    ca.into_bytes()
}

fn descriptor(kind: &str, digest: &Digest, size: usize, rest: &str) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}{rest}}}"#)
}

fn push_manifest(registry: &Scripted, repository: &str, config: &str, layers: &[Vec<u8>]) -> (Digest, usize) {
    let config_digest = registry.put_blob(config.to_owned());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor("layer.v1.tar", &registry.put_blob(layer.clone()), layer.len(), ""))
        .collect();
    let config = descriptor("config.v1+json", &config_digest, config.len(), "");
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_MANIFEST}","config":{config},"layers":[{}]}} "#,
        layers.join(",")
    );
    let size = body.len();
    (registry.put_manifest(repository, None, IMAGE_MANIFEST, body), size)
}

/// Three platforms, each with an attestation; their base layer takes several pieces.
fn push_index(registry: &Scripted, repository: &str, tag: &str) -> Digest {
    let base: Vec<u8> = (0..PIECE * 5 / 2).map(|n| ((n * 31 / 7) % 251) as u8).collect();
    let mut manifests = Vec::new();
    for platform in ["amd64", "arm64", "riscv64"] {
        let config = format!(r#"{{"architecture":"{platform}","os":"linux"}}"#);
        let own = format!("layer of {platform}").into_bytes();
        let (digest, size) = push_manifest(registry, repository, &config, &[base.clone(), own]);
        let platform_of = format!(r#","platform":{{"architecture":"{platform}","os":"linux"}}"#);
        manifests.push(descriptor("manifest.v1+json", &digest, size, &platform_of));
        let config = format!(r#"{{"architecture":"unknown","os":"unknown","of":"{platform}"}}"#);
        let provenance = format!(r#"{{"subject":"{platform}"}}"#).into_bytes();
        let (digest, size) = push_manifest(registry, repository, &config, &[provenance]);
        let unknown = r#","platform":{"architecture":"unknown","os":"unknown"}"#;
        manifests.push(descriptor("manifest.v1+json", &digest, size, unknown));
    }
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_INDEX}","manifests":[{}]}}"#,
        manifests.join(",")
    );
    registry.put_manifest(repository, Some(tag), IMAGE_INDEX, body)
}

fn copier(from: &Client, to: &Client, tally: &Arc<Tally>) -> Copier {
    let plenty = || CopyBudget {
        reads: Arc::new(Budget::per_minute(6_000_000)),
        writes: Arc::new(Budget::per_minute(6_000_000)),
    };
    let settings = CopySettings {
        limits: CopyLimits {
            piece_bytes: PIECE,
            ..CopyLimits::default()
        },
        referrers: true,
        tally: Arc::clone(tally),
        ..CopySettings::default()
    };
    Copier::new((from, plenty()), (to, plenty()), Arc::new(Placed::default()), settings).unwrap()
}

fn image(from: &str, to: &str, digest: &Digest) -> Image {
    Image {
        from: from.to_owned(),
        to: to.to_owned(),
        tag: "1.0".to_owned(),
        digest: digest.clone(),
    }
}

/// Every manifest and blob below `reference` is on the real registry as it is at the source.
fn check<'a>(
    source: &'a Scripted,
    real: &'a Real,
    to: &'a str,
    reference: String,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        let (media_type, body) = source.manifest("web", &reference).unwrap();
        let found = real.client().fetch_manifest(to, &reference).await.unwrap();
        assert_eq!(
            (found.media_type, found.body),
            (Some(media_type), body.clone()),
            "{reference}"
        );
        let manifest = String::from_utf8(body.to_vec()).unwrap();
        for digest in manifest
            .split(r#""digest":""#)
            .skip(1)
            .map(|rest| rest[..71].to_owned())
        {
            if source.manifest("web", &digest).is_some() {
                check(source, real, to, digest).await;
            } else {
                let blob = source.blob("web", &digest.parse().unwrap()).unwrap();
                assert_eq!(real.blob(&digest), blob, "{digest}");
            }
        }
    })
}

#[tokio::test]
async fn an_index_goes_through_real_registries_byte_for_byte() {
    let source = Scripted::start().await.unwrap();
    let digest = push_index(&source, "web", "1.0");
    let (first, second) = (Real::start(), Real::start());
    let scripted = Client::new(source.connection("ghcr.io", Provider::GitHub), Limits::default()).unwrap();

    let tally = Arc::new(Tally::default());
    let to_first = copier(&scripted, &first.client(), &tally);
    let copied = to_first.copy(&image("web", "teams/web", &digest)).await;
    assert_eq!(copied, Ok(Copied::Written));
    check(&source, &first, "teams/web", "1.0".to_owned()).await;
    assert_eq!(first.uploads("teams/web"), 0);
    // Into another repository of the same registry everything is mounted.
    let sent = tally.get(Count::Bytes);
    to_first.copy(&image("web", "other/web", &digest)).await.unwrap();
    check(&source, &first, "other/web", "1.0".to_owned()).await;
    assert_eq!(tally.get(Count::Bytes), sent);
    assert_eq!(tally.get(Count::BlobsMounted), tally.get(Count::BlobsSent));
    assert_eq!(first.uploads("other/web"), 0);

    // From one real registry to the other, and back to nothing to do.
    let across = copier(&first.client(), &second.client(), &Arc::default());
    let copied = across.copy(&image("teams/web", "web", &digest)).await;
    assert_eq!(copied, Ok(Copied::Written));
    check(&source, &second, "web", "1.0".to_owned()).await;
    let again = across.copy(&image("teams/web", "web", &digest)).await;
    assert_eq!(again, Ok(Copied::AlreadyThere));
}

#[tokio::test]
async fn a_copy_to_a_real_registry_that_was_killed_goes_on_and_sends_no_blob_twice() {
    let source = Scripted::start().await.unwrap();
    let digest = push_index(&source, "web", "1.0");
    let real = Real::start();
    let scripted = Client::new(source.connection("ghcr.io", Provider::GitHub), Limits::default()).unwrap();
    let image = image("web", "web", &digest);
    for reads in [2, 3, 1, 4, 2, 3] {
        let begun = source.count("");
        let copier = copier(&scripted, &real.client(), &Arc::default());
        let killed = async {
            while source.count("") < begun + reads + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = copier.copy(&image) => { done.unwrap(); }
            () = killed => {}
        }
    }
    let before = source.count("/blobs/");
    let tally = Arc::new(Tally::default());
    copier(&scripted, &real.client(), &tally).copy(&image).await.unwrap();
    check(&source, &real, "web", "1.0".to_owned()).await;
    let blobs = 13;
    assert!(source.count("/blobs/") - before == usize::try_from(tally.get(Count::BlobsSent)).unwrap());
    assert!(
        source.count("/blobs/") <= blobs + 6,
        "each blob was read once, and those in flight again"
    );
}

#[tokio::test]
async fn a_damaged_blob_leaves_nothing_behind_at_a_real_registry() {
    use catamaran_scripted_registry::{Fault, What};
    let source = Scripted::start().await.unwrap();
    let digest = push_index(&source, "web", "1.0");
    let base: Vec<u8> = (0..PIECE * 5 / 2).map(|n| ((n * 31 / 7) % 251) as u8).collect();
    let path = format!("/blobs/{}", Digest::of(&base));
    source.fault(Fault::on(&path, What::json(&"x".repeat(base.len()))));
    let real = Real::start();
    let scripted = Client::new(source.connection("ghcr.io", Provider::GitHub), Limits::default()).unwrap();
    let copier = copier(&scripted, &real.client(), &Arc::default());
    let error = copier.copy(&image("web", "web", &digest)).await.unwrap_err();
    assert_eq!(error.reason(), "Corrupt");
    assert_eq!(real.uploads("web"), 0, "the upload was cancelled");
    assert!(real.client().resolve("web", "1.0").await.unwrap_err().is_absent());
}
