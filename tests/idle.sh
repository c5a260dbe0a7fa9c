#!/usr/bin/env bash
# Runs a command in the processors' time that nothing else wants: tests/idle.sh COMMAND...
# Linux divides the time among sessions before it looks at priorities inside them (autogroup, sched(7)), so the command gets a
# session of its own that comes last; where that is not so, its scheduling class does the same.
# The session ends with what started it, as session.sh says.
set -euo pipefail

exec "$(dirname "$0")/session.sh" bash -c '
    { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
    exec chrt --idle 0 "$@"' idle "$@"
