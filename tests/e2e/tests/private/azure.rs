//! Azure on the cluster: its registry in front of what the cluster keeps for it, and the endpoint of managed identities.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use catamaran_cluster::{Cluster, Registry};
use serde_json::Value;

/// The first argument of this program when it is to be an emulator, in a process and network of its own.
pub const EMULATOR: &str = "--emulator";

/// The object id of the identity that the operator's pods have.
const IDENTITY: &str = "11111111-2222-4333-8444-555555555555";
/// What proves to the identity endpoint that a request comes from the machine.
const HEADER: &str = "header-of-the-tests-alone";
/// The endpoint's port on the node.
const PORT: u16 = 4711;

/// Is the emulator that the arguments name until its input ends.
pub fn emulate(arguments: Vec<String>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(catamaran_emulators::program::run(
            arguments.into_iter().map(OsString::from),
        ))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the operator's pods find their identity.
pub fn environment() -> [(&'static str, String); 2] {
    let endpoint = format!("http://{}:{PORT}/msi/token", Cluster::node_address());
    [("IDENTITY_ENDPOINT", endpoint), ("IDENTITY_HEADER", HEADER.to_owned())]
}

/// Both services. When it is dropped they end, and the cluster's own registry is back.
pub struct Azure<'c> {
    cluster: &'c Cluster,
    /// The endpoint of managed identities.
    pub identity: Emulator,
    registry: Option<Emulator>,
}

impl<'c> Azure<'c> {
    /// Starts both; the registry's refresh tokens live for so many seconds.
    pub fn start(cluster: &'c Cluster, refresh_life: u32) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let program = program
            .to_str()
            .context("failed to name this program: its path is not UTF-8")?;
        let listen = format!("{}:{PORT}", Cluster::node_address());
        let arguments = ["managed", "--header", HEADER, "--system", IDENTITY, "--listen", &listen];
        let identity = Emulator::start(cluster.command(program), &arguments)?;
        let place = cluster.vacate_front(Registry::Acr)?;
        let mut azure = Self {
            cluster,
            identity,
            registry: None,
        };
        let life = refresh_life.to_string();
        let (certificate, key) = (place.certificate.display().to_string(), place.key.display().to_string());
        let (host, data_host) = (Registry::Acr.host(), Registry::Acr.data_host());
        let arguments = [
            &[
                "acr",
                "--host",
                host,
                "--data-host",
                data_host,
                "--upstream",
                &place.upstream,
            ][..],
            &["--cert", &certificate, "--key", &key, "--listen", place.listen],
            &["--reader", IDENTITY, "--refresh-life", &life],
        ];
        let command = cluster.command_beside(Registry::Acr, program);
        azure.registry = Some(Emulator::start(command, &arguments.concat())?);
        Ok(azure)
    }

    /// Tells the registry something; see the emulators' `control`.
    pub fn registry(&mut self, line: &str) -> anyhow::Result<Value> {
        self.registry.as_mut().context("the registry has ended")?.tell(line)
    }
}

impl Drop for Azure<'_> {
    fn drop(&mut self) {
        self.registry = None;
        if let Err(error) = self.cluster.restore_front(Registry::Acr) {
            println!("    failed to put the registry back: {error:#}");
        }
    }
}

/// A service in a process of its own, which ends when this is dropped.
pub struct Emulator {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Emulator {
    fn start(mut command: Command, arguments: &[&str]) -> anyhow::Result<Self> {
        command.arg(EMULATOR).args(arguments);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("it has no output")?;
        let mut emulator = Self {
            input: process.stdin.take(),
            output: BufReader::new(output),
            process,
        };
        emulator
            .heard()
            .with_context(|| format!("failed to start the emulator: {arguments:?}"))?;
        Ok(emulator)
    }

    /// Says a line and hears the answer.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<Value> {
        writeln!(self.input.as_mut().context("it hears nothing any more")?, "{line}")?;
        let answer = self.heard()?;
        ensure!(answer["error"].is_null(), "an emulator was told '{line}': {answer}");
        Ok(answer)
    }

    fn heard(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("failed to understand an emulator: '{line}'"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It ends with its input, wherever in the cluster it is; a signal would only reach what entered there.
        self.input = None;
        let _ = self.process.wait();
    }
}
