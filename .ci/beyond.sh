# Steps of .ci/kubernetes for what stands beside Gateway API: MirrorPolicies, zones, the file of `--config`,
# permissions. One Gateway of their own, for a process that was given all of it.
# Sourced after cluster.sh.

# beyond: the Gateway shop/beyond and a route for each step.
beyond() {
    cat <<YAML
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: $class }
spec: { controllerName: mirrorgate.dev/gateway }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: beyond, namespace: shop }
spec: { gatewayClassName: $class, listeners: [{ name: http, port: 80, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: zones, namespace: shop }
spec:
  parentRefs: [{ name: beyond }]
  rules:
    - matches: [{ path: { value: /zones } }]
      backendRefs: [{ name: near, port: 80 }]
      filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: near-next, port: 80 } } }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: policy, namespace: shop }
spec:
  parentRefs: [{ name: beyond }]
  rules:
    - matches: [{ path: { value: /policy } }]
      backendRefs: [{ name: witness, port: 80 }]
      filters:
        - { type: RequestMirror, requestMirror: { backendRef: { name: ruled, port: 80 }, percent: 50 } }
        - { type: RequestMirror, requestMirror: { backendRef: { name: plain, port: 80 } } }
---
apiVersion: mirrorgate.dev/v1alpha1
kind: MirrorPolicy
metadata: { name: ruled, namespace: shop }
spec:
  targetRef: { kind: HTTPRoute, name: policy }
  backend: ruled
  timeout: 2s
  sampleBy: { type: Header, name: x-user }
  host: ruled.example
  methods: [GET, POST]
  strip: credentials
  headers: { set: { x-set: by policy }, add: { x-add: by policy }, remove: [x-remove] }
  budget: { inFlight: 2, lagBytes: 16777216 }
---
YAML
    local name
    for name in witness ruled plain near near-next; do service "$name" | sed 's/clusterIP: [^,]*/clusterIP: None/'; done
    for name in witness ruled plain; do
        slices "$name" "$name"
        echo ---
    done
    zoned near app-1@a app-2@b
    echo ---
    zoned near-next new-1@a new-2@b
}

# zoned SERVICE POD@ZONE...: the slice of a headless Service whose endpoints are meant for zones.
zoned() {
    local service=$1 pod
    shift
    slices "$service" "${@%@*}" | while IFS= read -r line; do
        for pod in "$@"; do
            [[ $line == *"\"${address[${pod%@*}]}\""* && $pod == *@* ]] &&
                line="${line% \}}, hints: { forZones: [{ name: ${pod#*@} }] } }"
        done
        printf '%s\n' "$line"
    done
}

# Beside the cluster: everything but routes.
beyond_configuration() { # BYTES: that a body may have
    cat >"$scratch/beside.next" <<YAML
admin: 127.0.0.1:$admin
access_log: { file: $scratch/beside.log }
zone: a
via: beside
limits: { body: $1, target: 1KiB }
YAML
    mv "$scratch/beside.next" "$scratch/beside.yaml"
}

beyond_gate() {
    beyond | apply
    admin=$(free_port)
    beyond_configuration 16MiB
    gate_run --config "$scratch/beside.yaml" --address-pool "$network.2.1-$network.2.1"
    front=$network.2.1:80
}

zones_are_kept_to() {
    soon 'those of the zone are used' zone_answers app-1
    copies_go_to new-1 new-2
    # Nobody is left in the zone: the whole of each set is used.
    zoned near app-2@b | apply
    zoned near-next new-2@b | apply
    soon 'the other zone serves' zone_answers app-2
    soon 'its mirror, too' follows shop/near-next:80 new-2
    copies_go_to new-2 new-1
    # An endpoint without a hint: none counts.
    zoned near app-1@a app-2 | apply
    soon 'both serve' zone_answers app-1 app-2
}

zone_answers() { # POD...
    local answers
    answers=$(for _ in 1 2 3 4 5 6 7 8; do answered_by "$front" /zones; done | sort -u | xargs)
    [[ $answers == "$*" ]]
}

copies_go_to() { # POD OTHER: of the next requests all are copied to the one, none to the other
    local one other
    one=$(taken "$1") other=$(taken "$2")
    for _ in 1 2 3 4 5 6 7 8; do answered_by "$front" /zones >/dev/null; done
    soon "all copies reach $1" reached "$1" $((one + 8))
    equal "copies to $2" "$(taken "$2")" "$other"
}

reached() { [[ $(taken "$1") -ge $2 ]]; }

policies_have_their_effect() {
    python3 .ci/policies.py "$front" "http://127.0.0.1:$admin/metrics" "$pod_port" \
        "${address[witness]}" "${address[ruled]}" "${address[plain]}"
    # How long it was that they took, in the words of the log.
    grep -q 'mirror="shop/ruled:80".*no response within 2s' "$gate_log"
}

# An annotation with a mistake in it: the route that goes there says so for as long as it is there.
what_means_nothing_is_told() {
    local kind=mirrorgate.dev/SettingsIgnored
    kubectl -n shop annotate service ruled mirrorgate.dev/health-check=sometimes >/dev/null
    soon 'it is told' condition httproute/policy shop '.status.parents[0].conditions' "$kind" True/UnsupportedValue
    equal 'lines of the log' "$(grep -c 'Service shop/ruled: .*"sometimes" is ignored' "$gate_log")" 1
    kubectl -n shop annotate service ruled mirrorgate.dev/health-check=tcp --overwrite >/dev/null
    soon 'it is taken back' condition httproute/policy shop '.status.parents[0].conditions' "$kind" /
    kubectl -n shop annotate service ruled mirrorgate.dev/health-check- >/dev/null
}

the_file_says_everything_but_routes() {
    equal 'a long target' "$(answered_by "$front" "/zones/$(printf 'x%.0s' $(seq 1100))")" 414
    equal 'a body' "$(posted 2000)" 302
    beyond_configuration 1KiB
    soon 'the file is read again' body_refused
    soon 'requests are logged' grep -q 'shop/zones/rule-1' "$scratch/beside.log"
    # Gateway API's objects are none of the file's: they stay as they are.
    zone_answers app-1 app-2
}

body_refused() { [[ $(posted 2000) == 413 ]]; }

posted() { # BYTES: the status of a request with a body
    exec 5<>"/dev/tcp/${front%:*}/${front#*:}"
    printf 'POST /zones HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%0*d' "$1" "$1" 0 >&5
    head -n 1 <&5 | cut -d ' ' -f 2
    exec 5>&-
}

# permissions [PATH]: what stands in front of the API server and refuses requests for that path, as RBAC does.
# mirrorgate itself; a watch through it is a response that goes on.
permissions() {
    cat >"$scratch/permissions.next" <<YAML
listeners: [127.0.0.1:$permissions_port]
admin: off
routes:
  - { backend: api-server }
$([[ $# -eq 0 ]] || echo "  - { matches: [{ path: { prefix: $1 } }], backend: 'http://127.0.0.1:$refusal_port' }")
backends:
  api-server: { endpoints: ["127.0.0.1:$APISERVER_PORT"], tls: { ca: $scratch/server/run/ca.crt } }
YAML
    mv "$scratch/permissions.next" "$scratch/permissions.yaml"
}

refused_gate() {
    permissions_port=$(free_port) refusal_port=$(free_port)
    python3 .ci/refusal.py "$refusal_port" &
    pids+=("$!")
    permissions /api/v1/secrets
    gateway "$binary" run --config "$scratch/permissions.yaml"
    listening "$permissions_port"
    listening "$refusal_port"
    sed "s|server: .*,|server: 'http://127.0.0.1:$permissions_port',|; s|, certificate-authority-data: [^ ]*||" "$KUBECONFIG" >"$scratch/refused.kubeconfig"
    KUBECONFIG=$scratch/refused.kubeconfig gate --address-pool "$network.2.1-$network.2.1"
}

a_refused_kind_costs_only_itself() {
    fetch "http://127.0.0.1:$admin/ready" | grep -q 'Secrets cannot be watched: 403'
    grep -q 'Secrets cannot be watched.*403.*cannot list resource' "$gate_log"
    equal 'warnings' "$(fetch "http://127.0.0.1:$admin/ready" | grep -o 'cannot be watched' | wc -l)" 1
    zone_answers app-1 app-2
    copies_go_to new-2 new-1
    # Endpoints are followed all the same.
    zoned near-next new-1@a | apply
    soon 'the mirror follows' follows shop/near-next:80 new-1
    permissions
    soon 'it is watched once it may be' without_warnings
}
