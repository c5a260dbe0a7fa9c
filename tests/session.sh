#!/usr/bin/env bash
# Runs a command in a session of its own and leaves no process of that session behind: tests/session.sh COMMAND...
# The session ends when the command does, when this script gets INT, TERM or HUP or is killed, and when a process that it was
# started by has ended (make, its shell, up to the leader of the terminal's session) or is about to: make does not pass on a HUP
# that it alone gets. With nohup only the direct parent counts; `setsid make ...` has no parent that counts.
# Processes get TERM, and KILL after GRACE seconds (60); sessions inside of this one have two thirds of that. AFTERWARDS, a command
# line, runs once a session had to be ended early.
set -euo pipefail
grace=${GRACE:-60}

# stat_of PID: sets `stat` to its state, parent, group and session; fails if there is no such process.
stat_of() {
    local line=
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    # The name before the last bracket may hold anything.
    read -r -a stat <<<"${line##*) }"
}

# mask_of PID FIELD: sets `mask` to one of its sets of signals (SigIgn, SigCgt).
mask_of() {
    local key value
    mask=0
    while read -r key value; do
        [ "$key" = "$2:" ] && mask=$((16#$value)) && return
    done 2>/dev/null <"/proc/$1/status" || true
}

# members: sets `members` to the living processes of the session.
members() {
    local path
    members=()
    for path in /proc/[0-9]*; do
        stat_of "${path#/proc/}" || continue
        if [ "${stat[3]}" = "$session" ] && [ "${stat[0]}" != Z ]; then members+=("${path#/proc/}"); fi
    done
}

# ancestors PID: sets `links` to the pairs CHILD:PARENT from PID up to the leader of its session, or to its parent with nohup.
ancestors() {
    local child=$1 own hup=1
    links=()
    mask_of "$child" SigIgn
    stat_of "$child" || return 0
    own=${stat[3]}
    while [ "${stat[1]}" -gt 1 ]; do
        links+=("$child:${stat[1]}")
        if [ "$((mask & hup))" != 0 ] || [ "${stat[1]}" = "$own" ]; then return; fi
        child=${stat[1]}
        stat_of "$child" || return 0
        if [ "${stat[3]}" != "$own" ]; then return; fi
    done
}

# lost: whether one of `links` is no more, or the parent has stopped catching what ends it; sets `reason`.
lost() {
    local link
    for link in "${links[@]}"; do
        if ! stat_of "${link%:*}" || [ "${stat[1]}" != "${link#*:}" ]; then
            reason="process ${link#*:}, which started this, has ended"
            return
        fi
    done
    mask_of "$parent" SigCgt
    # HUP and INT: a make that is told to end takes its handlers away and waits for its children.
    if [ "$((caught & ~mask & 3))" != 0 ]; then
        reason="process $parent was told to end"
        return
    fi
    return 1
}

# finish: ends what is left of the session.
finish() {
    local tick
    members
    [ "${#members[@]}" = 0 ] && return
    kill -TERM "${members[@]}" 2>/dev/null || true
    for ((tick = 0; tick < grace * 5; tick++)); do
        sleep 0.2
        members
        [ "${#members[@]}" = 0 ] && return
    done
    # Those that a process starts while it is being killed are found by the next look.
    for ((tick = 0; tick < 100; tick++)); do
        kill -KILL "${members[@]}" 2>/dev/null || true
        sleep 0.2
        members
        [ "${#members[@]}" = 0 ] && return
    done
    echo "session.sh: failed to end processes ${members[*]}" >&2
}

# In a session of its own, so that nothing which ends the script or its command ends this. It reads what the script says, and
# sees by the end of its input that the script has ended.
watch() {
    trap '' INT TERM HUP PIPE
    local word= part heard
    reason=
    while :; do
        heard=0 part=
        read -r -t 1 part || heard=$?
        # A word may arrive in the moment in which the second is over.
        word+=$part
        if [ "$heard" = 0 ]; then
            [ "$word" = over ] || reason=$word
            break
        elif [ "$heard" -le 128 ]; then
            reason="the script was killed"
            break
        fi
        lost && break
    done
    [ -z "$reason" ] || echo "session.sh: ending what was started: $reason" >&2 || true
    finish
    if [ -n "$reason" ] && [ -n "$afterwards" ]; then
        bash -c "$afterwards" </dev/null || true
    fi
}

if [ "${1-}" = --watch ]; then
    script=$2 session=$3 parent=$4
    afterwards=${AFTERWARDS:-}
    unset AFTERWARDS
    ancestors "$script"
    mask_of "$parent" SigCgt
    caught=$mask
    watch
    exit
fi

parent=$PPID
# The command begins when it is watched; if this script is killed before, it reads the end of its input and does not.
exec {out}>&1
coproc GATE { exec setsid bash -c 'read -r _ || exit; unset AFTERWARDS; GRACE=$1; shift; export GRACE
    exec "$@" </dev/null' session "$((grace * 2 / 3))" "$@" >&"$out" {out}>&-; }
session=$GATE_PID gate=${GATE[1]}
exec {watcher}> >(exec setsid bash "$0" --watch "$$" "$session" "$parent" {gate}>&- {out}>&-)
watched=$!

# end WORD STATUS: tells the watcher, waits until nothing is left, and ends.
end() {
    trap '' INT TERM HUP
    echo "$1" >&"$watcher" || true
    exec {watcher}>&-
    wait "$watched" || true
    exit "$2"
}
trap 'end interrupted 130' INT
trap 'end terminated 143' TERM
trap 'end "the terminal was closed" 129' HUP
echo >&"$gate"
exec {gate}>&-
status=0
wait "$session" || status=$?
end over "$status"
