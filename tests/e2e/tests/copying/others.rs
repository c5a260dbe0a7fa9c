//! Copies to other registries that people run, read back by other clients: crane and regctl find every byte where it was.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use catamaran_cluster::components::{build, program};
use catamaran_core::side::Sides;
use catamaran_registry::copy::inspect;

use super::*;

const CHART: &str = r#"{"name":"web","version":"0.1.0","apiVersion":"v2"}"#;
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SBOM: &str = "application/spdx+json";

/// An index with attestations, a bill of materials that refers to it, and a chart.
struct Contents {
    source: Scripted,
    index: Digest,
    sbom: Digest,
    chart: Digest,
}

impl Contents {
    async fn push() -> Contents {
        let source = Scripted::start().await.unwrap();
        source.set_referrers(true);
        let index = push_index(&source, "web", "1.0");
        let size = source.manifest("web", "1.0").unwrap().1.len();
        let empty = blob(&source, EMPTY, b"{}");
        let bill = blob(&source, SBOM, br#"{"spdxVersion":"SPDX-2.3"}"#);
        let subject = descriptor("index.v1+json", &index, size, "");
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE_MANIFEST}","artifactType":"{SBOM}","config":{empty},"layers":[{bill}],"subject":{subject}}}"#
        );
        let sbom = source.put_manifest("web", None, IMAGE_MANIFEST, body);
        let config = blob(&source, "application/vnd.cncf.helm.config.v1+json", CHART.as_bytes());
        let layer = blob(
            &source,
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            b"a packed chart",
        );
        // Helm names no media type here, and some clients write spaces that others would leave out.
        let body = format!(
            "{{\n  \"schemaVersion\": 2,\n  \"config\": {config},\n  \"layers\": [{layer}],\n  \"annotations\": {{\"org.opencontainers.image.title\": \"web\"}}\n}}\n"
        );
        let chart = source.put_manifest("web", Some("0.1.0"), IMAGE_MANIFEST, body);
        Contents {
            source,
            index,
            sbom,
            chart,
        }
    }

    fn images(&self, to: &str) -> [Image; 2] {
        let index = image("web", to, &self.index);
        let chart = Image {
            tag: "0.1.0".to_owned(),
            ..image("web", to, &self.chart)
        };
        [index, chart]
    }

    /// Manifests and blobs below some manifests, by digest.
    fn all(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut open: Vec<_> = [&self.index, &self.sbom, &self.chart].map(ToString::to_string).into();
        while let Some(digest) = open.pop() {
            if let Some((_, body)) = self.source.manifest("web", &digest) {
                let body = String::from_utf8(body.to_vec()).unwrap();
                let below = body.split(r#""digest":""#).skip(1);
                open.extend(
                    below
                        .map(|rest| rest[..71].to_owned())
                        .filter(|below| !all.contains(below)),
                );
            }
            all.insert(digest);
        }
        all
    }
}

fn blob(source: &Scripted, media_type: &str, body: &'static [u8]) -> String {
    let digest = source.put_blob(body);
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#,
        body.len()
    )
}

/// Another client, which knows the registry by its address.
struct Reader<'a> {
    real: &'a Real,
    repository: String,
}

impl Reader<'_> {
    fn output<A: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = A>) -> Vec<u8> {
        let output = Command::new(program("registries", name))
            .args(arguments)
            .env("SSL_CERT_FILE", self.real.folder.path().join("ca.crt"))
            .env("HOME", self.real.folder.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {error}");
        output.stdout
    }

    /// A manifest as crane and regctl read it.
    fn check_manifest(&self, reference: &str, expected: &[u8]) {
        let separator = if reference.starts_with("sha256:") { '@' } else { ':' };
        let name = format!("{}{separator}{reference}", self.repository);
        let crane = self.output("crane", ["manifest", &name]);
        assert_eq!(
            String::from_utf8_lossy(&crane),
            String::from_utf8_lossy(expected),
            "crane manifest {name}"
        );
        let regctl = self.output("regctl", ["manifest", "get", "--format", "raw-body", &name]);
        assert_eq!(
            String::from_utf8_lossy(&regctl),
            String::from_utf8_lossy(expected),
            "regctl manifest {name}"
        );
    }

    fn check_blob(&self, digest: &str, expected: &[u8]) {
        let name = format!("{}@{digest}", self.repository);
        assert!(self.output("crane", ["blob", &name]) == expected, "crane blob {name}");
        let regctl = self.output("regctl", ["blob", "get", &self.repository, digest]);
        assert!(regctl == expected, "regctl blob {name}");
    }

    /// What regctl finds attached to a tag, by the referrers API or by the tag that replaces it.
    fn referrers(&self, tag: &str) -> String {
        let name = format!("{}:{tag}", self.repository);
        let format = "{{range .Descriptors}}{{.ArtifactType}} {{.Digest}}\n{{end}}";
        let list = self.output("regctl", ["artifact", "list", "--format", format, &name]);
        String::from_utf8(list).unwrap().trim().to_owned()
    }
}

fn check_with_other_clients(contents: &Contents, real: &Real, to: &str, listed_as: &str) {
    let reader = Reader {
        real,
        repository: format!("{}/{to}", real.address),
    };
    for tag in ["1.0", "0.1.0"] {
        reader.check_manifest(tag, &contents.source.manifest("web", tag).unwrap().1);
    }
    let all = contents.all();
    assert_eq!(all.len(), 1 + 6 + 13 + 1 + 2 + 1 + 2, "{all:?}");
    for digest in &all {
        match contents.source.manifest("web", digest) {
            Some((_, body)) => reader.check_manifest(digest, &body),
            None => reader.check_blob(digest, &contents.source.blob("web", &digest.parse().unwrap()).unwrap()),
        }
    }
    assert_eq!(reader.referrers("1.0"), format!("{listed_as} {}", contents.sbom));
}

/// What was copied to a registry is whole when it is copied from there to one that has nothing.
async fn check_copies_from(contents: &Contents, real: &Client, from: &str) {
    let back = Scripted::start().await.unwrap();
    let target = Client::new(back.connection("ghcr.io", Provider::GitHub), Limits::default()).unwrap();
    let copier = copier(real, &target, &Arc::default());
    for image in contents.images("web") {
        let image = Image {
            from: from.to_owned(),
            ..image
        };
        assert_eq!(copier.copy(&image).await, Ok(Copied::Written), "{image:?}");
    }
    for digest in contents.all() {
        assert_eq!(back.manifest("web", &digest), contents.source.manifest("web", &digest));
        let blob = digest.parse().unwrap();
        let is_blob = back.manifest("web", &digest).is_none();
        assert!(
            !is_blob || back.blob("web", &blob) == contents.source.blob("web", &blob),
            "{digest}"
        );
    }
}

/// Copies everything, twice, and into a second repository; other clients, an inspection and a copy back find it whole. `listed_as`: the
/// type that the list of referrers gives for the bill of materials.
async fn check_copies(real: Real, listed_as: &str) {
    let contents = Contents::push().await;
    std::fs::write(real.folder.path().join("ca.crt"), &real.ca).unwrap();
    let source = Client::new(
        contents.source.connection("ghcr.io", Provider::GitHub),
        Limits::default(),
    )
    .unwrap();
    let target = real.client();
    let copier = copier(&source, &target, &Arc::default());
    for to in ["teams/web", "other/web"] {
        for image in contents.images(to) {
            assert_eq!(copier.copy(&image).await, Ok(Copied::Written), "{image:?}");
            assert_eq!(copier.copy(&image).await, Ok(Copied::AlreadyThere), "{image:?}");
            let both = Sides {
                primary: Some(&source),
                fallback: Some(&target),
            };
            let paths = Sides {
                primary: "web",
                fallback: to,
            };
            let found = inspect(both, paths, &image.tag, &image.digest).await;
            assert_eq!(found.map(Result::unwrap), Sides::default(), "{image:?}");
        }
        let tags = target.list_tags(to).await.unwrap();
        let tags: BTreeSet<_> = tags.iter().map(|tag| tag.name.as_str()).collect();
        assert!(tags.is_superset(&["0.1.0", "1.0"].into()), "{tags:?}");
        check_with_other_clients(&contents, &real, to, listed_as);
    }
    check_copies_from(&contents, &target, "teams/web").await;
    let absent = target.resolve("teams/web", "2.0").await.unwrap_err();
    assert!(absent.is_absent(), "{absent}");
    let absent = target.resolve("nobody/web", "1.0").await.unwrap_err();
    assert!(absent.is_absent(), "{absent}");
}

fn in_memory(name: &str) -> Real {
    build(&["registries"]).unwrap();
    Real::run(|folder, address| {
        let mut command = Command::new(program("registries", "registries"));
        command.arg(name).arg(address.to_string());
        command.arg(folder.join("leaf.crt")).arg(folder.join("leaf.key"));
        command
    })
}

#[tokio::test]
async fn copies_to_distribution_are_the_same() {
    build(&["registries"]).unwrap();
    Box::pin(check_copies(Real::start(), SBOM)).await;
}

#[tokio::test]
async fn copies_to_distribution_2_are_the_same() {
    build(&["registries", "registry2"]).unwrap();
    let real = Real::run(|folder, address| {
        let mut command = Command::new(program("registry2", "registry2"));
        command.arg(folder.join("data")).arg(address.to_string());
        command.arg(folder.join("leaf.crt")).arg(folder.join("leaf.key"));
        command
    });
    Box::pin(check_copies(real, SBOM)).await;
}

#[tokio::test]
async fn copies_to_olareg_are_the_same() {
    Box::pin(check_copies(in_memory("olareg"), SBOM)).await;
}

#[tokio::test]
async fn copies_to_go_containerregistry_are_the_same() {
    // It lists the type of the config and not the one of the manifest.
    Box::pin(check_copies(in_memory("go-containerregistry"), EMPTY)).await;
}

#[tokio::test]
async fn copies_to_cuelabs_are_the_same() {
    Box::pin(check_copies(in_memory("cuelabs"), SBOM)).await;
}
