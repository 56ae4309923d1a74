# A step of .ci/kubernetes: a process that serves one Gateway beside one that serves all.
# Sourced after cluster.sh.

# beside_gate: serves the Gateway shop/beside alone, and is the first to do so.
beside_gate() {
    printf 'apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: beside, namespace: shop }\nspec: { gatewayClassName: %s, listeners: [{ name: http, port: 80, protocol: HTTP }] }\n' "$class" | apply
    gate --gateway shop/beside --address-pool "$network.3.1-$network.3.1"
    beside_pid=$gate_pid
    soon 'its Lease is held' leads beside
}

holder() { kubectl -n shop get lease "mirrorgate-$1" -o 'jsonpath={.spec.holderIdentity}'; }
leads() { [[ -n $(holder "$1") ]]; }
one_leads_both() { leads beside && [[ $(holder beside) == $(holder front) ]]; }

# parents NAME...: Gateways that the route names.
parents() {
    local refs
    refs=$(printf '{"name":"%s"},' "$@")
    kubectl -n shop patch httproute shop --type merge -p "{\"spec\":{\"parentRefs\":[${refs%,}]}}" >/dev/null
}

# spoken NAME...: whether the route has entries about these Gateways, of the generation that it has now.
spoken() {
    local generation
    generation=$(kubectl -n shop get httproute shop -o 'jsonpath={.metadata.generation}')
    says httproute/shop shop '{range .status.parents[*]}{.parentRef.name}/{.conditions[0].observedGeneration} {end}' "$(printf "%s/$generation " "$@")"
}

versions() { kubectl -n shop get httproutes,gateways -o 'jsonpath={.items[*].metadata.resourceVersion}'; }

each_leads_its_own() {
    local before
    soon 'both are led' leads front
    # A cluster deletes a Lease with the Gateway that owns it; here nobody does.
    equal 'the owner of the Lease' "$(kubectl -n shop get lease mirrorgate-front -o 'jsonpath={.metadata.ownerReferences[*].uid}')" \
        "$(kubectl -n shop get gateway front -o 'jsonpath={.metadata.uid}')"
    [[ $(holder front) != $(holder beside) ]]
    parents front beside
    soon 'both speak about the route' spoken front beside
    before=$(versions)
    sleep 2
    equal 'versions while nothing happens' "$(versions)" "$before"
    # Who is left speaks about both.
    kill "$beside_pid"
    soon 'the other one leads' one_leads_both
    parents beside front
    soon 'it speaks about both' spoken front beside
    kubectl -n shop delete gateway beside >/dev/null
    soon 'nothing is said about what is gone' spoken front
    soon 'its Lease is given up' says lease/mirrorgate-beside shop '{.spec.holderIdentity}' ''
    parents front
    soon 'the route is as it was' spoken front
}
