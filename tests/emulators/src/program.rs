//! The program `emulator`, for tests that run one in a process of its own: in another network namespace, say.

use std::ffi::OsString;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tokio::sync::mpsc;
use url::Url;

use crate::acr::Rights;
use crate::entra::Entra;
use crate::managed::Managed;
use crate::{Acr, Authority, Clock, Memory, Options, Proxy, Server, Service, Storage, Tls, control};

/// How long access tokens live.
const ACCESS_LIFE: Duration = Duration::from_mins(75);

/// A cloud's registry or identity service on this machine, for tests.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    emulator: Emulator,
    /// Where to listen.
    #[arg(long, global = true, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The certificate to show (PEM, leaf first); otherwise one is made for any name.
    #[arg(long, global = true, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, global = true, requires = "cert")]
    key: Option<PathBuf>,
    /// Milliseconds before each answer.
    #[arg(long, global = true, default_value_t = 0)]
    latency: u64,
}

#[derive(Subcommand)]
enum Emulator {
    /// Azure Container Registry.
    Acr(AcrArguments),
    /// The token endpoint of Microsoft Entra ID.
    Entra {
        /// An application with a federated credential: tenant,client id,object id,subject.
        #[arg(long = "application", value_parser = four)]
        applications: Vec<[String; 4]>,
    },
    /// Managed identities, over plain HTTP: App Service and instance metadata.
    Managed {
        /// The value of App Service's secret header.
        #[arg(long, default_value = "")]
        header: String,
        /// The object id of the machine's own identity.
        #[arg(long)]
        system: Option<String>,
    },
}

#[derive(Args)]
struct AcrArguments {
    /// The login server.
    #[arg(long)]
    host: String,
    /// A distribution registry on plain HTTP that holds the content; otherwise it is in memory.
    #[arg(long)]
    upstream: Option<Url>,
    /// Everyone may pull and list.
    #[arg(long)]
    anonymous: bool,
    /// Rights are given by repository.
    #[arg(long)]
    abac: bool,
    /// An account that may pull, push and list everything: user:password.
    #[arg(long = "account", value_parser = two)]
    accounts: Vec<[String; 2]>,
    /// The object id of an Entra identity that may pull and list everything.
    #[arg(long = "reader")]
    readers: Vec<String>,
    /// Another name of this server that blobs are sent from.
    #[arg(long)]
    data_host: Option<String>,
    /// Seconds that a refresh token lives.
    #[arg(long, default_value_t = 10_800)]
    refresh_life: u64,
    /// Repositories to start with, in memory: as many, with as many tags each.
    #[arg(long, value_parser = counts, default_value = "0x0")]
    fill: (usize, usize),
}

fn two(text: &str) -> Result<[String; 2], String> {
    let (user, password) = text.split_once(':').ok_or("must be user:password")?;
    Ok([user.to_owned(), password.to_owned()])
}

fn four(text: &str) -> Result<[String; 4], String> {
    let parts: Vec<String> = text.split(',').map(str::to_owned).collect();
    parts
        .try_into()
        .map_err(|_| "must be tenant,client id,object id,subject".to_owned())
}

fn counts(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "must be REPOSITORIESxTAGS, such as 100x100".to_owned();
    let (repositories, tags) = text.split_once('x').ok_or_else(wrong)?;
    Ok((
        repositories.parse().map_err(|_| wrong())?,
        tags.parse().map_err(|_| wrong())?,
    ))
}

fn filled((repositories, tags): (usize, usize), clock: &Clock) -> Memory {
    let memory = Memory::new(clock.clone());
    for repository in 0..repositories {
        for tag in 0..tags {
            memory.push(
                &format!("app-{repository:03}"),
                &format!("{tag:07x}"),
                &format!("content {tag}"),
            );
        }
    }
    memory
}

fn acr(arguments: AcrArguments, clock: &Clock) -> anyhow::Result<Arc<dyn Service>> {
    let storage: Arc<dyn Storage> = if let Some(upstream) = arguments.upstream {
        Arc::new(Proxy::new(upstream, clock.clone())?)
    } else {
        Arc::new(filled(arguments.fill, clock))
    };
    let acr = Acr::new(&arguments.host, storage, clock.clone());
    acr.set_anonymous_pull(arguments.anonymous);
    acr.set_abac(arguments.abac);
    acr.set_data_host(arguments.data_host.as_deref());
    acr.set_lives(Duration::from_secs(arguments.refresh_life), ACCESS_LIFE);
    for [user, password] in &arguments.accounts {
        acr.add_account(user, password, Rights::writer("*"));
    }
    for reader in &arguments.readers {
        acr.grant(reader, Rights::reader("*"));
    }
    Ok(Arc::new(acr))
}

fn service(emulator: Emulator, clock: &Clock) -> anyhow::Result<(Arc<dyn Service>, bool)> {
    Ok(match emulator {
        Emulator::Acr(arguments) => (acr(arguments, clock)?, true),
        Emulator::Entra { applications } => {
            let entra = Entra::new(clock.clone());
            for [tenant, client_id, object_id, subject] in &applications {
                entra.federate(tenant, client_id, object_id, subject);
            }
            (Arc::new(entra), true)
        }
        Emulator::Managed { header, system } => {
            let managed = Managed::new(&header, clock.clone());
            if let Some(object_id) = system {
                managed.set_system(&object_id);
            }
            (Arc::new(managed), false)
        }
    })
}

fn authority(arguments: &Arguments) -> anyhow::Result<Authority> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("failed to read '{}'", path.display()));
    match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => Ok(Authority::from_pem(&read(cert)?, &read(key)?)?),
        _ => Ok(Authority::new()?),
    }
}

/// Serves the emulator that the arguments name (the program's own name first) until the input ends. The first line of output is
/// `{"address": …, "ca": …}`; for what may be said then, see [`control`].
///
/// # Errors
/// When a file can't be read, or nothing can listen at the address. Wrong arguments end the process.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let arguments = Arguments::parse_from(arguments);
    let authority = Arc::new(authority(&arguments)?);
    let clock = Clock::new();
    let (service, secure) = service(arguments.emulator, &clock)?;
    let options = Options {
        address: arguments.listen,
        tls: Some(if secure { Tls::By(authority) } else { Tls::Off }),
        latency: Duration::from_millis(arguments.latency),
        clock,
    };
    let server = Server::start(service, options).await;
    let server = server.with_context(|| format!("failed to listen at {}", arguments.listen))?;
    let mut output = std::io::stdout();
    writeln!(
        output,
        "{}",
        json!({"address": server.address(), "ca": server.ca_pem()})
    )?;
    let (lines, mut said) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let input = std::io::stdin().lock();
        input
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(lines.send(line)));
    });
    while let Some(line) = said.recv().await {
        writeln!(output, "{}", control::obey(&server, &line))?;
    }
    // The process that started this has gone.
    output.flush().map_err(|error| anyhow!(error))
}
