use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What containerd 2.4 and the kubelet report of a registry that refuses connections.
const CONTAINERD_2: &str = r#"Back-off pulling image "kracr.azurecr.io/data:1": ErrImagePull: failed to pull and unpack image "kracr.azurecr.io/data:1": failed to resolve image: failed to do request: Head "https://kracr.azurecr.io/v2/data/manifests/1": dial tcp 10.98.1.2:443: connect: connection refused"#;
/// The same by containerd 1.7.
const CONTAINERD_1: &str = r#"rpc error: code = Unknown desc = failed to pull and unpack image "kracr.azurecr.io/data:1": failed to resolve reference "kracr.azurecr.io/data:1": failed to do request: Head "https://kracr.azurecr.io/v2/data/manifests/1": dial tcp 10.98.1.2:443: connect: connection refused"#;
/// A missing tag by CRI-O since 1.32, which tries an image once more as an artifact.
const CRIO: &str = "unable to pull image or OCI artifact: pull image err: initializing source docker://kracr.azurecr.io/data:1: reading manifest 1 in kracr.azurecr.io/data: manifest unknown; artifact err: get manifest: build image source: reading manifest 1 in kracr.azurecr.io/data: manifest unknown";
/// The same by CRI-O 1.18, which names no reference.
const OLD_CRIO: &str =
    "rpc error: code = Unknown desc = Error reading manifest latest in kracr.azurecr.io/data: manifest unknown";

#[test]
fn failed_image_is_found_in_messages_of_each_runtime() {
    let by_digest = format!("reading manifest {DIGEST} in ghcr.io/o/x: name unknown");
    let digest = format!("ghcr.io/o/x@{DIGEST}");
    let cases = [
        (CONTAINERD_2, Some("kracr.azurecr.io/data:1")),
        (CONTAINERD_1, Some("kracr.azurecr.io/data:1")),
        (CRIO, Some("kracr.azurecr.io/data:1")),
        (OLD_CRIO, Some("kracr.azurecr.io/data:latest")),
        (&by_digest, Some(&*digest)),
        (r#"Failed to pull image "a/b": EOF"#, Some("a/b")),
        (r#"pulling image \"a/b:1\": EOF"#, Some("a/b:1")),
        (
            "image pull failed for ghcr.io/o/x:1 because the registry is unavailable: no route",
            Some("ghcr.io/o/x:1"),
        ),
        ("initializing source docker://ghcr.io/o/x:1", Some("ghcr.io/o/x:1")),
        (r#"Back-off pulling image "cut"#, None),
        ("reading manifest 1", None),
        ("image pull failed for x", None),
        ("pull QPS exceeded", None),
        ("", None),
    ];
    for (message, image) in cases {
        assert_eq!(failed_image(message).as_deref(), image, "{message}");
    }
}

/// Checks classes of messages, each put together from pieces.
fn check(cases: &[(&[&str], PullFailure)]) {
    for (pieces, expected) in cases {
        let message = pieces.concat();
        let class = PullFailure::of("ErrImagePull", &message);
        assert_eq!(class, Some(*expected), "{message}");
    }
}

const RESOLVE: &str = r#"failed to pull and unpack image "ghcr.io/o/x:1": failed to resolve image: "#;
const HEAD: &str = r#"failed to do request: Head "https://ghcr.io/v2/o/x/manifests/1": "#;

#[test]
fn pull_failure_on_the_way_is_classed_for_containerd() {
    use PullFailure::*;
    let dial = "dial tcp 10.0.0.1:443: ";
    let lookup = "dial tcp: lookup ghcr.io on 10.96.0.10:53: ";
    let late = "rpc error: code = DeadlineExceeded desc = ";
    let canceled = r#"rpc error: code = Canceled desc = failed to pull and unpack image "x": context canceled"#;
    check(&[
        (&[RESOLVE, HEAD, dial, "connect: connection refused"], Connection),
        (&[RESOLVE, HEAD, dial, "connect: no route to host"], Connection),
        (&[late, RESOLVE, HEAD, dial, "i/o timeout"], Connection),
        (&[RESOLVE, HEAD, "net/http: TLS handshake timeout"], Connection),
        (
            &[RESOLVE, HEAD, "net/http: timeout awaiting response headers"],
            Connection,
        ),
        (
            &[
                RESOLVE,
                HEAD,
                "read tcp 10.0.0.2:5->10.0.0.1:443: read: connection reset by peer",
            ],
            Connection,
        ),
        (&[RESOLVE, HEAD, "EOF"], Connection),
        (&[canceled], Connection),
        (&[RESOLVE, HEAD, lookup, "no such host"], Dns),
        (
            &[RESOLVE, HEAD, lookup, "read udp 10.0.0.2:5->10.96.0.10:53: i/o timeout"],
            Dns,
        ),
        (
            &[
                RESOLVE,
                HEAD,
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ],
            Tls,
        ),
        (&["failed to extract layer: no space left on device"], Other),
    ]);
}

#[test]
fn answer_of_registry_is_classed_for_containerd() {
    use PullFailure::*;
    let status = "unexpected status from HEAD request to https://ghcr.io/v2/o/x/manifests/1: ";
    let token = "failed to authorize: failed to fetch anonymous token: ";
    check(&[
        (
            &[
                "rpc error: code = NotFound desc = ",
                RESOLVE,
                "ghcr.io/o/x:1: not found",
            ],
            NotFound,
        ),
        (&[RESOLVE, status, "429 Too Many Requests"], Throttled),
        (&[RESOLVE, status, "503 Service Unavailable"], ServerError),
        (
            &["pulling from host ghcr.io failed with status code [manifests 1]: 500 Internal Server Error"],
            ServerError,
        ),
        (
            &[RESOLVE, status, "403 Forbidden\ndenied: this address is not allowed"],
            Unauthorized,
        ),
        (
            &[
                RESOLVE,
                token,
                "unexpected status from GET request to https://ghcr.io/token: 401 Unauthorized",
            ],
            Unauthorized,
        ),
        (
            &[
                RESOLVE,
                "pull access denied, repository does not exist or may require authorization: ",
            ],
            Unauthorized,
        ),
        // What keeps the token away is the cause.
        (
            &[
                RESOLVE,
                token,
                "Get \"https://ghcr.io/token\": dial tcp 10.0.0.1:443: connect: connection refused",
            ],
            Connection,
        ),
    ]);
}

#[test]
fn pull_failure_is_classed_for_crio() {
    use PullFailure::*;
    let source = "initializing source docker://ghcr.io/o/x:1: ";
    let ping = r#"pinging container registry ghcr.io: Get "https://ghcr.io/v2/": "#;
    let manifest = "reading manifest 1 in ghcr.io/o/x: ";
    let blob = "copying system image from manifest list: writing blob: happened during read: ";
    check(&[
        (&[CRIO], NotFound),
        (&[OLD_CRIO], NotFound),
        (
            &[source, ping, "dial tcp 10.0.0.1:443: connect: connection refused"],
            Connection,
        ),
        (&[source, ping, "dial tcp: lookup ghcr.io: no such host"], Dns),
        (
            &[
                source,
                ping,
                "tls: failed to verify certificate: x509: certificate has expired",
            ],
            Tls,
        ),
        (
            &[
                source,
                manifest,
                "toomanyrequests: You have reached your pull rate limit",
            ],
            Throttled,
        ),
        (
            &[
                source,
                manifest,
                "received unexpected HTTP status: 500 Internal Server Error",
            ],
            ServerError,
        ),
        (
            &[source, manifest, "unauthorized: authentication required"],
            Unauthorized,
        ),
        (
            &[source, manifest, "requested access to the resource is denied"],
            Unauthorized,
        ),
        (&[blob, "unexpected EOF"], Connection),
        // The second attempt fails for a reason of its own.
        (
            &[
                "pull image err: ",
                source,
                manifest,
                "manifest unknown; artifact err: ",
                ping,
                "connection refused",
            ],
            NotFound,
        ),
    ]);
}

#[test]
fn signature_failure_is_one_class_in_each_wording() {
    let direct = "image pull failed for ghcr.io/o/x:1 because the signature validation failed: Source image rejected";
    let followed = r#"Back-off pulling image "ghcr.io/o/x:1": SignatureValidationFailed: image pull failed for ghcr.io/o/x:1 because the signature validation failed"#;
    for (reason, message) in [
        ("SignatureValidationFailed", direct),
        ("SignatureValidationFailed", ""),
        ("ErrImagePull", direct),
        ("ImagePullBackOff", followed),
    ] {
        let class = PullFailure::of(reason, message);
        assert_eq!(class, Some(PullFailure::SignatureInvalid), "{reason}: {message}");
    }
}

#[test]
fn pull_failure_needs_a_reason_that_is_one() {
    let cases = [
        ("RegistryUnavailable", "", Some(PullFailure::Connection)),
        (
            "ImagePullBackOff",
            r#"Back-off pulling image "x""#,
            Some(PullFailure::Other),
        ),
        ("ErrImageNeverPull", "manifest unknown", None),
        ("CrashLoopBackOff", "connection refused", None),
        ("InvalidImageName", "", None),
        ("ContainerCreating", "", None),
    ];
    for (reason, message, expected) in cases {
        assert_eq!(PullFailure::of(reason, message), expected, "{reason}");
    }
}

#[test]
fn same_image_is_recognized_by_all_of_its_names() {
    let digest = format!("x:1@{DIGEST}");
    let without_tag = format!("docker.io/library/x@{DIGEST}");
    let cases = [
        ("x", "docker.io/library/x:latest", true),
        ("x:1", "index.docker.io/x:1", true),
        ("GHCR.io/o/x:1", "ghcr.io:443/o/x:1", true),
        (&digest, &without_tag, true),
        ("x:1", "x:2", false),
        ("x:1", &without_tag, false),
        ("ghcr.io/x", "x", false),
        ("not a reference", "not a reference", true),
        ("not a reference", "x", false),
    ];
    for (a, b, same) in cases {
        assert_eq!(same_image(a, b), same, "{a} and {b}");
    }
}

/// Checks what messages, each put together from pieces, say of the registry.
fn check_outages(cases: &[(&[&str], Option<Unavailable>)]) {
    for (pieces, outage) in cases {
        let message = pieces.concat();
        let failure = PullFailure::of("ErrImagePull", &message).unwrap();
        assert_eq!(failure.outage(), *outage, "{failure:?}: {message}");
    }
}

const STATUS: &str = "unexpected status from HEAD request to https://ghcr.io/v2/o/x/manifests/1: ";

#[test]
fn registry_that_nodes_do_not_reach_is_an_outage() {
    use Unavailable::*;
    let dial = "dial tcp 10.0.0.9:443: connect: connection refused";
    let inspected = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    check_outages(&[
        (&[CONTAINERD_2], Some(ConnectionFailed)),
        (&[CONTAINERD_1], Some(ConnectionFailed)),
        (&[RESOLVE, HEAD, "proxyconnect tcp: ", dial], Some(ConnectionFailed)),
        (
            &["rpc error: code = Canceled desc = ", RESOLVE, "context canceled"],
            Some(ConnectionFailed),
        ),
        (&[HEAD, late], Some(ConnectionFailed)),
        (
            &[
                RESOLVE,
                HEAD,
                "dial tcp: lookup ghcr.io on 127.0.0.53:53: server misbehaving",
            ],
            Some(DnsFailure),
        ),
        (&[RESOLVE, HEAD, inspected], Some(TlsError)),
        (&[RESOLVE, STATUS, "504 Gateway Timeout"], Some(ServerError)),
    ]);
}

#[test]
fn blob_host_that_nodes_do_not_reach_is_an_outage() {
    use Unavailable::*;
    let blob = r#"failed to copy: httpReadSeeker: failed open: failed to do request: Get "https://blob.example/x?sig=REDACTED": "#;
    let dial = "dial tcp 10.0.0.9:443: connect: connection refused";
    let status = "failed open: unexpected status code https://blob.example/x: 503 Service Unavailable";
    check_outages(&[
        (&[RESOLVE, blob, dial], Some(ConnectionFailed)),
        (
            &[blob, "dial tcp: lookup blob.example on 10.96.0.10:53: no such host"],
            Some(DnsFailure),
        ),
        (
            &["writing blob: happened during read: unexpected EOF"],
            Some(ConnectionFailed),
        ),
        (&[status], Some(ServerError)),
    ]);
}

#[test]
fn pull_failure_about_an_image_or_a_node_is_no_outage() {
    check_outages(&[
        (&[CRIO], None),
        (&[OLD_CRIO], None),
        (&[RESOLVE, STATUS, "401 Unauthorized"], None),
        (&[RESOLVE, STATUS, "403 Forbidden"], None),
        (&[RESOLVE, STATUS, "429 Too Many Requests"], None),
        (&["failed to extract layer: no space left on device"], None),
        (&["pull QPS exceeded"], None),
    ]);
}

/// The author of a pod chooses its image, and messages repeat that.
#[test]
fn name_of_an_image_makes_no_outage() {
    let outages = WORDS.iter().filter(|(class, _)| class.outage().is_some());
    let words = outages.flat_map(|(_, words)| words.iter().flat_map(|word| word.split_ascii_whitespace()));
    let names = words.map(|word| word.trim_matches([':', '(', '=']));
    let mut tried = 0;
    for name in names
        .chain(["Client.Timeout", "500", "503"])
        .filter(|name| !name.is_empty())
    {
        let lower = name.to_ascii_lowercase();
        for image in [
            format!("ghcr.io/o/x:{name}"),
            format!("ghcr.io/o/{lower}:1"),
            format!("ghcr.io/{lower}/x:{name}"),
        ] {
            let Ok(reference) = Reference::parse(&image) else {
                continue;
            };
            let repository = format!("{}/{}", reference.registry(), reference.repository());
            let tag = reference.effective_tag().unwrap();
            let messages = [
                format!(r#"failed to pull and unpack image "{image}": failed to resolve image: {image}: not found"#),
                format!(
                    r#"failed to resolve reference "{image}": unexpected status from HEAD request to https://ghcr.io/v2/{}/manifests/{tag}: 401 Unauthorized"#,
                    reference.repository()
                ),
                format!(
                    "initializing source docker://{image}: reading manifest {tag} in {repository}: manifest unknown"
                ),
                format!("Error reading manifest {tag} in {repository}: manifest unknown"),
                format!("image pull failed for {image} because something is wrong"),
                format!(r#"Back-off pulling image "{image}""#),
            ];
            for message in messages {
                let failure = PullFailure::of("ErrImagePull", &message).unwrap();
                assert_eq!(failure.outage(), None, "{failure:?}: {message}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}
