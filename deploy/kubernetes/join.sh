#!/usr/bin/env bash
# Has clusters follow each other: every one gets a ClusterPeer, with its Secret, for every other one.
# A cluster without an id gets one.
# Each needs deploy/crds and deploy/kubernetes applied before. It can be run again, with more clusters or new addresses.
set -euo pipefail

if [ $# -lt 2 ]; then
    cat >&2 <<'END'
Usage: deploy/kubernetes/join.sh CLUSTER CLUSTER...

A CLUSTER is NAME or NAME=CONTEXT: the name of its ClusterPeer, which becomes its id if it has none (ClusterProperty
cluster.clusterset.k8s.io), and the context of your kubeconfig that leads there as an administrator. The address in
that context must be one at which the other clusters reach it, too; of how to reach it, address and authority are
taken over, and no more.

Example: deploy/kubernetes/join.sh paris=kind-paris tokyo=kind-tokyo
END
    exit 2
fi

name() { echo "${1%%=*}"; }
context() { echo "${1#*=}"; }

# What leads into a cluster with no more rights than 12-rbac-peer.yaml gives.
kubeconfig() {
    local context secret token cluster authority
    context=$(context "$1")
    cluster=(kubectl --context "$context" config view --raw --minify --flatten --output)
    secret=(kubectl --context "$context" --namespace portolan-system get secret portolan-peer --output)
    for _ in $(seq 30); do # a controller fills it
        token=$("${secret[@]}" 'jsonpath={.data.token}' | base64 --decode)
        [ -z "$token" ] || break
        sleep 1
    done
    [ -n "$token" ] || { echo "$1: Secret portolan-system/portolan-peer has no token: is kube-controller-manager running?" >&2; exit 1; }
    # The address and its authority belong together; without one, a public authority vouches for it.
    authority=$("${cluster[@]}" 'jsonpath={.clusters[0].cluster.certificate-authority-data}')
    cat <<END
apiVersion: v1
kind: Config
current-context: peer
contexts: [{name: peer, context: {cluster: peer, user: peer}}]
clusters:
  - name: peer
    cluster:
      server: $("${cluster[@]}" 'jsonpath={.clusters[0].cluster.server}')
${authority:+      certificate-authority-data: $authority}
users: [{name: peer, user: {token: $token}}]
END
}

for cluster in "$@"; do
    property=(kubectl --context "$(context "$cluster")" get clusterproperty cluster.clusterset.k8s.io)
    [ -z "$("${property[@]}" --ignore-not-found --output name)" ] || continue
    echo "==> the id of $(name "$cluster")"
    version=$(kubectl --context "$(context "$cluster")" api-versions | grep '^about.k8s.io/' | sort | tail -1 || true)
    [ -n "$version" ] || { echo "$(name "$cluster"): ClusterProperty is not defined there: apply the CRD of sigs.k8s.io/about-api" >&2; exit 1; }
    kubectl --context "$(context "$cluster")" apply --server-side --filename - <<END
apiVersion: $version
kind: ClusterProperty
metadata: {name: cluster.clusterset.k8s.io}
spec: {value: $(name "$cluster")}
END
done

for other in "$@"; do
    config=$(kubeconfig "$other")
    for cluster in "$@"; do
        [ "$cluster" = "$other" ] && continue
        echo "==> $(name "$cluster") follows $(name "$other")"
        # On the server's side, so that no annotation repeats the token.
        kubectl --context "$(context "$cluster")" apply --server-side --filename - <<END
apiVersion: v1
kind: Secret
metadata: {name: $(name "$other"), namespace: portolan-system}
stringData:
  kubeconfig: |
$(sed 's/^/    /' <<<"$config")
---
apiVersion: portolan.dev/v1alpha1
kind: ClusterPeer
metadata: {name: $(name "$other")}
spec: {credentials: {secret: {name: $(name "$other")}}}
END
    done
done
