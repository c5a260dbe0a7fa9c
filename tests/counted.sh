#!/usr/bin/env bash
# Runs tests, and says in one line at the end how many there were in all programs: tests/counted.sh NAME COMMAND...
set -euo pipefail

name=$1
shift
"$@" 2>&1 | awk -v name="$name" '
    { print; fflush() }
    /^test result: / {
        programs++
        for (word = 2; word <= NF; word++) {
            if ($word ~ /^passed/) passed += $(word - 1)
            if ($word ~ /^failed/) failed += $(word - 1)
            if ($word ~ /^ignored/) ignored += $(word - 1)
        }
    }
    END { printf "%s: %d passed; %d failed; %d ignored in %d programs\n", name, passed, failed, ignored, programs }'
