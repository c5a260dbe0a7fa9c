//! Every file that a daemon reads, written before the first one starts.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;

use crate::cache::binary;
use crate::network::{API_SERVICE, DNS_SERVICE, NODE, PODS};
use crate::node::Node;
use crate::options::Options;
use crate::pki::{Authority, Identity, SigningKey, kubeconfig};
use crate::registry::Registry;
use crate::state::State;

/// Loaded into containerd, never pulled: a faulted registry must not stop sandboxes.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.1";
/// The log of requests, among the daemons' logs.
pub const AUDIT: &str = "audit";
/// The user who may pull everything and push.
pub const USER: &str = "catamaran";
/// Where distribution listens, in its registry's namespace.
const UPSTREAM: &str = "127.0.0.1:5000";
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

pub fn write(state: &State, options: &Options) -> anyhow::Result<()> {
    let nodes = Node::first(options.nodes)?;
    certificates(state, &nodes)?;
    names(state, &nodes)?;
    for registry in Registry::ALL {
        registry_files(state, registry)?;
        hosts(state, registry, options.dial_timeout)?;
    }
    for node in nodes {
        containerd(state, node)?;
        kubelet(state, node, options.serialize_image_pulls)?;
        kube_proxy(state, node)?;
    }
    if let Some(user) = &options.audit_user {
        audit(state, user)?;
    }
    dns(state)
}

/// The first rule that matches counts. The beginning of a request says nothing that its end doesn't.
fn audit(state: &State, user: &str) -> anyhow::Result<()> {
    let policy = format!(
        r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
  - level: Request
    users: ["{user}"]
    resources: [{{group: coordination.k8s.io, resources: [leases]}}]
  - level: Metadata
    users: ["{user}"]
  - level: None
"#
    );
    state.write("etc/audit.yaml", policy)
}

fn certificates(state: &State, nodes: &[Node]) -> anyhow::Result<()> {
    let put = |name: &str, identity: &Identity| {
        state.write(&format!("pki/{name}.crt"), &identity.certificate)?;
        state.write(&format!("pki/{name}.key"), &identity.key)
    };
    let authority = Authority::new("cluster")?;
    state.write("pki/ca.crt", authority.certificate())?;
    state.write("pki/ca.key", authority.key())?;
    let served = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        NODE,
        API_SERVICE,
    ];
    put("apiserver", &authority.issue("kube-apiserver", None, &served)?)?;
    let user = |file: &str, identity: &Identity| {
        put(file, identity)?;
        let text = kubeconfig(&format!("https://{NODE}:6443"), authority.certificate(), identity);
        state.write(&format!("pki/{file}.conf"), text)
    };
    let users = [
        ("admin", "admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("kube-proxy", "system:kube-proxy", None),
        ("coredns", "system:coredns", None),
    ];
    for (file, name, group) in users {
        user(file, &authority.issue(name, group, &["node", NODE])?)?;
    }
    for node in nodes {
        let (name, names) = (format!("system:node:{node}"), [node.name(), node.address()]);
        let identity = authority.issue(&name, Some("system:nodes"), &names)?;
        user(&node.named("kubelet"), &identity)?;
    }
    let accounts = SigningKey::new()?;
    state.write("pki/service-accounts.key", accounts.private)?;
    state.write("pki/service-accounts.pub", accounts.public)?;

    let registries = Authority::new("registries of the test cluster")?;
    state.write("pki/registries-ca.crt", registries.certificate())?;
    for registry in Registry::ALL {
        let names = [registry.host(), registry.data_host()];
        put(registry.word(), &registries.issue(registry.host(), None, &names)?)?;
        let tokens = SigningKey::new()?;
        state.write(&format!("pki/{registry}-tokens.key"), tokens.private)?;
        state.write(&format!("pki/{registry}-tokens.jwks"), tokens.jwks)?;
    }
    let system = fs::read_to_string(SYSTEM_BUNDLE)
        .with_context(|| format!("failed to read \"{SYSTEM_BUNDLE}\": `make deps` installs ca-certificates"))?;
    // Whatever runs inside trusts the registries without being told, as it does the real ones.
    state.write(
        "etc/ca-certificates.crt",
        format!("{system}\n{}", registries.certificate()),
    )
}

fn names(state: &State, nodes: &[Node]) -> anyhow::Result<()> {
    let (mut own, mut registries) = (String::new(), String::new());
    for node in nodes {
        let _ = writeln!(own, "{} {node}", node.address());
    }
    for registry in Registry::ALL {
        let _ = writeln!(registries, "{} {}", registry.address(), registry.host());
        let _ = writeln!(registries, "{} {}", registry.data_address(), registry.data_host());
    }
    state.write("etc/hosts", format!("127.0.0.1 localhost\n{own}{registries}"))?;
    state.write("etc/registry-hosts", registries)?;
    state.write(
        "etc/resolv.conf",
        format!("nameserver {NODE}\noptions timeout:2 attempts:2\n"),
    )
}

fn registry_files(state: &State, registry: Registry) -> anyhow::Result<()> {
    let (host, data_host) = (registry.host(), registry.data_host());
    let (token_path, storage) = (registry.token_path(), state.text(&format!("registry-{registry}")));
    let pki = state.text("pki");
    let yaml = format!(
        r#"version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
middleware:
  storage: [{{name: redirect, options: {{baseurl: "https://{data_host}"}}}}]
http: {{addr: "{UPSTREAM}", relativeurls: true}}
auth:
  token:
    realm: https://{host}{token_path}
    service: {host}
    issuer: https://{host}
    jwks: {pki}/{registry}-tokens.jwks
    signingalgorithms: [ES256]
"#
    );
    state.write(&format!("etc/registry-{registry}.yaml"), yaml)?;
    let front = serde_json::json!({
        "flavour": registry.word(),
        "host": host,
        "data_host": data_host,
        "address": format!("{}:443", registry.address()),
        "data_address": format!("{}:443", registry.data_address()),
        "certificate": format!("{pki}/{registry}.crt"),
        "key": format!("{pki}/{registry}.key"),
        "upstream": UPSTREAM,
        "storage": storage,
        "control": state.text(&format!("front-{registry}.sock")),
        "token_path": token_path,
        "signing_key": format!("{pki}/{registry}-tokens.key"),
        "key_id": SigningKey::ID,
        "user": USER,
        "password": password(state)?,
    });
    state.write(&format!("etc/front-{registry}.json"), front.to_string())
}

/// What containerd reads at every pull from a registry.
pub fn hosts(state: &State, registry: Registry, dial_timeout: Option<Duration>) -> anyhow::Result<()> {
    let (host, pki) = (registry.host(), state.text("pki"));
    // The CA stands at the root level: a [host] table for the same name would make containerd try
    // it twice, the second time without the CA.
    let mut hosts = format!("server = \"https://{host}\"\ncapabilities = [\"pull\", \"resolve\"]\n");
    let _ = writeln!(hosts, "ca = \"{pki}/registries-ca.crt\"");
    if let Some(timeout) = dial_timeout {
        let _ = writeln!(hosts, "dial_timeout = \"{}ms\"", timeout.as_millis());
    }
    state.write(&format!("etc/certs.d/{host}/hosts.toml"), hosts)
}

/// The password of [`USER`], made when it is first asked for.
pub fn password(state: &State) -> anyhow::Result<String> {
    if let Ok(password) = state.read("pki/password") {
        return Ok(password);
    }
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let mut password = String::new();
    for byte in random {
        let _ = write!(password, "{byte:02x}");
    }
    state.write("pki/password", &password)?;
    Ok(password)
}

fn containerd(state: &State, node: Node) -> anyhow::Result<()> {
    // ptp only routes: Service traffic between pods of the node needs no br_netfilter, as it would on a bridge.
    let cni = serde_json::json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "ptp", "ipMasq": false, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": node.pods()}]], "routes": [{"dst": "0.0.0.0/0"}],
        }},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let folder = format!("etc/{}", node.named("cni"));
    state.write(&format!("{folder}/10-pods.conflist"), cni.to_string())?;
    let name = node.named("containerd");
    let root = state.text(&name);
    let (certs, cni) = (state.text("etc/certs.d"), state.text(&folder));
    let plugins = binary("cni", "").display().to_string();
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower the score and fails.
    let toml = format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{certs}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{cni}"
"#
    );
    state.write(&format!("etc/{name}.toml"), toml)
}

/// What a kubelet reads when it is started.
pub fn kubelet(state: &State, node: Node, serial: bool) -> anyhow::Result<()> {
    let (name, cgroup, address) = (node.named("kubelet"), node.cgroup(state), node.address());
    let pki = state.text("pki");
    let static_pods = state.text(&node.named("static-pods"));
    fs::create_dir_all(&static_pods).with_context(|| format!("failed to create \"{static_pods}\""))?;
    let pod_logs = state.text(&node.named("log/pods"));
    // cgroupRoot: two kubelets on one root would delete each other's pods' cgroups.
    // evictionHard: the machine's disk is not the cluster's, and may be rather full.
    let yaml = format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
cgroupsPerQOS: true
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
tlsCertFile: {pki}/{name}.crt
tlsPrivateKeyFile: {pki}/{name}.key
address: {address}
healthzBindAddress: 127.0.0.1
clusterDNS: ["{DNS_SERVICE}"]
clusterDomain: cluster.local
resolvConf: ""
staticPodPath: {static_pods}
podLogsDir: {pod_logs}
serializeImagePulls: {serial}
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: "50Mi", nodefs.available: "1%", imagefs.available: "1%"}}
nodeStatusUpdateFrequency: 5s
"#
    );
    state.write(&format!("etc/{name}.yaml"), yaml)
}

fn kube_proxy(state: &State, node: Node) -> anyhow::Result<()> {
    let config = state.text("pki/kube-proxy.conf");
    // conntrack: its sysctls are read-only in a namespace, zero means hands off.
    let yaml = format!(
        r"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {config}}}
clusterCIDR: {PODS}
hostnameOverride: {node}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
nftables: {{minSyncPeriod: 100ms}}
"
    );
    state.write(&format!("etc/{}.yaml", node.named("kube-proxy")), yaml)
}

fn dns(state: &State) -> anyhow::Result<()> {
    let (config, hosts) = (state.text("pki/coredns.conf"), state.text("etc/registry-hosts"));
    let zones: Vec<_> = Registry::ALL
        .into_iter()
        .flat_map(|registry| [registry.host(), registry.data_host()])
        .map(|host| format!("{host}:53"))
        .collect();
    let zones = zones.join(" ");
    // The order of plugins is fixed in CoreDNS (template would answer before hosts): so there is a block for each zone.
    let corefile = format!(
        "cluster.local:53 in-addr.arpa:53 {{
  bind {NODE}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {config}
    ttl 5
  }}
}}
{zones} {{
  bind {NODE}
  errors
  hosts {hosts} {{
    ttl 5
    reload 1s
  }}
}}
.:53 {{
  bind {NODE}
  errors
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"
    );
    state.write("etc/Corefile", corefile)
}
