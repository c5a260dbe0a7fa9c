//! The cluster's PID and mount namespaces, and the daemons in them.
//!
//! PID 1 of the namespace, the anchor, only reaps. When it is killed the kernel ends every daemon,
//! shim and container with it and drops the mounts, so there is no order of stopping to get wrong.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::command::{host, output, until};
use crate::network::namespace_path;
use crate::node::Node;
use crate::state::State;

/// A daemon as it was started, kept so that it can be started again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name in the harness: of the log and of `restart`.
    pub name: String,
    /// The network namespace if it is not the first node's.
    pub namespace: Option<String>,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Beside `PATH`.
    pub environment: Vec<(String, String)>,
}

/// A living PID 1, by its PID outside.
#[derive(Debug, Clone)]
pub struct Anchor {
    state: State,
    pid: u32,
}

impl Anchor {
    pub fn start(state: &State) -> anyhow::Result<Self> {
        let namespace = format!("--net={}", namespace_path(&state.node_namespace()));
        let mut command = host("nsenter");
        command
            .arg(namespace)
            .arg("--")
            .arg(cache::binary("tool", "tool"))
            .arg("anchor")
            .arg(state.folder());
        output(&mut command)?;
        Self::find(state).context("failed to find the anchor that has just been started")
    }

    /// The anchor that the state names, if it is that very process and alive.
    pub fn find(state: &State) -> Option<Self> {
        let text = state.read("anchor").ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything, follow the state and, 19 fields on, the start time.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let same = fields.get(19) == Some(&started) && fields.first() != Some(&"Z");
        same.then(|| Self {
            state: state.clone(),
            pid,
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A command that runs `program` in the namespaces, in the first node's network unless another is named.
    pub fn enter(&self, namespace: Option<&str>, folder: &str, program: &str) -> Command {
        let network = namespace.map_or_else(|| "--net".to_owned(), |name| format!("--net={}", namespace_path(name)));
        let mut command = host("nsenter");
        command.args([
            "-t",
            &self.pid.to_string(),
            "-m",
            "-p",
            &network,
            &format!("--wdns={folder}"),
            "--",
            program,
        ]);
        command
    }

    /// A command that runs `program` on a node: in its network, with its mounts.
    pub fn on(&self, node: Node, program: &str) -> Command {
        let words = node.entrance(&self.state);
        let mut words = words.iter().map(String::as_str).chain([program]);
        let namespace = (node != Node::First).then(|| node.namespace(&self.state));
        let mut command = self.enter(namespace.as_deref(), "/", words.next().unwrap_or(program));
        command.args(words);
        command
    }

    /// Ends everything, and waits until it has.
    pub fn kill(self) -> anyhow::Result<()> {
        output(host("kill").args(["-KILL", &self.pid.to_string()]))?;
        until("the end of the anchor", || {
            ensure!(Self::find(&self.state).is_none(), "process {} is still there", self.pid);
            Ok(())
        })
    }

    /// Starts a daemon detached, with its output in the log. Its parent becomes the anchor.
    pub fn spawn(&self, daemon: &Daemon) -> anyhow::Result<()> {
        self.state.write(
            &format!("processes/{}.json", daemon.name),
            serde_json::to_string(daemon)?,
        )?;
        let script = r#"log=$1 pid=$2; shift 2; setsid "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid""#;
        let mut command = self.enter(daemon.namespace.as_deref(), "/", "sh");
        let path = [
            cache::folder().join("bin/containerd").display().to_string(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        command
            .env_clear()
            .env("PATH", path.join(":"))
            .env("HOME", self.state.path("home"))
            .envs(daemon.environment.iter().cloned())
            .args(["-c", script, "sh"])
            .arg(self.state.log(&daemon.name))
            .arg(self.pid_file(&daemon.name))
            .args(&daemon.words);
        output(&mut command)
            .with_context(|| format!("failed to start \"{}\"", daemon.name))
            .map(drop)
    }

    /// Kills a daemon as a crash would, and starts it as it was.
    pub fn restart(&self, name: &str) -> anyhow::Result<()> {
        let daemon = self.state.read(&format!("processes/{name}.json"));
        let daemon = daemon.with_context(|| format!("failed to restart \"{name}\": no such component"))?;
        self.stop(name)?;
        self.spawn(&serde_json::from_str(&daemon)?)
    }

    /// Kills a daemon; fine if it is dead.
    pub fn stop(&self, name: &str) -> anyhow::Result<()> {
        until(&format!("the end of \"{name}\""), || {
            if !self.alive(name) {
                return Ok(());
            }
            let pid = fs::read_to_string(self.pid_file(name))?;
            // It may have ended in between, which the next turn sees.
            let _ = output(self.enter(None, "/", "kill").args(["-KILL", pid.trim()]));
            anyhow::bail!("\"{name}\" is still there")
        })
    }

    pub fn alive(&self, name: &str) -> bool {
        let Ok(pid) = fs::read_to_string(self.pid_file(name)) else {
            return false;
        };
        // The file holds the PID inside: look through the anchor's own /proc.
        let stat = fs::read_to_string(format!("/proc/{}/root/proc/{}/stat", self.pid, pid.trim()));
        stat.ok()
            .and_then(|stat| Some(!stat.rsplit_once(')')?.1.trim_start().starts_with('Z')))
            .unwrap_or(false)
    }

    /// All that were started, by name.
    pub fn daemons(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.state.path("processes"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.state.path(&format!("processes/{name}.pid"))
    }
}
