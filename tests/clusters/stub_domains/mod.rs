//! The ways in: `clusterset.local` as a stub domain of the DNS server that a cluster has already, with the files of
//! `deploy/stub-domains`, asked by dig and nslookup.
//!
//! CoreDNS and dnsmasq are real. Of the project Kubernetes DNS (`kube-dns`, `dnsmasq-nanny`, `node-cache`) the real
//! programs run when the environment variable KUBE_DNS_ASSETS names a folder that has them ready: it is in no package
//! registry. Otherwise the tests make do with what these consist of, and print so: see the harness's `kube_dns` and
//! `node_cache`.

mod answers;
mod coredns;
mod kube_dns;
mod node_cache;
