#!/usr/bin/env bash
# The demo of virtual IPs on a node: three clusters in network namespaces of this machine, joined by gateways; a client's connections
# are redirected by the real agent. Ends by itself when standard input is no terminal; leaves nothing behind. As root.
# usage: demo-ebpf.sh FOLDER-WITH-PORTOLAN-AND-PORTOLAN-AGENT
set -euo pipefail
if [ "$(id -u)" != 0 ]; then
  echo "error: this demo makes network namespaces and attaches eBPF programs: run it as root, for example by sudo" >&2
  exit 1
fi
binaries=$(cd "${1:?usage: demo-ebpf.sh FOLDER-WITH-PORTOLAN-AND-PORTOLAN-AGENT}" && pwd)
export PATH=$binaries:$PATH:/usr/sbin:/sbin
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
name=portolan-demo-$$
state=$(mktemp -d -t "$name.XXXXXX")
pins=$state/bpf/portolan
cgroup=
namespaces=()
servers=()

finish() {
  trap '' INT TERM
  local entry
  for entry in "${servers[@]}"; do kill "$entry" || true; done
  for entry in "${servers[@]}"; do wait "$entry" || true; done
  portolan-agent detach --pins "$pins" >/dev/null || true
  for entry in "${namespaces[@]}"; do ip netns del "$entry" || true; done
  for _ in $(seq 50); do [ ! -d "$cgroup" ] || rmdir "$cgroup" 2>/dev/null && break; sleep 0.1; done
  for entry in "$state/cgroup2" "$state/bpf"; do mountpoint -q "$entry" && umount "$entry"; done
  rm -rf --one-file-system "$state"
} 2>/dev/null
trap finish EXIT
trap 'exit 0' INT TERM

say() { printf '\n==> %s\n' "$*"; }

# await WHAT COMMAND...: until the command succeeds.
await() {
  local what=$1
  shift
  for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "error: $what: not within 30 seconds; what the programs said:" >&2
  tail -n 5 "$state"/*.log >&2
  exit 1
}

# host NAME: a network namespace.
host() {
  ip netns add "$name-$1"
  namespaces+=("$name-$1")
  ip -n "$name-$1" link set lo up
}

# join A ADDRESS B ADDRESS: a cable between two hosts.
join() {
  ip -n "$name-$1" link add "to-$3" type veth peer name "to-$1" netns "$name-$3"
  ip -n "$name-$1" address add "$2" dev "to-$3"
  ip -n "$name-$3" address add "$4" dev "to-$1"
  ip -n "$name-$1" link set "to-$3" up
  ip -n "$name-$3" link set "to-$1" up
}

# serve HOST COMMAND...: runs in the background, until the end; its number is in $!.
serve() {
  local where=$1
  shift
  nsenter --net="/run/netns/$name-$where" -- "$@" </dev/null >>"$state/$where.log" 2>&1 &
  servers+=($!)
}

# slay SERVER: ends it as a crash does.
slay() {
  local one left=()
  { kill -KILL "$1" && wait "$1" || true; } 2>/dev/null
  for one in "${servers[@]}"; do [ "$one" = "$1" ] || left+=("$one"); done
  servers=("${left[@]}")
}

# pod HOST ADDRESS CLUSTER: says which cluster it is in.
pod() {
  serve "$1" python3 "$state/backend.py" "$2" "$3"
}

# manifests CLUSTER PODS ANNOTATIONS: the exported service, its pods, and where other networks reach it.
manifests() {
  mkdir -p "$state/clusters/$1"
  cat >"$state/clusters/$1/hello.yaml" <<YAML
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceExport
metadata: {name: hello, namespace: default, annotations: {$3}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hello-a, namespace: default, labels: {kubernetes.io/service-name: hello}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [$2], conditions: {ready: true}}]
YAML
}

# policy LINE: what the clients of paris get, and that gateways are asked every second whether they are there.
policy() {
  cat >"$state/policy.new" <<YAML
apiVersion: portolan.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: hello, namespace: default}
spec:
  targetRefs: [{kind: ServiceImport, name: hello}]
  healthCheck: {type: TCP, interval: 1s, timeout: 1s, fall: 2}
  $1
YAML
  mv "$state/policy.new" "$state/clusters/paris/policy.yaml"
  sed -n '$p' "$state/clusters/paris/policy.yaml"
}

gateway() {
  portolan gateway --manifests "$state/clusters" --cluster "$1" --format haproxy >"$state/$1.cfg"
  serve "$1" haproxy -db -f "$state/$1.cfg"
}

agent() {
  rm -f "$state/agent.ready"
  serve client portolan-agent run --config "$state/portolan.yaml" --ready-file "$state/agent.ready"
  agent=$!
  await "the agent redirects" test -e "$state/agent.ready"
}

# show COMMAND...: as somebody types it on the client.
show() {
  printf '\n$ %s\n' "$*"
  "$state/client" "$@" || true
}

answers() {
  "$state/client" sh -c 'for i in $(seq 20); do curl -s --max-time 5 "$0" || echo "no answer"; done' "http://$hello" |
    sort | uniq -c
}

curls() {
  printf '\n$ for i in $(seq 20); do curl -s http://%s; done | sort | uniq -c\n' "$hello"
  answers
}

# uses CLUSTER: whether connections may go to it. lacks CLUSTER: whether they may not.
uses() { "$state/client" portolan-agent status default/hello | grep -qw "$1"; }
lacks() { ! uses "$1"; }
only() { [ "$(answers | awk '{print $2}' | tr '\n' ' ')" = "$1 " ]; }

hello=hello.default.svc.clusterset.local
mkdir "$state/bpf" "$state/cgroup2"
mount -t bpf bpf "$state/bpf"
cgroup2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
if [ -z "$cgroup2" ]; then
  cgroup2=$state/cgroup2
  mount -t cgroup2 cgroup2 "$cgroup2"
fi
cgroup=$cgroup2/$name
mkdir "$cgroup"

cat >"$state/backend.py" <<'PY'
import http.server
import sys


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (sys.argv[2] + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer((sys.argv[1], 8080), Backend).serve_forever()
PY
cat >"$state/client" <<SH
#!/bin/sh
# Runs a command as the client: on its host, with its resolver, in the cgroup whose programs are redirected.
echo \$\$ >'$cgroup/cgroup.procs'
PATH='$binaries':\$PATH
exec nsenter --net=/run/netns/$name-client -- unshare --mount -- sh -c \\
  'mount --bind "$state/resolv.conf" /etc/resolv.conf && exec "\$@"' sh "\$@"
SH
chmod +x "$state/client"
echo "nameserver 127.0.0.1" >"$state/resolv.conf"
cat >"$state/portolan.yaml" <<YAML
version: v1
home: paris
clusters:
- {name: paris, manifests: clusters/paris}
- {name: tokyo, manifests: clusters/tokyo, network: tokyo}
- {name: virginia, manifests: clusters/virginia, network: virginia}
listen: {udp: ["127.0.0.1:53"], tcp: ["127.0.0.1:53"]}
shutdown: {lameduck: 0s}
agent: {cgroup: $cgroup, pins: $pins, node: paris-1}
log: {level: warn}
YAML

say "three clusters on this machine, each on a network of its own"
cat <<'PICTURE'

  cluster paris               gateways, by HAProxy          pods
 ┌─────────────────────┐
 │ client ─── pod      │
 │   │        10.1.0.11│
 │ agent, DNS          │
 └───┬─────────────────┘
     ├──── 198.51.100.0/24 ── 198.51.100.7:20080 ── 10.9.0.11   cluster tokyo
     └──── 203.0.113.0/24 ─── 203.0.113.7:20080 ─── 10.9.0.11   cluster virginia

  The client has no way to the pods of tokyo and virginia, which even have the same address.
PICTURE
for one in client paris tokyo tokyo-p virginia virginia-p; do host "$one"; done
join client 10.1.0.1/24 paris 10.1.0.11/24
join client 198.51.100.1/24 tokyo 198.51.100.7/24
join tokyo 10.9.0.1/24 tokyo-p 10.9.0.11/24
join client 203.0.113.1/24 virginia 203.0.113.7/24
join virginia 10.9.0.1/24 virginia-p 10.9.0.11/24
manifests paris 10.1.0.11 ""
echo "{apiVersion: v1, kind: Node, metadata: {name: paris-1}}" >"$state/clusters/paris/nodes.yaml"
manifests tokyo 10.9.0.11 "portolan.dev/gateway: 198.51.100.7, portolan.dev/gateway-ports: 80=20080"
manifests virginia 10.9.0.11 "portolan.dev/gateway: 203.0.113.7, portolan.dev/gateway-ports: 80=20080"
say "the policy: the closest cluster first"
policy "locality: {order: [Cluster]}"
pod paris 10.1.0.11 paris
pod tokyo-p 10.9.0.11 tokyo
pod virginia-p 10.9.0.11 virginia
gateway tokyo
tokyo=$!
gateway virginia
serve client portolan serve --config "$state/portolan.yaml" --ready-file "$state/server.ready"
agent
await "the server is ready" test -e "$state/server.ready"

say "one name, one virtual IP, and connections that go to the closest cluster"
show dig +short "$hello"
await "the closest cluster answers" only paris
curls
say "the policy is changed: one in two to paris, the others to tokyo and virginia"
policy "weights: [{cluster: paris, weight: 2}, {cluster: tokyo, weight: 1}, {cluster: virginia, weight: 1}]"
await "all clusters answer" only "paris tokyo virginia"
curls
say "decisions as the kernel makes them"
printf '\n$ portolan-agent trace -n 5\n'
"$state/client" timeout 30 portolan-agent trace -n 5 &
trace=$!
while kill -0 "$trace" 2>/dev/null; do "$state/client" curl -s "http://$hello" >/dev/null || true; done
wait "$trace" || true
say "the gateway of tokyo is killed; the health check notices"
slay "$tokyo"
await "tokyo is left out" lacks tokyo
curls
show portolan-agent status default/hello
say "the agent"
show portolan-agent status
say "the agent is killed: the kernel goes on by what it knew"
slay "$agent"
show portolan-agent status --pins "$pins"
curls
[ -t 0 ] || exit 0
agent
gateway tokyo
say "all is up again, until Ctrl-C. Run what you like as the client, and change manifests in $state/clusters:"
echo "    $state/client curl http://$hello"
echo "    $state/client portolan-agent trace"
wait
