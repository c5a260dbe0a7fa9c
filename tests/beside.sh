#!/usr/bin/env bash
# Two targets of make beside each other, in sessions of their own: MAKE="make ..." tests/beside.sh TARGET MEANWHILE
# MEANWHILE has the time that TARGET leaves, and its output is shown at the end. The first that fails ends the other.
set -euo pipefail

read -r -a make <<<"$MAKE"
unset MAKE
log=$(mktemp)
tests/session.sh "${make[@]}" "$1" & target=$!
tests/idle.sh "${make[@]}" "$2" >"$log" 2>&1 & meanwhile=$!
trap 'kill "$target" "$meanwhile" 2>/dev/null || true; wait; rm -f "$log"' EXIT

status=0 first=
wait -n -p first "$target" "$meanwhile" || status=$?
case $first in
    "$target") name=$1 other=$2 left=$meanwhile ;;
    *) name=$2 other=$1 left=$target ;;
esac
if [ "$status" = 0 ]; then
    name=$other
    wait "$left" || status=$?
else
    echo "make $name FAILED: ending \"$other\"" >&2
    kill "$left" 2>/dev/null || true
    wait "$left" || true
fi
echo "$2, which ran meanwhile:"
cat "$log"
[ "$status" = 0 ] || echo "make $name FAILED with status $status: what comes after it was not run" >&2
exit "$status"
