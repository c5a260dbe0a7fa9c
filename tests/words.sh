#!/usr/bin/env bash
# Looks for the words of tests/words.txt in everything that is committed or about to be.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
while IFS=$'\t' read -r word instead; do
    [[ -z $word || $word == '#'* ]] && continue
    # A word ends at an underscore or a change of case as well: names of tests and types have words, too.
    if found=$(git grep --untracked -n -i -E "(^|[^a-z])(${word})([^a-z]|\$)" -- . ':!tests/words.txt' ':!*.lock' ':!LICENSE'); then
        echo "say instead of '$word': $instead"
        echo "$found"
        failed=1
    fi
done <tests/words.txt
exit "$failed"
