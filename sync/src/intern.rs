//! Values that millions of endpoints share: one allocation for each.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use portolan_zones::object::{Place, Port, ServiceSpec, SlicePort};
use portolan_zones::{NameError, ServiceName};

/// Finds the shared copy of a value, or makes it.
#[derive(Default)]
pub struct Interner {
    texts: Pool<str>,
    places: Pool<Place>,
    ports: Pool<[Port]>,
    slice_ports: Pool<[SlicePort]>,
    specs: Pool<ServiceSpec>,
    services: HashSet<ServiceName, foldhash::fast::RandomState>,
    /// When `services` is looked through for names that nobody uses.
    sweep_services_at: usize,
    wire: Vec<u8>,
}

impl Interner {
    /// A text that recurs: a namespace, a node, a port's name.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get(text, || text.into())
    }

    /// A service's name: its Service, ServiceExport, ServiceImport and EndpointSlices all have it.
    pub fn service(&mut self, namespace: &str, name: &str) -> Result<ServiceName, NameError> {
        ServiceName::write(&mut self.wire, namespace, name)?;
        if let Some(shared) = self.services.get(&*self.wire) {
            return Ok(shared.clone());
        }
        if self.services.len() >= self.sweep_services_at {
            self.services.retain(|service| service.holders() > 1);
            self.sweep_services_at = (self.services.len() * 2).max(1024);
        }
        let service = ServiceName::new(namespace, name)?;
        self.services.insert(service.clone());
        Ok(service)
    }

    /// Where an endpoint runs; `None` when nothing is known of it.
    pub fn place(&mut self, node: Option<&str>, az: Option<&str>) -> Option<Arc<Place>> {
        if node.is_none() && az.is_none() {
            return None;
        }
        let place = Place { node: node.map(|t| self.text(t)), az: az.map(|t| self.text(t)) };
        Some(self.places.get(&place, || Arc::new(place.clone())))
    }

    /// The ports of a Service.
    pub fn ports(&mut self, ports: &[Port]) -> Arc<[Port]> {
        self.ports.get(ports, || ports.into())
    }

    /// What a Service or ServiceImport is like.
    pub fn spec(&mut self, spec: &ServiceSpec) -> Arc<ServiceSpec> {
        self.specs.get(spec, || Arc::new(spec.clone()))
    }

    /// The ports of an EndpointSlice.
    pub fn slice_ports(&mut self, ports: &[SlicePort]) -> Arc<[SlicePort]> {
        self.slice_ports.get(ports, || ports.into())
    }
}

/// The shared values of one type. What nobody else uses any more is dropped whenever their number has doubled.
struct Pool<T: ?Sized> {
    values: HashSet<Arc<T>, foldhash::fast::RandomState>,
    sweep_at: usize,
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn get(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(shared) = self.values.get(value) {
            return shared.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(1024);
        }
        let shared = make();
        self.values.insert(shared.clone());
        shared
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::default(), sweep_at: 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let mut interner = Interner::default();
        let a = interner.place(Some("node-1"), Some("eu-west-a"));
        let b = interner.place(Some("node-1"), Some("eu-west-a"));
        assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
        assert_eq!(interner.place(None, None), None);
        let name = interner.service("shop", "cart").unwrap();
        assert_eq!(interner.service("shop", "cart").unwrap(), name);
        assert_eq!(name.holders(), 2, "one here, one in the interner");
        assert!(interner.service("shop", "Cart").is_err());
    }

    #[test]
    fn values_that_nobody_uses_do_not_pile_up() {
        let mut interner = Interner::default();
        let kept = interner.text("kept");
        for i in 0..100_000 {
            interner.text(&i.to_string());
        }
        assert!(interner.texts.values.len() <= 2048);
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
