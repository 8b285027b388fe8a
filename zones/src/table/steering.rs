//! What policies need of the table: where clients and endpoints are, what is checked, and what they touch.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Table;
use crate::answers::{Limits, Scene};
use crate::merge::Word;
use crate::name::ClusterId;
use crate::object::{Place, Slice};
use crate::places::Places;
use crate::pods::Pods;
use crate::policy::health::{Check, Checked};
use crate::policy::{Form, PolicyName, PolicyProblem, Touched};
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::standing::Standing;
use crate::zone::{Zone, Zones};

impl Table {
    /// Lists anew where clients are, if that changed, and marks the services whose endpoints are elsewhere now.
    pub(super) fn settle_places(&mut self) {
        let moved = self.clusters.take_relocated();
        for cluster in self.clusters.settle_regions(moved.iter().map(|(cluster, _)| cluster.clone())) {
            self.touch_cluster(&cluster);
        }
        let at_home = moved.iter().any(|(cluster, _)| self.is_home(cluster));
        self.readiness.outdated |= at_home;
        let is_gated = self.readiness.service.is_some();
        let areas_changed = self.whereabouts.settle(&self.clusters, !moved.is_empty(), at_home, is_gated);
        // Without policies of one's own, there are those that imports tell of; and what stands in for virtual IPs heeds Services' own
        // fields.
        let any = !self.policies.is_empty() || self.readiness.service.is_some();
        let is_steered =
            |word: &Word| any || word.import.as_ref().is_some_and(|import| import.policy.is_some());
        let is_moved = |word: &Word, slice: &Slice, place: &Place| {
            let of = slice.source.as_ref().unwrap_or(&word.cluster);
            let node = place.node.as_ref();
            node.is_some_and(|node| moved.contains(&(of.clone(), node.clone())))
        };
        if areas_changed {
            self.touch_words(is_steered);
        } else if !moved.is_empty() {
            self.touch_words(|word| {
                let mut places =
                    word.slices.iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e.place.as_deref())));
                is_steered(word)
                    && places.any(|(slice, place)| place.is_some_and(|place| is_moved(word, slice, place)))
            });
        }
    }

    /// What a service's health check is about, and what is known of that; `forms`: what its name answers in some zone.
    pub(crate) fn checked(&self, service: &Service, forms: &BTreeSet<Form>) -> Option<Box<Checked>> {
        self.checks.of(service, self.clusters.home.as_ref(), forms)
    }

    /// A service has other checks than before.
    pub(crate) fn file_checks(&mut self, before: Option<&Service>, after: Option<&Service>) {
        let has = |service: Option<&Service>| service.is_some_and(|service| service.checked().is_some());
        if has(before) || has(after) {
            self.checks.file(before, after);
        }
    }

    /// All services are about to be compiled anew.
    pub(crate) fn begin_checks(&mut self) {
        self.checks.begin();
    }

    /// All that is to be checked, if that is something else than at the last call.
    pub fn take_checks(&mut self) -> Option<HashSet<Check>> {
        self.checks.take_news()
    }

    /// Whether this is the cluster whose clients ask.
    pub fn is_home(&self, cluster: &ClusterId) -> bool {
        self.clusters.home.as_ref() == Some(cluster)
    }

    /// The number of each zone's policies among those of all zones that have some of their own, by the zones' positions.
    pub(crate) fn variants(&self, zones: &Zones) -> Box<[Option<u8>]> {
        let own = self.policies.zones();
        let number = |zone: &Zone| own.binary_search(&zone.config.origin).ok();
        zones.iter().map(|zone| number(zone).and_then(|at| u8::try_from(at).ok())).collect()
    }

    /// Where clients are.
    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.whereabouts.places
    }

    /// Brings pods in line after all else of a snapshot: `changed` are services as they were and as they are. Whether
    /// all were read anew.
    pub(crate) fn follow_pods(&mut self, next: &mut Snapshot, changed: &[[Option<Arc<Service>>; 2]]) -> bool {
        let (by_slices, clusters) = (self.whereabouts.by_slices, &self.clusters);
        let places = &*self.whereabouts.places;
        if std::mem::take(&mut self.whereabouts.pods_moved) {
            let all = next.services.iter().map(|service| &**service).filter(|_| by_slices);
            next.pods = Pods::of(all, clusters, places);
            return true;
        }
        if by_slices {
            for [before, after] in changed {
                after.iter().for_each(|service| next.pods.add(service, clusters, places));
                before.iter().for_each(|service| next.pods.remove(service, clusters));
            }
        }
        false
    }

    /// What answers depend on besides the service.
    pub(crate) fn scene(&self, limits: Limits) -> Scene<'_> {
        let by_agent = self.readiness.service.is_some();
        Scene { limits, clusters: &self.clusters, areas: &self.whereabouts.areas, by_agent }
    }

    /// Policies that don't hold for something that they are about, and why.
    pub fn overridden_policies(&self) -> impl Iterator<Item = (&ClusterId, &PolicyName, PolicyProblem)> {
        self.policies.overridden()
    }

    /// Looks anew how clusters stand, and marks what may be answered otherwise then. How far away they are is news to few.
    pub(super) fn settle_standings(&mut self) {
        let shifts = self.clusters.standings.settle(self.clusters.home.as_ref());
        for cluster in &shifts.said {
            self.touch_cluster(cluster);
        }
        if !shifts.moved.is_empty() {
            self.touch_timed(&shifts.moved);
        }
    }

    /// How clusters stand, for people.
    pub(crate) fn standings(&self) -> &Arc<BTreeMap<ClusterId, Standing>> {
        self.clusters.standings.all()
    }

    /// Marks what policies are about that came or went.
    pub(super) fn touch_subjects(&mut self, touched: Vec<Touched>) {
        for subject in touched {
            match subject {
                Touched::Service(name) => self.touch(&name),
                Touched::Namespace(namespace) => {
                    self.touch_names(|name| name.namespace() == &*namespace);
                }
                Touched::All => self.touch_all(),
            }
        }
    }
}
