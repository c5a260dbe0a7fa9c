#!/usr/bin/env bash
# Builds the released binary of the commit that is checked out in two folders with paths of different lengths, each from nothing,
# and compares the two.
set -euo pipefail

cd "$(dirname "$0")/.."
folder=$(mktemp -d "${TMPDIR:-/tmp}/catamaran-reproducible.XXXXXX")
trap 'rm -rf "$folder"' EXIT

build() {
  mkdir -p "$1/sources"
  git archive HEAD | tar -x -C "$1/sources"
  CARGO_TARGET_DIR="$1/target" make --no-print-directory -C "$1/sources" release-amd64
}

binary=target/x86_64-unknown-linux-gnu/dist/catamaran
build "$folder/a"
build "$folder/another/folder"
sha256sum "$folder/a/$binary" "$folder/another/folder/$binary"
cmp "$folder/a/$binary" "$folder/another/folder/$binary"
echo "both builds are the same"
