//! A server as a process, and what the kernel knows about it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use crate::client::{self, Load, Measured};
use crate::servers::Kind;

/// Keeps this process on one core.
pub fn pin_to(core: usize) {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &own])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.unwrap().success(), "this needs two cores and taskset");
}

/// A running server on core 0.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl ServerProcess {
    pub fn start(kind: Kind) -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args(["--serve", kind.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (port, certificate) = line.trim().split_once(' ').unwrap();
        ServerProcess {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())),
            certificate: STANDARD.decode(certificate).unwrap().into(),
        }
    }

    /// One turn of a load.
    pub fn measure(&self, body: &str, load: Load, duration: Duration) -> Measured {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let certificate = || self.certificate.clone();
        runtime.block_on(client::run(
            self.address,
            certificate(),
            body,
            load,
            Duration::from_millis(100),
        ));
        let before = self.cpu();
        let times = runtime.block_on(client::run(self.address, certificate(), body, load, duration));
        let spent = self.cpu().saturating_sub(before);
        let count = u32::try_from(times.len()).unwrap();
        let quantile = |parts: usize| times[(times.len() - 1) * parts / 100];
        Measured {
            rate: f64::from(count) / duration.as_secs_f64(),
            p50: quantile(50),
            p99: quantile(99),
            cpu: spent / count,
        }
    }

    /// Processor time of all threads so far, by the scheduler's nanosecond account.
    fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(self.proc("task")).unwrap();
        let nanoseconds = threads.map(|thread| {
            let statistics = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            statistics.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// TCP connections of the process that it did not accept on its listener.
    pub fn outbound(&self) -> usize {
        let descriptors = std::fs::read_dir(self.proc("fd")).unwrap();
        let sockets: Vec<String> = descriptors
            .filter_map(|descriptor| {
                let target = std::fs::read_link(descriptor.unwrap().path())
                    .ok()?
                    .to_string_lossy()
                    .into_owned();
                Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
            })
            .collect();
        let listener = format!(":{:04X}", self.address.port());
        let tables =
            ["net/tcp", "net/tcp6", "net/udp", "net/udp6"].map(|name| std::fs::read_to_string(self.proc(name)));
        let lines: Vec<String> = tables
            .into_iter()
            .flatten()
            .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let is_foreign = |line: &&String| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            sockets.iter().any(|socket| socket == fields[9]) && !fields[1].ends_with(&listener)
        };
        lines.iter().filter(is_foreign).count()
    }

    /// Resident memory in kB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn proc(&self, entry: &str) -> String {
        format!("/proc/{}/{entry}", self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It ends by itself when its standard input does; this only makes sure that nothing is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
