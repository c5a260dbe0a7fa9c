#!/usr/bin/env bash
# Checks that what `make` runs by idle.sh and session.sh ends with it, in whatever way make, its shell or its parent ends.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
mark=interrupt-test-$$
trap 'kill -KILL $(marked) 2>/dev/null || true; rm -rf "$folder"' EXIT

# marked: the processes that one of the cases has started, and that are not dead.
marked() {
    local environment
    for environment in $(grep -slz "^MARK=$mark$" /proc/[0-9]*/environ || true); do
        environment=${environment%/environ}
        grep -qs '^State:[[:space:]]*Z' "$environment/status" || echo "${environment#/proc/}"
    done
}

# A build that ends as told, with a process that does not listen; beside it, one in the time that nobody wants.
cat >"$folder/Makefile" <<END
SHELL := /bin/bash
long = bash -c 'touch \$(1); sleep 1000 & (trap "" TERM; exec sleep 1001) & wait'
top: ; @$PWD/tests/session.sh \$(MAKE) --no-print-directory -f $folder/Makefile both
both: ; @$PWD/tests/idle.sh \$(call long,$folder/meanwhile) & \$(call long,$folder/main); wait
END

passed=0 failed=0
verdict() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $1"; fi
}

# patiently COMMAND...: waits until it succeeds.
patiently() {
    local tick
    for ((tick = 0; tick < 600; tick++)); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    return 1
}
started() { [ -e "$folder/main" ] && [ -e "$folder/meanwhile" ]; }
gone() { [ -z "$(marked)" ]; }
cleaned() { [ -e "$folder/afterwards" ]; }

# child_of PID WORD: the child whose command line holds the word.
child_of() {
    local path parent
    for path in /proc/[0-9]*; do
        parent=$(sed -n 's/^PPid:\t//p' "$path/status" 2>/dev/null) || continue
        if [ "$parent" = "$1" ] && tr '\0' ' ' 2>/dev/null <"$path/cmdline" | grep -q "$2"; then
            echo "${path#/proc/}"
            return
        fi
    done
}

# ends NAME HOW: starts make below a shell, has HOW end something with the PIDs of both, and sees whether anything is left.
ends() {
    rm -f "$folder"/main "$folder"/meanwhile "$folder"/afterwards
    # With `set -m` make gets a group of its own, as a terminal's jobs do, and no signal is ignored.
    # This test itself may have been started with signals ignored.
    env --default-signal=HUP,INT,QUIT,TERM MARK="$mark" GRACE=1 AFTERWARDS="touch $folder/afterwards" setsid bash -c '
        set -m; make --no-print-directory -f "$0/Makefile" top & echo $! >"$0/make"; wait' "$folder" >"$folder/log" 2>&1 &
    local shell=$! make good=0 SECONDS=0
    patiently started || { echo "$1: nothing was started"; good=1; }
    make=$(cat "$folder/make")
    "$2" "$make" "$shell"
    patiently gone || good=1
    patiently cleaned || good=1
    if [ "$good" != 0 ]; then cat "$folder/log"; ps -o pid,ppid,sid,args -p "$(marked | paste -sd,)" 2>/dev/null || true; fi
    kill -KILL $(marked) 2>/dev/null || true
    wait "$shell" 2>/dev/null || true
    verdict "$1" "$good"
}

terminate() { kill -TERM "$1"; }
hang_up() { kill -HUP "$1"; }
interrupt() { kill -INT "$1"; }
kill_make() { kill -KILL "$1"; }
press_ctrl_c() { kill -INT -- "-$1"; }
close_terminal() { kill -HUP -- "-$1"; }
kill_parent() { kill -KILL "$2"; }
kill_session() { kill -KILL "$(child_of "$1" session.sh)"; }

ends "TERM to make" terminate
ends "HUP to make" hang_up
ends "INT to make" interrupt
ends "KILL to make" kill_make
ends "Ctrl-C" press_ctrl_c
ends "the terminal is closed" close_terminal
ends "KILL to the parent of make" kill_parent
ends "KILL to session.sh" kill_session

# What ends by itself ends with its own status, leaves nothing, and has nothing cleaned up.
rm -f "$folder/afterwards"
status=0
MARK=$mark AFTERWARDS="touch $folder/afterwards" tests/session.sh bash -c 'sleep 1000 & exit 7' || status=$?
[ "$status" = 7 ] && [ -z "$(marked)" ] && [ ! -e "$folder/afterwards" ] && good=0 || good=1
verdict "a command that fails" "$good"

echo "interruptions: $passed passed; $failed failed"
[ "$failed" = 0 ]
