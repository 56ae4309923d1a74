# Shared by the scripts in this folder. Sourced under `set -euo pipefail`.

passed=0
failed=0
pids=()
scratch=$(mktemp -d)

cleanup() {
    local pid
    # By id, and only what was started here; some have ended already.
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap cleanup EXIT

# step NAME COMMAND...: runs it, and counts how it ended. In a shell of its own that ends with the first
# failure, which no function does whose result is asked for.
step() {
    local name=$1 begun=$SECONDS status=0
    shift
    echo "== $name: $*"
    set +e
    (
        trap - EXIT
        set -euo pipefail
        "$@"
    )
    status=$?
    set -e
    count "$name" "$status" "$((SECONDS - begun))"
}

# count NAME STATUS SECONDS
count() {
    if [[ $2 -eq 0 ]]; then
        passed=$((passed + 1))
        echo "ok      $1 ($3 s)"
    else
        failed=$((failed + 1))
        echo "FAILED  $1 ($3 s)"
    fi
}

# skip NAME WHY: neither passed nor failed, and said.
skip() { echo "skipped $1: $2"; }

finish() {
    echo "$(basename "$0"): $passed passed, $failed failed"
    [[ $failed -eq 0 ]]
}

# equal WHAT FOUND EXPECTED
equal() {
    [[ $2 == "$3" ]] || { echo "$1: $2, expected $3" >&2; return 1; }
}

# A port that nobody listens on now.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    return 1
}

# listening PORT: waits until somebody listens there.
listening() {
    for _ in $(seq 200); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.05
    done
    echo "nobody listens on port $1" >&2
    return 1
}

# fetch URL: the body. Without curl, which a fresh machine may lack.
fetch() {
    local rest=${1#http://} host path
    host=${rest%%/*}
    path=/${rest#*/}
    exec 3<>"/dev/tcp/${host%:*}/${host#*:}"
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
    sed '1,/^\r$/d' <&3
    exec 3>&-
}

# sum METRICS PATTERN: the values of all series whose line matches, added up.
sum() { awk -v pattern="$2" '$0 ~ pattern && !/^#/ { total += $NF } END { printf "%d\n", total }' "$1"; }

# gateway BINARY ARGUMENTS...: starts one in the background; its id is in $gateway_pid.
gateway() {
    "$@" 2>>"$scratch/gateway.log" &
    gateway_pid=$!
    pids+=("$gateway_pid")
}

# drains PID: counts whether SIGTERM ends it with 0, within the time that a drain may take.
drains() {
    local status=0 begun=$SECONDS
    kill -TERM "$1"
    (sleep 40 && kill -KILL "$1") 2>/dev/null &
    local watchdog=$!
    wait "$1" || status=$?
    kill "$watchdog" 2>/dev/null || true
    equal 'exit code after SIGTERM' "$status" 0 || status=1
    count drain "$status" "$((SECONDS - begun))"
}

# have COMMAND PACKAGE: whether it can be run, after an attempt to install it from the distribution.
have() {
    command -v "$1" >/dev/null && return
    [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || return 1
    # A service that the package would start is none of ours.
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=1
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } \
        >"$scratch/apt.log" 2>&1 || true
    if [[ -n $made ]]; then rm -f "$policy"; fi
    command -v "$1" >/dev/null
}
