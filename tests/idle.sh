#!/usr/bin/env bash
# Runs a command in the processors' time that nothing else wants: tests/idle.sh COMMAND...
# Linux divides the time among sessions before it looks at priorities inside them (autogroup, sched(7)), so the command gets a
# session of its own that comes last; where that is not so, its scheduling class does the same.
set -euo pipefail

setsid bash -c '
    { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
    exec chrt --idle 0 "$@"' idle "$@" </dev/null &
session=$!
# A session of its own does not hear a Ctrl-C.
trap 'kill -- "-$session" 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT TERM
wait "$session"
