//! An API server alone, with its etcd, on loopback ports: enough for CRDs, RBAC and admission rules.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::command::{host, output, output_with, until};
use crate::pki::{Authority, SigningKey, kubeconfig};
use crate::{cache, components};

/// etcd and kube-apiserver; both end when the value is dropped, or with the process that holds it.
#[derive(Debug)]
pub struct ApiServer {
    // Dropped in this order: the server before its store, the folder last.
    server: Server,
    store: Server,
    kubectl: PathBuf,
    folder: TempDir,
    kubeconfig: PathBuf,
}

impl ApiServer {
    /// Starts one with the programs of `KUBEBUILDER_ASSETS` (a folder with `etcd`, `kube-apiserver`
    /// and `kubectl`), or else with the harness's own builds. Needs no privileges.
    pub fn start() -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        // A port that was free a moment ago may be somebody else's by now.
        Self::attempt(&programs).or_else(|_| Self::attempt(&programs))
    }

    fn attempt(programs: &Programs) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("catamaran-apiserver-")?;
        let (store_port, port) = (free_port()?, free_port()?);
        let url = format!("https://127.0.0.1:{port}");
        let kubeconfig = write_files(folder.path(), &url)?;
        let store = Server::start(
            folder.path(),
            "etcd",
            &programs.etcd,
            &[
                format!("--data-dir={}", folder.path().join("etcd").display()),
                format!("--listen-client-urls=http://127.0.0.1:{store_port}"),
                format!("--advertise-client-urls=http://127.0.0.1:{store_port}"),
                // Nobody joins it: any port will do.
                "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
                "--unsafe-no-fsync".to_owned(),
            ],
        )?;
        let arguments = server_arguments(folder.path(), store_port, port);
        let server = Server::start(folder.path(), "kube-apiserver", &programs.apiserver, &arguments)?;
        let started = Self {
            server,
            store,
            kubectl: programs.kubectl.clone(),
            folder,
            kubeconfig,
        };
        until("the API server", || {
            // What has ended does not come up.
            if let Err(ended) = started.store.check().and(started.server.check()) {
                return Ok(Err(ended));
            }
            started.kubectl(&["get", "--raw", "/readyz"]).map(Ok)
        })??;
        Ok(started)
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl; what it printed.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        output(self.command().args(args))
    }

    /// Runs kubectl with a text on its standard input, for `-f -`.
    pub fn kubectl_stdin(&self, args: &[&str], stdin: &str) -> anyhow::Result<String> {
        output_with(self.command().args(args), stdin)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.folder.path().join("kube-cache"));
        command
    }
}

struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    kubectl: PathBuf,
}

impl Programs {
    fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
            let program = |name: &str| Path::new(&folder).join(name);
            return Ok(Self {
                etcd: program("etcd"),
                apiserver: program("kube-apiserver"),
                kubectl: program("kubectl"),
            });
        }
        components::build(&["kubernetes", "etcd"])?;
        Ok(Self {
            etcd: cache::binary("etcd", "etcd"),
            apiserver: cache::binary("kubernetes", "kube-apiserver"),
            kubectl: cache::binary("kubernetes", "kubectl"),
        })
    }
}

fn write_files(folder: &Path, url: &str) -> anyhow::Result<PathBuf> {
    let authority = Authority::new("apiserver")?;
    let serving = authority.issue("kube-apiserver", None, &["localhost", "127.0.0.1"])?;
    let admin = authority.issue("admin", Some("system:masters"), &[])?;
    let accounts = SigningKey::new()?;
    let kubeconfig = kubeconfig(url, authority.certificate(), &admin);
    for (name, content) in [
        ("ca.crt", authority.certificate()),
        ("apiserver.crt", &serving.certificate),
        ("apiserver.key", &serving.key),
        ("service-accounts.key", &accounts.private),
        ("service-accounts.pub", &accounts.public),
        ("kubeconfig", &kubeconfig),
    ] {
        fs::write(folder.join(name), content)?;
    }
    Ok(folder.join("kubeconfig"))
}

fn server_arguments(folder: &Path, store_port: u16, port: u16) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{store_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // An address of the documentation's range: nothing follows it, but without one the server
        // looks for a default route and ends if there is none.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // There is no controller that would make the accounts that it demands.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A process that cannot outlive this one.
#[derive(Debug)]
struct Server {
    keeper: Child,
    name: &'static str,
    log: PathBuf,
    pid: PathBuf,
}

impl Server {
    fn start(folder: &Path, name: &'static str, program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let (log, pid) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.pid")));
        // The shell holds the other end of a pipe. When this process ends, however it does, the pipe
        // closes, `cat` returns and the shell kills the server. It ignores signals that were meant for
        // the whole group: it would be gone before the server.
        let script = r#"trap '' INT HUP TERM; log=$1 pid=$2; shift 2; "$@" </dev/null >"$log" 2>&1 & child=$!; echo $child >"$pid"; cat >/dev/null; kill -KILL $child; wait"#;
        let keeper = host("sh")
            .args(["-c", script, "sh"])
            .args([&log, &pid])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start \"{}\"", program.display()))?;
        Ok(Self { keeper, name, log, pid })
    }

    /// Fails with the end of the log if the server has ended.
    fn check(&self) -> anyhow::Result<()> {
        let Ok(pid) = fs::read_to_string(&self.pid) else {
            return Ok(());
        };
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let alive = stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'));
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail = log.len().saturating_sub(2000);
        ensure!(
            alive,
            "failed to keep {} running: {}",
            self.name,
            log.get(tail..).unwrap_or(&log)
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It has no way not to end; and there is nobody to tell.
        let _ = self.keeper.wait();
    }
}
