#!/usr/bin/env bash
# The demo: serves the sample clusterset of three clusters on 127.0.0.1:5353 and shows what it answers.
# usage: demo.sh PATH-OF-PORTOLAN
set -euo pipefail
portolan=$1
cd "$(dirname "$0")/.."
state=$(mktemp -d)
server=
finish() {
  [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
  rm -rf "$state"
}
trap finish EXIT
trap 'exit 0' INT TERM

cp -r zones/samples/three-clusters/. "$state/"
cat >>"$state/portolan.yaml" <<'YAML'
listen:
  udp: ["127.0.0.1:5353"]
  tcp: ["127.0.0.1:5353"]
shutdown:
  lameduck: 0s
YAML

echo "==> starting portolan on 127.0.0.1:5353 (UDP and TCP) with the clusters paris, tokyo and virginia"
"$portolan" serve --config "$state/portolan.yaml" --ready-file "$state/ready" &
server=$!
for _ in $(seq 100); do
  [ -e "$state/ready" ] && break
  kill -0 "$server" 2>/dev/null || { echo "error: portolan ended; its messages are above" >&2; exit 1; }
  sleep 0.1
done

show() {
  printf '\n$ dig @127.0.0.1 -p 5353 %s\n' "$*"
  dig @127.0.0.1 -p 5353 +noall +comments +answer +authority "$@" | grep -E 'status:|^[^;]'
}
echo
echo "==> one virtual IP for a service that all three clusters export"
show cart.shop.svc.clusterset.local A
echo
echo "==> its ports"
show _http._tcp.cart.shop.svc.clusterset.local SRV
echo
echo "==> a headless StatefulSet: the ready endpoints of all clusters, and one of them by name"
show db.shop.svc.clusterset.local A
show db-0.tokyo.db.shop.svc.clusterset.local A
echo
echo "==> a Service that is not exported: does not exist"
show admin.shop.svc.clusterset.local A
echo
echo "==> serving until Ctrl-C; the manifests are in $state/clusters: change one and ask again"
echo "    status: curl -s http://127.0.0.1:9153/status   metrics: curl -s http://127.0.0.1:9153/metrics"
wait "$server"
