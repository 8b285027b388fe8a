module portolan.test/crds

go 1.26.0

require (
	sigs.k8s.io/cluster-inventory-api v0.1.2
	sigs.k8s.io/mcs-api v0.5.0
)
