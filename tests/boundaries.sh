#!/usr/bin/env bash
# Checks the boundaries that docs/architecture.md draws, with cargo's own view of what each crate depends on, and between modules
# with tests/boundaries.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0

# tree CRATE: the names of everything it depends on when it is built alone, without test dependencies.
tree() { cargo tree --locked --quiet --package "$1" --edges normal,build --prefix none --format '{p}' | awk '{print $1}' | sort -u; }

# forbid CRATE NAME...: none of these may be in the crate's tree.
forbid() {
    local crate=$1 names name
    shift
    names=$(tree "$crate")
    for name in "$@"; do
        if grep -qx "$name" <<<"$names"; then
            echo "$crate must not depend on $name:"
            cargo tree --locked --quiet --package "$crate" --edges normal,build --invert "$name" | head -n 12
            failed=1
        fi
    done
}

every=(catamaran-api catamaran-secrets catamaran-listener catamaran-lease catamaran-certificates catamaran-registry catamaran-webhook catamaran-controller catamaran)
# Decisions are pure.
forbid catamaran-core tokio kube kube-core kube-client hyper reqwest h2 rustls "${every[@]}"
# The words depend on the decisions, never the other way round.
forbid catamaran-api tokio hyper reqwest kube-client catamaran-registry catamaran-webhook catamaran-controller catamaran
# The registry client knows nothing of Kubernetes.
forbid catamaran-registry kube kube-core kube-client k8s-openapi catamaran-api catamaran-webhook catamaran-controller catamaran
# No admission can wait for a registry or the API server: there is no client to wait with.
forbid catamaran-webhook reqwest kube-client kube-runtime hyper-rustls catamaran-registry catamaran-controller catamaran
# Leader election knows nothing of mirrors.
mirrors=(catamaran-core catamaran-api catamaran-registry catamaran-webhook catamaran-controller catamaran)
forbid catamaran-lease catamaran-secrets catamaran-certificates "${mirrors[@]}"
# Neither does what listens.
forbid catamaran-listener kube-client k8s-openapi reqwest catamaran-secrets catamaran-lease catamaran-certificates "${mirrors[@]}"
# The certificate and the reader of Secrets know nothing of them either.
forbid catamaran-certificates "${mirrors[@]}"
forbid catamaran-secrets catamaran-lease catamaran-certificates "${mirrors[@]}"
# The controller does not serve admissions.
forbid catamaran-controller catamaran-webhook catamaran
# The emulators say what the clouds do, not what we believe.
forbid catamaran-emulators catamaran-core "${every[@]}"
# One crypto provider, one TLS library.
forbid catamaran ring openssl-sys native-tls

# Each crate builds alone, with its own features only. That the program does, `make image-binary` shows.
for crate in catamaran-core catamaran-api catamaran-secrets catamaran-listener catamaran-lease catamaran-certificates catamaran-registry catamaran-webhook catamaran-controller; do
    cargo check --locked --quiet --package "$crate" || { echo "$crate does not build alone"; failed=1; }
done

# Between the modules of a crate, too, dependencies go one way.
cargo run --locked --quiet --bin module-cycles || failed=1

[ "$failed" = 0 ] && echo "boundaries hold"
exit "$failed"
