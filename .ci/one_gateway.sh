# Steps of .ci/kubernetes for a process that serves one Gateway behind a Service, as deploy/ installs it,
# with no more than what lies in its namespace: GatewayClasses are not even defined yet.
# Sourced after cluster.sh.

# lone: the Gateway shop/lone at all addresses of the machine and $lone_port, and one route for each kind
# of Service.
lone() {
    cat <<YAML
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: lone, namespace: shop }
spec: { gatewayClassName: unknown, listeners: [{ name: http, port: $lone_port, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: elsewhere, namespace: shop }
spec: { gatewayClassName: unknown, listeners: [{ name: http, port: $(free_port), protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: lone, namespace: shop }
spec:
  parentRefs: [{ name: lone }]
  rules:
    - { matches: [{ path: { value: /both } }], backendRefs: [{ name: both, port: 80 }] }
    - { matches: [{ path: { value: /direct } }], backendRefs: [{ name: direct, port: $pod_port }] }
    - { matches: [{ path: { value: /outside } }], backendRefs: [{ name: outside, port: $pod_port }] }
---
apiVersion: v1
kind: Service
metadata: { name: direct, namespace: shop }
spec: { clusterIP: ${address[app-2]}, ports: [{ name: http, port: $pod_port }] }
---
apiVersion: v1
kind: Service
metadata: { name: outside, namespace: shop }
spec: { type: ExternalName, externalName: localhost }
---
YAML
    service lone
    service both
    slices direct app-1
    echo ---
    slices both app-1
    echo ---
    # The same Service's other family.
    slices both six | sed 's/name: both-1/name: both-2/; s/addressType: IPv4/addressType: IPv6/'
}

lone_gate() {
    gate --namespace shop --gateway shop/lone --status-service shop/lone "$@"
}

lone_answers() { # PATH POD...: the pods that answer there
    local path=$1 answers
    shift
    answers=$(for _ in 1 2 3 4 5 6; do answered_by "127.0.0.1:$lone_port" "$path"; done | sort -u | xargs)
    [[ $answers == "$*" ]]
}

without_classes_the_named_gateway_is_served() {
    fetch "http://127.0.0.1:$admin/ready" | grep -q 'GatewayClasses cannot be watched'
    soon 'the Gateway is programmed' condition gateway/lone shop .status.conditions Programmed True/Programmed
    equal 'the other Gateway' "$(kubectl -n shop get gateway elsewhere -o 'jsonpath={.status.listeners[*].name}')" ''
    says gateway/lone shop '{.status.addresses[*].value}' 10.96.0.1
    kubectl -n shop patch service lone --subresource status --type merge -p '{"status":{"loadBalancer":{"ingress":[{"hostname":"lb.example"},{"ip":"192.0.2.9"}]}}}' >/dev/null
    soon 'the load balancer is told' says gateway/lone shop '{.status.addresses[*].type}/{.status.addresses[*].value}' 'Hostname IPAddress/lb.example 192.0.2.9'
}

services_of_every_kind_are_reached() {
    soon 'both families of addresses' lone_answers /both app-1 six
    soon 'a host outside' lone_answers /outside outside
    soon 'its endpoints' lone_answers /direct app-1
    kubectl -n shop annotate service direct mirrorgate.dev/backend-routing=service >/dev/null
    soon 'its cluster IP, by annotation' lone_answers /direct app-2
    kubectl -n shop annotate service direct mirrorgate.dev/backend-routing- >/dev/null
    soon 'its endpoints again' lone_answers /direct app-1
}

# After the one that held it has drained: the next need not wait for it to run out.
the_lease_is_given_up() { says lease/mirrorgate-lone shop '{.spec.holderIdentity}' ''; }

the_next_holds_it() {
    soon 'the next one holds it' held
    soon 'its cluster IP, by flag' lone_answers /direct app-2
}

held() { kubectl -n shop get lease mirrorgate-lone -o 'jsonpath={.spec.holderIdentity}' | grep -q .; }

# deploy_applies FOLDER: it can be built, and the API server takes all kinds that it has.
deploy_applies() {
    kubectl kustomize "deploy/$1" >"$scratch/deploy.yaml"
    kubectl apply --server-side --force-conflicts -f "$scratch/deploy.yaml" >"$scratch/applied.txt" 2>"$scratch/refused.txt" || true
    local refused
    # This API server has neither RBAC, nor disruption budgets, nor autoscalers.
    refused=$(grep -vE 'no matches for kind "((Cluster)?Role(Binding)?|PodDisruptionBudget|HorizontalPodAutoscaler)"|ensure CRDs are installed first' "$scratch/refused.txt" || true)
    equal "refused of deploy/$1" "$refused" ''
    for kind in configmap/ service/ serviceaccount/ deployment.apps/ gateway.gateway.networking.k8s.io/; do
        grep -q "^${kind}mirrorgate serverside-applied" "$scratch/applied.txt" || { echo "$kind is not applied" >&2; return 1; }
    done
}
