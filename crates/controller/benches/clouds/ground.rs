//! Azure's and GitHub's registries, emulated in a process of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_emulators::acr::Rights;
use catamaran_emulators::{Acr, Clock, Ghcr, GithubRest, Hosts, Memory, Options, Server, control};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::plan::{self, ACCOUNT, AZURE, GITHUB, Kind, PASSWORD, PAT, REST, Size, USER};
use crate::talk::Talk;

/// The argument that makes this program serve registries; the size follows.
pub const ROLE: &str = "--serve";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where the registries are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// All of them, told apart by the name that is asked for.
    pub address: SocketAddr,
    /// The authority that vouches for them (PEM).
    pub ca: String,
    /// A proxy that leads there from their names, for programs that can't be told an address.
    pub proxy: SocketAddr,
}

/// The registries, seen from the one that counts.
pub struct Ground {
    talk: Talk,
    /// Where they are.
    pub place: Place,
    /// What they hold.
    pub size: Size,
}

impl Ground {
    /// Starts and fills them.
    pub fn start(size: Size) -> Ground {
        let text = serde_json::to_string(&size).expect("a size can be told");
        let mut talk = Talk::start(&[ROLE, &text]);
        let place = talk.hear();
        Ground { talk, place, size }
    }

    /// From now on every answer takes so long, and requests count from none.
    pub fn begin(&mut self, latency: Duration) {
        self.talk.tell(&format!("latency {}", latency.as_millis()));
        self.talk.tell("clear");
    }

    /// Requests since then.
    pub fn requests(&mut self) -> u64 {
        let counts: Value = self.talk.say("counts");
        counts["total"].as_u64().expect("registries count")
    }
}

/// Serves until the input ends.
pub async fn serve(size: Size) {
    let clock = Clock::new();
    let (azure, github) = fill(size, &clock);
    let acr = Acr::new(AZURE, azure, clock.clone());
    acr.add_account(USER, PASSWORD, Rights::reader("*"));
    let ghcr = Ghcr::new(github.clone(), clock.clone());
    github.repositories().iter().for_each(|package| ghcr.publish(package));
    ghcr.add_token(PAT, &["*"]);
    let rest = GithubRest::new(github, clock.clone());
    rest.add_token(PAT);
    rest.add_user(ACCOUNT);
    let hosts = Hosts::new()
        .with(AZURE, Arc::new(acr))
        .with(GITHUB, Arc::new(ghcr))
        .with(REST, Arc::new(rest));
    let options = Options {
        clock,
        ..Options::default()
    };
    let server = Server::start(Arc::new(hosts), options).await.expect("a server starts");
    let place = Place {
        address: server.address(),
        ca: server.ca_pem().expect("it speaks TLS").to_owned(),
        proxy: proxy(server.address()).await,
    };
    println!("{}", json!(place));
    let (lines, mut said) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let input = std::io::stdin().lines().map_while(Result::ok);
        input.for_each(|line| drop(lines.send(line)));
    });
    while let Some(line) = said.recv().await {
        println!("{}", control::obey(&server, &line));
    }
}

fn fill(size: Size, clock: &Clock) -> (Arc<Memory>, Arc<Memory>) {
    let (azure, github) = (Memory::new(clock.clone()), Memory::new(clock.clone()));
    let push = |memory: &Memory, repository: &str, tag: &str, content: &str| {
        let body = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "annotations": {"content": content},
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
        });
        memory.put_manifest(repository, Some(tag), MANIFEST, body.to_string());
    };
    for (repository, tag) in size.names() {
        let content = format!("{repository}:{tag}");
        push(&azure, &repository, &tag, &content);
        push(&github, &format!("{ACCOUNT}/{repository}"), &tag, &content);
    }
    for (repository, tag, kind) in plan::planted(size) {
        let package = format!("{ACCOUNT}/{repository}");
        match kind {
            Kind::NotOnAzure => azure.untag(&repository, &tag),
            Kind::NotOnGithub => github.untag(&package, &tag),
            Kind::Differs => push(&github, &package, &tag, "something else"),
        }
    }
    (Arc::new(azure), Arc::new(github))
}

/// Leads everyone to `target`, whatever name is asked for.
async fn proxy(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(lead(client, target));
        }
    });
    address
}

async fn lead(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
