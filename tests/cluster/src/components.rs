//! The programs of the cluster, built from pinned Go modules into the cache.
//!
//! A component is rebuilt when a file of its module, how it is built or the Go version changes:
//! their hash stands beside the programs as a stamp.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::{cache, command};

/// A Go module of the harness and what is built from it.
struct Component {
    name: &'static str,
    /// Its module, relative to this crate.
    module: &'static str,
    /// The packages, and the programs that they become, in the same order.
    packages: &'static [&'static str],
    programs: &'static [&'static str],
    /// Version variables for the linker: what the build system of the original sets.
    variables: &'static [(&'static str, &'static str)],
    /// Go modules whose resource definitions are kept beside the programs, in one file.
    definitions: &'static [&'static str],
}

/// What a cluster needs none of: built when it is asked for by name.
const EXTRAS: [&str; 6] = ["regsync", "helm3", "flux", "etcd-tools", "registries", "registry2"];

/// What debuggers would read is left out by the linker anyway; not to make it saves a tenth.
const COMPILER_FLAGS: &str = "-gcflags=all=-dwarf=false";

/// The file of a component's resource definitions.
const DEFINITIONS: &str = "definitions.yaml";

const COMPONENTS: [Component; 14] = [
    Component {
        name: "tool",
        module: "tool",
        packages: &["."],
        programs: &["tool"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "kubernetes",
        module: "components/kubernetes",
        packages: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/cmd/kubectl",
        ],
        programs: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        ],
        // Without these it calls itself v0.0.0-master, and a node of that version is refused pods.
        variables: &[
            ("k8s.io/component-base/version.gitVersion", "v1.36.3"),
            ("k8s.io/component-base/version.gitMajor", "1"),
            ("k8s.io/component-base/version.gitMinor", "36"),
            ("k8s.io/client-go/pkg/version.gitVersion", "v1.36.3"),
        ],
        definitions: &[],
    },
    Component {
        name: "etcd",
        module: "components/etcd",
        packages: &["go.etcd.io/etcd/server/v3"],
        programs: &["etcd"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "etcd-tools",
        module: "components/etcd-tools",
        packages: &["go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"],
        programs: &["etcdctl", "etcdutl"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "registry",
        module: "components/registry",
        packages: &["."],
        programs: &["registry"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "cni",
        module: "components/cni",
        packages: &[
            "github.com/containernetworking/plugins/plugins/ipam/host-local",
            "github.com/containernetworking/plugins/plugins/main/loopback",
            "github.com/containernetworking/plugins/plugins/main/ptp",
            "github.com/containernetworking/plugins/plugins/meta/portmap",
        ],
        programs: &["host-local", "loopback", "ptp", "portmap"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "containerd",
        module: "components/containerd",
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
            "./pull",
        ],
        programs: &["containerd", "containerd-shim-runc-v2", "ctr", "pull"],
        variables: &[("github.com/containerd/containerd/v2/version.Version", "v2.4.2")],
        definitions: &[],
    },
    Component {
        name: "coredns",
        module: "components/coredns",
        packages: &["."],
        programs: &["coredns"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "helm",
        module: "components/helm",
        packages: &["helm.sh/helm/v4/cmd/helm"],
        programs: &["helm"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "helm3",
        module: "components/helm3",
        packages: &["helm.sh/helm/v3/cmd/helm"],
        programs: &["helm"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "flux",
        module: "components/flux",
        packages: &[
            "github.com/fluxcd/source-controller",
            "github.com/fluxcd/kustomize-controller",
            "github.com/fluxcd/helm-controller",
        ],
        programs: &["source-controller", "kustomize-controller", "helm-controller"],
        variables: &[],
        definitions: &[
            "github.com/fluxcd/source-controller",
            "github.com/fluxcd/kustomize-controller",
            "github.com/fluxcd/helm-controller",
        ],
    },
    Component {
        name: "regsync",
        module: "components/regsync",
        packages: &["github.com/regclient/regclient/cmd/regsync"],
        programs: &["regsync"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "registries",
        module: "components/registries",
        packages: &[
            ".",
            "github.com/google/go-containerregistry/cmd/crane",
            "github.com/regclient/regclient/cmd/regctl",
        ],
        programs: &["registries", "crane", "regctl"],
        variables: &[],
        definitions: &[],
    },
    Component {
        name: "registry2",
        module: "components/registry2",
        packages: &["."],
        programs: &["registry2"],
        variables: &[],
        definitions: &[],
    },
];

/// Builds what is missing or stale; `only` limits it to components by name, empty means all that a cluster needs.
pub fn build(only: &[&str]) -> anyhow::Result<()> {
    for name in only {
        ensure!(
            COMPONENTS.iter().any(|known| known.name == *name),
            "failed to build \"{name}\": no such component"
        );
    }
    let go = command::output(command::host("go").args(["env", "GOVERSION"]))
        .context("failed to find Go: `make deps` says what has to be installed")?;
    for component in &COMPONENTS {
        let needed = only.is_empty() && !EXTRAS.contains(&component.name);
        if needed || only.contains(&component.name) {
            component.build(go.trim())?;
        }
    }
    Ok(())
}

/// Where a program of a component is, once that is built: for what needs no cluster, as rendering a chart does.
pub fn program(component: &str, program: &str) -> PathBuf {
    cache::binary(component, program)
}

/// The resource definitions of a component that has some, as YAML documents.
pub(crate) fn definitions(component: &str) -> anyhow::Result<String> {
    let path = cache::binary(component, DEFINITIONS);
    fs::read_to_string(&path).with_context(|| format!("failed to read \"{}\"", path.display()))
}

impl Component {
    fn build(&self, go: &str) -> anyhow::Result<()> {
        // Each by itself: what waits for one component need not wait for another.
        let _lock = cache::lock(&format!("build-{}", self.name))?;
        let stamp = self.stamp(&self.source(), go)?;
        let stamp_file = cache::folder().join("stamps").join(self.name);
        let mut files = self.programs.to_vec();
        files.extend((!self.definitions.is_empty()).then_some(DEFINITIONS));
        let complete = files.iter().all(|file| cache::binary(self.name, file).is_file());
        if complete && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(());
        }
        eprintln!("cluster: building {}", self.name);
        let start = Instant::now();
        // A build that is interrupted leaves programs of which none may be taken for one of the last whole build.
        match fs::remove_file(&stamp_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove \"{}\"", stamp_file.display()));
            }
            _ => {}
        }
        self.compile()
            .and_then(|()| self.keep_definitions())
            .with_context(|| format!("failed to build \"{}\"", self.name))?;
        fs::create_dir_all(cache::folder().join("stamps"))?;
        fs::write(&stamp_file, stamp)?;
        eprintln!("cluster: built {} in {} s", self.name, start.elapsed().as_secs());
        Ok(())
    }

    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.module)
    }

    fn linker_flags(&self) -> String {
        let mut flags = String::from("-s -w");
        for (variable, value) in self.variables {
            let _ = write!(flags, " -X {variable}={value}");
        }
        flags
    }

    /// The hash of everything that the programs depend on.
    fn stamp(&self, source: &Path, go: &str) -> anyhow::Result<String> {
        let files = all_files(source)?;
        let mut hash = Sha256::new();
        let flags = self.linker_flags();
        hash.update(format!(
            "{go}\n{COMPILER_FLAGS}\n{flags}\n{}\n",
            self.packages.join(" ")
        ));
        hash.update(self.definitions.join(" "));
        for file in files {
            let content = fs::read(&file)?;
            let name = file.strip_prefix(source).unwrap_or(&file);
            hash.update(format!("{} {}\n", name.display(), content.len()));
            hash.update(content);
        }
        Ok(format!("{:x}\n", hash.finalize()))
    }

    fn compile(&self) -> anyhow::Result<()> {
        let target = cache::folder().join("bin").join(self.name);
        fs::create_dir_all(&target)?;
        // Go puts several programs into a folder, under the names of their packages; one alone can be named.
        let output = if let [program] = self.programs {
            target.join(program)
        } else {
            target
        };
        let mut go = command::host("go");
        go.current_dir(self.source())
            .env("CGO_ENABLED", "0")
            // The compiler is a program of seconds: memory is there for it, and collecting it takes a tenth of its time.
            .env("GOGC", "400")
            .args([
                "build",
                "-buildvcs=false",
                "-trimpath",
                COMPILER_FLAGS,
                "-ldflags",
                &self.linker_flags(),
                "-o",
            ])
            .arg(output)
            .args(self.packages);
        command::output(&mut go).map(drop)
    }

    /// They stand in the modules' sources, where Go has put them to build the programs.
    fn keep_definitions(&self) -> anyhow::Result<()> {
        if self.definitions.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for module in self.definitions {
            let mut go = command::host("go");
            go.current_dir(self.source())
                .args(["list", "-m", "-f", "{{.Dir}}", module]);
            let folder = Path::new(command::output(&mut go)?.trim()).join("config/crd/bases");
            for file in sorted(&folder)? {
                let _ = write!(text, "---\n{}\n", fs::read_to_string(&file)?);
            }
        }
        let file = cache::binary(self.name, DEFINITIONS);
        fs::write(&file, text).with_context(|| format!("failed to write \"{}\"", file.display()))
    }
}

/// The files of a folder and of those in it.
fn all_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in sorted(folder)? {
        if entry.is_dir() {
            files.extend(all_files(&entry)?);
        } else {
            files.push(entry);
        }
    }
    Ok(files)
}

/// What is in a folder.
fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("failed to read \"{}\"", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What each component has as it was released: it is itself under test (the Helm inside of Flux, how a resource's state is
    /// judged, how an expression is evaluated), or does not compile with another (containerd).
    /// Of everything else two components need the same version, which Go then compiles once.
    const AS_RELEASED: [&str; 4] = [
        "helm.sh/helm/v4",
        "github.com/fluxcd/cli-utils",
        "github.com/google/cel-go",
        "k8s.io/cri-api",
    ];

    #[test]
    fn a_stamp_changes_with_the_files_the_flags_and_the_go_version() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), "module a\n").unwrap();
        let component = |variables| Component {
            name: "a",
            module: "a",
            packages: &["."],
            programs: &["a"],
            variables,
            definitions: &[],
        };
        let plain = component(&[]);
        let first = plain.stamp(folder.path(), "go1").unwrap();
        assert_eq!(first, plain.stamp(folder.path(), "go1").unwrap());
        assert_ne!(first, plain.stamp(folder.path(), "go2").unwrap());
        assert_ne!(first, component(&[("v", "1")]).stamp(folder.path(), "go1").unwrap());
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/main.go"), "").unwrap();
        assert_ne!(first, plain.stamp(folder.path(), "go1").unwrap());
    }

    /// The modules that a component is built with, and their versions: what it requires, or what that is replaced by.
    fn versions(component: &Component) -> BTreeMap<String, String> {
        let text = fs::read_to_string(component.source().join("go.mod")).unwrap();
        let (mut versions, mut replaced) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            let line = line.trim_start_matches("require ").trim_start_matches("replace ");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [module, "=>", _, version] => replaced.insert(module.to_owned(), version.to_owned()),
                [module, version, ..] if version.starts_with('v') => {
                    versions.insert(module.to_owned(), version.to_owned())
                }
                _ => None,
            };
        }
        // What is replaced and not required is not there.
        replaced.retain(|module, _| versions.contains_key(module));
        versions.extend(replaced);
        versions
    }

    #[test]
    fn what_components_share_has_one_version() {
        let mut known: BTreeMap<String, (&str, String)> = BTreeMap::new();
        let mut apart = Vec::new();
        // What is measured beside the operator, or copied to, is as it was released, whole.
        let whole = ["regsync", "registries", "registry2"];
        for component in COMPONENTS.iter().filter(|component| !whole.contains(&component.name)) {
            for (module, version) in versions(component) {
                let (first, other) = known.entry(module.clone()).or_insert((component.name, version.clone()));
                if *other != version && !AS_RELEASED.contains(&module.as_str()) {
                    apart.push(format!(
                        "{module} is {other} in {first} and {version} in {}: `go get` one there, or replace it",
                        component.name
                    ));
                }
            }
        }
        assert!(known.len() > 300, "only {} modules were read", known.len());
        assert!(apart.is_empty(), "{}", apart.join("\n"));
    }

    #[test]
    fn every_component_has_a_module_and_a_program_per_package() {
        for component in &COMPONENTS {
            assert!(component.source().join("go.mod").is_file(), "{}", component.name);
            assert_eq!(component.packages.len(), component.programs.len(), "{}", component.name);
        }
    }
}
