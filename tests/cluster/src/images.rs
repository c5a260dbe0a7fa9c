//! Images made without a builder: an OCI manifest, a config and uncompressed layers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::binary;
use crate::command::{host, output};
use crate::node::Node;
use crate::processes::Anchor;
use crate::state::State;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const FLUX_CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";
const FLUX_CONTENT: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

/// An image for tests: the harness's own small program. Equal images have equal digests everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestImage {
    /// Makes the image differ from others; a served image answers with it.
    pub variant: String,
    /// What the program does: `serve ADDRESS`, `pause`, `sleep DURATION`, `crash-after DURATION` or `true`.
    pub command: Vec<String>,
}

impl TestImage {
    /// An image with this variant and command.
    pub fn new(variant: &str, command: &[&str]) -> Self {
        Self {
            variant: variant.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// An HTTP server on port 80 that answers with the variant.
    pub fn serving(variant: &str) -> Self {
        Self::new(variant, &["serve", ":80"])
    }
}

/// The bytes of a blob by hash, as manifests name them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// An image whose blobs lie in the cluster's folder.
#[derive(Debug)]
pub(crate) struct Image {
    manifest: Descriptor,
    /// The blobs that the manifest names, for an archive.
    children: Vec<Descriptor>,
}

impl Image {
    /// The harness's program with a command, and the variant in a file of its own.
    pub fn of_tool(state: &State, variant: &str, command: &[&str]) -> anyhow::Result<Self> {
        let variant_file = [Entry::new("variant", 0o644, format!("{variant}\n").into_bytes())];
        let layers = vec![tool_layer(state)?, store(state, LAYER, &tar(&variant_file)?)?];
        Self::assemble(state, layers, &["/tool"], command, variant)
    }

    /// Files of the host in one layer.
    pub fn of_files(state: &State, files: &[(&str, &Path)], entrypoint: &[&str]) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for (name, path) in files {
            let content = fs::read(path).with_context(|| format!("failed to read \"{}\"", path.display()))?;
            entries.push(Entry::new(name.trim_start_matches('/'), 0o755, content));
        }
        let layers = vec![store(state, LAYER, &tar(&entries)?)?];
        Self::assemble(state, layers, entrypoint, &[], "")
    }

    /// Files by their paths, as `flux push artifact` packs them.
    pub fn of_flux(state: &State, files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let entry = |(name, text): &(&str, &str)| Entry::new(name, 0o644, text.as_bytes().to_vec());
        let entries: Vec<_> = files.iter().map(entry).collect();
        let content = store(state, FLUX_CONTENT, &gzip(&tar(&entries)?)?)?;
        let config = store(state, FLUX_CONFIG, b"{}")?;
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]});
        Ok(Self {
            manifest: store(state, MANIFEST, manifest.to_string().as_bytes())?,
            children: vec![content, config],
        })
    }

    fn assemble(
        state: &State,
        layers: Vec<Descriptor>,
        entrypoint: &[&str],
        command: &[&str],
        variant: &str,
    ) -> anyhow::Result<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        // Uncompressed, so that a layer's digest is also its diff ID.
        let ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": {"Entrypoint": entrypoint, "Cmd": command, "Labels": {"variant": variant}},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = store(state, CONFIG, config.to_string().as_bytes())?;
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let manifest = store(state, MANIFEST, manifest.to_string().as_bytes())?;
        Ok(Self {
            manifest,
            children: layers.into_iter().chain([config]).collect(),
        })
    }

    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Puts it straight into containerd on each of these nodes.
    pub fn load(&self, state: &State, anchor: &Anchor, nodes: &[Node], reference: &str) -> anyhow::Result<()> {
        let mut manifest = serde_json::to_value(&self.manifest)?;
        manifest["annotations"] = serde_json::json!({"io.containerd.image.name": reference});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
        let mut entries = vec![
            Entry::new("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            Entry::new("index.json", 0o644, index.to_string().into_bytes()),
        ];
        for blob in self.children.iter().chain([&self.manifest]) {
            let content = fs::read(blob_path(state, &blob.digest))?;
            entries.push(Entry::new(
                &format!("blobs/{}", blob.digest.replace(':', "/")),
                0o644,
                content,
            ));
        }
        let archive = tempfile::NamedTempFile::new_in(state.path("images"))?;
        fs::write(archive.path(), tar(&entries)?)?;
        nodes
            .iter()
            .try_for_each(|node| load_archive(anchor, *node, archive.path()))
    }
}

/// Loads an OCI or docker archive, under the names that are written in it.
pub(crate) fn load_archive(anchor: &Anchor, node: Node, archive: &Path) -> anyhow::Result<()> {
    // Pinned, the kubelet's garbage collection leaves it alone: nothing could pull it again.
    let arguments = [
        "-n",
        "k8s.io",
        "images",
        "import",
        "--label",
        "io.cri-containerd.pinned=pinned",
    ];
    output(ctr(anchor, node).args(arguments).arg(archive)).map(drop)
}

/// Makes a node's containerd forget every image whose name contains `part`, and its content.
pub(crate) fn remove(anchor: &Anchor, node: Node, part: &str) -> anyhow::Result<()> {
    let list = output(ctr(anchor, node).args(["-n", "k8s.io", "images", "list"]))?;
    let images: Vec<(&str, &str)> = list
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?, fields.nth(1)?))
        })
        .collect();
    let (mut doomed, kept): (Vec<_>, Vec<_>) = images.iter().partition(|(name, _)| name.contains(part));
    ensure!(
        !doomed.iter().any(|(name, _)| name.contains("/pause:")),
        "failed to remove \"{part}\": pods need it"
    );
    // The CRI also keeps a name that is the image's ID; it goes with the last real name.
    let used = |digest: &str| {
        kept.iter()
            .any(|(name, other)| *other == digest && !name.starts_with("sha256:"))
    };
    let digests: Vec<_> = doomed
        .iter()
        .map(|(_, digest)| *digest)
        .filter(|digest| !used(digest))
        .collect();
    doomed.extend(
        kept.iter()
            .filter(|(name, digest)| name.starts_with("sha256:") && digests.contains(digest)),
    );
    if doomed.is_empty() {
        return Ok(());
    }
    let names = doomed.iter().map(|(name, _)| *name);
    output(
        ctr(anchor, node)
            .args(["-n", "k8s.io", "images", "remove", "--sync"])
            .args(names),
    )
    .map(drop)
}

fn ctr(anchor: &Anchor, node: Node) -> std::process::Command {
    anchor.on(node, &binary("containerd", "ctr").display().to_string())
}

/// The folder of all blobs, as in an OCI layout.
pub(crate) fn blobs(state: &State) -> PathBuf {
    state.path("images/blobs/sha256")
}

fn blob_path(state: &State, digest: &str) -> PathBuf {
    blobs(state).join(digest.trim_start_matches("sha256:"))
}

fn store(state: &State, media_type: &str, content: &[u8]) -> anyhow::Result<Descriptor> {
    let digest = format!("sha256:{:x}", Sha256::digest(content));
    let path = blob_path(state, &digest);
    fs::create_dir_all(blobs(state))?;
    // By renaming: another test may be reading the same blob.
    let file = tempfile::NamedTempFile::new_in(blobs(state))?;
    fs::write(file.path(), content)?;
    file.persist(&path)
        .with_context(|| format!("failed to write \"{}\"", path.display()))?;
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: content.len() as u64,
    })
}

/// The layer that all test images share; its hash is computed once per cluster.
fn tool_layer(state: &State) -> anyhow::Result<Descriptor> {
    if let Ok(known) = state.read("images/tool-layer.json") {
        return Ok(serde_json::from_str(&known)?);
    }
    let content = fs::read(binary("tool", "tool")).context("failed to read the test images' program")?;
    let layer = store(state, LAYER, &tar(&[Entry::new("tool", 0o755, content)])?)?;
    state.write("images/tool-layer.json", serde_json::to_string(&layer)?)?;
    Ok(layer)
}

/// A file in a tar archive.
struct Entry {
    name: String,
    mode: u32,
    content: Vec<u8>,
}

impl Entry {
    fn new(name: &str, mode: u32, content: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            mode,
            content,
        }
    }
}

/// A POSIX ustar archive of regular files of root, of the first second of 1970.
fn tar(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for entry in entries {
        ensure!(
            entry.name.len() <= 100,
            "failed to archive \"{}\": the name is longer than 100 bytes",
            entry.name
        );
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &entry.name);
        put(100, &format!("{:07o}", entry.mode));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", entry.content.len()));
        put(136, "00000000000");
        // The checksum is computed over a field of blanks.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(&entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

/// Compresses without a name and a time, so that equal content stays equal.
fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let source = tempfile::NamedTempFile::new()?;
    fs::write(source.path(), content)?;
    let output = host("gzip").args(["-n", "-c"]).arg(source.path()).output()?;
    ensure!(
        output.status.success(),
        "failed to compress: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_what_was_archived() {
        let entries = [
            Entry::new("a/b", 0o755, vec![b'x'; 700]),
            Entry::new("c", 0o644, b"hello".to_vec()),
        ];
        let archive = tar(&entries).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut program = Command::new("tar")
            .args(["-xf", "-", "-C"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        program.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(program.wait().unwrap().success());
        assert_eq!(fs::read(folder.path().join("a/b")).unwrap(), vec![b'x'; 700]);
        assert_eq!(fs::read_to_string(folder.path().join("c")).unwrap(), "hello");
    }

    #[test]
    fn a_name_too_long_for_the_format_is_refused() {
        assert!(tar(&[Entry::new(&"x".repeat(101), 0o644, Vec::new())]).is_err());
    }
}
