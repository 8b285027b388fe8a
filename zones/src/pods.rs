//! Where pods of the home cluster are whose Nodes don't say which addresses they have, or say it wrong: as slices say. Many network
//! plugins give addresses of their own choice, and `podCIDR` is what Kubernetes would have given.
//!
//! Only pods that are endpoints of services are known by this, and only those are kept that Nodes don't place there already.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::clusters::Clusters;
use crate::object::Place as Spot;
use crate::places::{Authority, Key, Keys, Places, is_private};
use crate::service::Service;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pods {
    by_address: GenericHashMap<IpAddr, Pod, RandomState, DefaultSharedPtr>,
    /// How many of IPv4 and of IPv6 have addresses that others than clusters' pods may have, too.
    public: [usize; 2],
    /// How many of each Nodes place elsewhere.
    contrary: [usize; 2],
}

#[derive(Debug, Clone, Copy)]
struct Pod {
    keys: Keys,
    /// In how many slices.
    times: u32,
    /// Whether a Node's networks place it elsewhere.
    contrary: bool,
}

impl Pods {
    /// All of these services' pods, where Nodes don't place them.
    pub(crate) fn of<'s>(
        services: impl Iterator<Item = &'s Service>,
        clusters: &Clusters,
        places: &Places,
    ) -> Self {
        let mut pods = Self::default();
        services.for_each(|service| pods.add(service, clusters, places));
        pods
    }

    /// A service is behind the snapshot from now on.
    pub(crate) fn add(&mut self, service: &Service, clusters: &Clusters, places: &Places) {
        for (address, keys) in pods(service, clusters) {
            let contrary = match places.find(address).0 {
                Some(known) if known.by == Authority::Operator => continue,
                Some(known) if known.by == Authority::Home && known.keys.node == keys.node => continue,
                known => known.is_some_and(|known| known.by == Authority::Home),
            };
            let fresh = !self.by_address.contains_key(&address);
            self.public[family(address)] += usize::from(fresh && !is_private(address));
            self.contrary[family(address)] += usize::from(fresh && contrary);
            let pod = self.by_address.entry(address).or_insert(Pod { keys, times: 0, contrary });
            (pod.keys, pod.times) = (keys, pod.times + 1);
        }
    }

    /// A service is no longer.
    pub(crate) fn remove(&mut self, service: &Service, clusters: &Clusters) {
        for (address, _) in pods(service, clusters) {
            let Some(pod) = self.by_address.get_mut(&address) else { continue };
            pod.times -= 1;
            if pod.times == 0 {
                self.contrary[family(address)] -= usize::from(pod.contrary);
                self.by_address.remove(&address);
                self.public[family(address)] -= usize::from(!is_private(address));
            }
        }
    }

    /// Where a client is, if it is one of them.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Keys> {
        if self.by_address.is_empty() {
            return None;
        }
        self.by_address.get(&address).map(|pod| pod.keys)
    }

    /// Whether there are any that Nodes place elsewhere.
    pub(crate) fn contradict(&self, address: IpAddr) -> bool {
        self.contrary[family(address)] > 0
    }

    /// Whether there may be one among an address' neighbours.
    pub(crate) fn are_near(&self, address: IpAddr) -> bool {
        !self.by_address.is_empty() && (self.public[family(address)] > 0 || is_private(address))
    }
}

fn pods<'s>(service: &'s Service, clusters: &'s Clusters) -> impl Iterator<Item = (IpAddr, Keys)> + 's {
    let own = service.members.iter().filter(|member| clusters.home.as_ref() == Some(&member.cluster));
    own.flat_map(move |member| {
        let pods = member.slices.iter().flat_map(|slice| &slice.endpoints);
        pods.filter_map(move |endpoint| {
            // Clients are where their Node is, whatever a slice says of the endpoints there.
            let node = endpoint.place.as_ref()?.node.clone()?;
            let spot = Spot { node: Some(node), az: None };
            let place = clusters.place(&member.cluster, Some(&spot), member.region.as_ref());
            let node = Key::of_node(&place.at());
            Some((endpoint.address, Keys { area: place.key(), node }))
        })
    })
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}
