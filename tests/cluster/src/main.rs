//! The harness on the command line: `cluster up`, look around, `cluster down`.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use catamaran_cluster::{Cluster, Fault, Node, Options, Registry, TestImage, Traffic, components};
use clap::{Parser, Subcommand};

/// A real Kubernetes of one or two nodes with two registries under their real names.
#[derive(Parser)]
#[command(name = "cluster")]
struct Arguments {
    /// Tells clusters of one machine apart.
    #[arg(long, env = "CATAMARAN_CLUSTER", default_value = "catamaran", global = true)]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the components that are missing or stale.
    Build {
        /// Only these.
        components: Vec<String>,
    },
    /// Start the cluster, or do nothing if it is well.
    Up {
        /// How many nodes it has: 1 or 2.
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Let the kubelet pull one image at a time.
        #[arg(long)]
        serialize_image_pulls: bool,
        /// A further argument of kube-apiserver.
        #[arg(long = "apiserver-arg", allow_hyphen_values = true)]
        apiserver_args: Vec<String>,
        /// A further argument of the kubelet.
        #[arg(long = "kubelet-arg", allow_hyphen_values = true)]
        kubelet_args: Vec<String>,
    },
    /// End the cluster, whatever state it is in.
    Down,
    /// Say what runs; the exit status is 1 if something does not.
    Status,
    /// Print variables for a shell: eval "$(cluster env)".
    Env,
    /// Run a program inside.
    #[command(trailing_var_arg = true)]
    Exec {
        /// The program and its arguments.
        #[arg(required = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Run kubectl as administrator.
    #[command(trailing_var_arg = true, disable_help_flag = true)]
    Kubectl {
        /// Its arguments.
        #[arg(allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Run helm.
    #[command(trailing_var_arg = true, disable_help_flag = true)]
    Helm {
        /// Its arguments.
        #[arg(allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Start Flux' source, kustomize and helm controller beside the cluster, built if need be.
    Flux,
    /// Push a test image and print its digest.
    #[command(trailing_var_arg = true)]
    Push {
        /// Only to this registry.
        #[arg(long)]
        to: Option<Registry>,
        /// What makes the image differ from others; the tag unless given.
        #[arg(long)]
        variant: Option<String>,
        /// REPOSITORY:TAG.
        image: String,
        /// What it runs.
        #[arg(default_values = ["serve", ":80"], allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Remove a tag from a registry.
    Untag {
        /// acr or ghcr.
        registry: Registry,
        /// REPOSITORY:TAG.
        image: String,
    },
    /// Make a registry fail: black-hole, refused, node-refused, reset, silent, hang, delay=300ms,
    /// http=503[,retry-after=30][,path=web], varying-errors, token=503, blob-host-dead.
    Fault {
        /// acr or ghcr.
        registry: Registry,
        /// What is wrong with it.
        fault: Fault,
        /// Only for the traffic of this node and its pods; may be given twice. For black-hole, refused and blob-host-dead.
        #[arg(long = "node")]
        nodes: Vec<Node>,
        /// Only for the node itself: its pods are not affected.
        #[arg(long, requires = "nodes")]
        own: bool,
    },
    /// End the fault of a registry, or of both.
    Heal {
        /// acr or ghcr.
        registry: Option<Registry>,
    },
    /// Remove images from all nodes by a part of their reference.
    RemoveImages {
        /// The part.
        part: String,
    },
    /// Kill a component and start it again.
    Restart {
        /// As `status` names it.
        component: String,
    },
    /// Print what a component has printed.
    Logs {
        /// As `status` names it.
        component: String,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let name = arguments.name;
    let running = || Cluster::attach(&name)?.with_context(|| format!("failed to find cluster \"{name}\": not up"));
    match arguments.action {
        Action::Build { components } => {
            components::build(&components.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Action::Up {
            nodes,
            serialize_image_pulls,
            apiserver_args,
            kubelet_args,
        } => {
            let options = Options {
                name,
                nodes,
                serialize_image_pulls,
                apiserver_args,
                kubelet_args,
                ..Options::default()
            };
            let start = Instant::now();
            Cluster::up(&options)?;
            eprintln!("cluster: up after {:.1} s", start.elapsed().as_secs_f64());
        }
        Action::Down => Cluster::destroy(&name)?,
        Action::Status => return status(&running()?),
        Action::Env => print_environment(&running()?)?,
        Action::Exec { words } => return become_child(&running()?, &words[0], &words[1..]),
        Action::Kubectl { words } => return become_child(&running()?, "kubectl", &words),
        Action::Helm { words } => return become_child(&running()?, "helm", &words),
        Action::Flux => running()?.start_flux()?,
        Action::Push {
            to,
            variant,
            image,
            command,
        } => {
            let to = to.map_or_else(|| Registry::ALL.to_vec(), |registry| vec![registry]);
            print(&format!("{}\n", push(&running()?, &to, variant, &image, command)?))?;
        }
        Action::Untag { registry, image } => {
            let (repository, tag) = split(&image)?;
            running()?.delete_tag(registry, repository, tag)?;
        }
        Action::Fault {
            registry,
            fault,
            nodes,
            own,
        } => set_fault(&running()?, registry, fault, nodes, own)?,
        Action::Heal { registry } => heal(&running()?, registry)?,
        Action::RemoveImages { part } => running()?.remove_images(&part)?,
        Action::Restart { component } => running()?.restart(&component)?,
        Action::Logs { component } => print(&running()?.logs(&component)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// For all traffic, unless nodes are named.
fn set_fault(cluster: &Cluster, registry: Registry, fault: Fault, nodes: Vec<Node>, own: bool) -> anyhow::Result<()> {
    if nodes.is_empty() {
        return cluster.fault(registry, fault);
    }
    let traffic = if own { Traffic::NodeItself } else { Traffic::Node };
    let traffic: Vec<_> = nodes.into_iter().map(traffic).collect();
    cluster.fault_for(&traffic, registry, fault)
}

fn heal(cluster: &Cluster, registry: Option<Registry>) -> anyhow::Result<()> {
    let meant = |one: &Registry| registry.is_none_or(|registry| registry == *one);
    let mut registries = Registry::ALL.into_iter().filter(meant);
    registries.try_for_each(|one| cluster.heal(one))
}

/// The digest of the image that was pushed.
fn push(
    cluster: &Cluster,
    to: &[Registry],
    variant: Option<String>,
    image: &str,
    command: Vec<String>,
) -> anyhow::Result<String> {
    let (repository, tag) = split(image)?;
    let image = TestImage {
        variant: variant.unwrap_or_else(|| tag.to_owned()),
        command,
    };
    cluster.push(to, repository, tag, &image)
}

fn split(image: &str) -> anyhow::Result<(&str, &str)> {
    image
        .rsplit_once(':')
        .with_context(|| format!("failed to read \"{image}\": REPOSITORY:TAG"))
}

fn become_child(cluster: &Cluster, program: &str, words: &[String]) -> anyhow::Result<ExitCode> {
    let status = cluster.command(program).args(words).status()?;
    // A child that died by a signal has no code.
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Prints while somebody still reads: `cluster logs kubelet | head` has seen enough.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn status(cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let components = cluster.status()?;
    for component in &components {
        let state = if component.alive { "up" } else { "DOWN" };
        print(&format!("{:<24} {state}\n", component.component))?;
    }
    for registry in Registry::ALL {
        let fault = cluster.current_fault(registry);
        let state = if fault.is_empty() { "well" } else { &fault };
        print(&format!("{:<24} {state}\n", registry.host()))?;
    }
    print(&cluster.kubectl(&["get", "nodes", "--no-headers"])?)?;
    let all = components.iter().all(|component| component.alive);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_environment(cluster: &Cluster) -> io::Result<()> {
    // Word-split on purpose: $CATAMARAN_EXEC program arguments
    print(&format!(
        "export KUBECONFIG='{}'\nexport CATAMARAN_EXEC='nsenter -t {} -m -p -n --'\n",
        cluster.kubeconfig().display(),
        cluster.anchor_pid()
    ))
}
