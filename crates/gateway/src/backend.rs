//! One port of one Service, and the addresses behind it.
//!
//! Routes hold the [`Backend`] itself, so a pod that comes or goes swaps one
//! list here and touches no route.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;

use crate::object::{Id, PortRef, Protocol};
use crate::upstream_tls::BackendTls;

pub struct Backend {
    pub service: Id,
    pub port: PortRef,
    endpoints: ArcSwap<Vec<SocketAddr>>,
    facts: ArcSwap<Facts>,
    turn: AtomicUsize,
}

/// What is known of a backend besides its endpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// There is such a Service with such a port.
    pub exists: bool,
    pub protocol: Protocol,
    /// It is spoken to over TLS, and has to prove who it is.
    pub tls: Option<Arc<BackendTls>>,
    /// It should be, but can't, and is not spoken to otherwise.
    pub refused: Option<String>,
}

impl Facts {
    /// Those of nearly all backends are kept once.
    fn shared(self) -> Arc<Self> {
        static PLAIN: LazyLock<[Arc<Facts>; 2]> =
            LazyLock::new(|| [false, true].map(|exists| Arc::new(Facts { exists, ..Facts::default() })));
        match PLAIN.iter().find(|plain| ***plain == self) {
            Some(plain) => plain.clone(),
            None => Arc::new(self),
        }
    }
}

impl Backend {
    pub fn new(service: Id, port: PortRef) -> Self {
        Self {
            service,
            port,
            endpoints: ArcSwap::default(),
            facts: ArcSwap::new(Facts::default().shared()),
            turn: AtomicUsize::new(0),
        }
    }

    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    pub fn set_facts(&self, facts: Facts) {
        if **self.facts.load() != facts {
            self.facts.store(facts.shared());
        }
    }

    pub fn set(&self, endpoints: Vec<SocketAddr>) {
        if **self.endpoints.load() != endpoints {
            self.endpoints.store(Arc::new(endpoints));
        }
    }

    pub fn endpoints(&self) -> Arc<Vec<SocketAddr>> {
        self.endpoints.load_full()
    }

    /// The next endpoint in turn that is not among those already `tried`; a
    /// retry may go back to one of them when there is no other.
    pub fn pick(&self, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let endpoints = self.endpoints.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = |step: usize| endpoints.get(turn.wrapping_add(step) % endpoints.len()).copied();
        (0..endpoints.len())
            .filter_map(in_turn)
            .find(|endpoint| !tried.contains(endpoint))
            .or_else(|| if endpoints.is_empty() { None } else { in_turn(0) })
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            PortRef::Number(port) => write!(f, "{}:{port}", self.service),
            PortRef::Name(port) => write!(f, "{}:{port}", self.service),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn goes_round_and_avoids_what_was_tried() {
        let backend = Backend::new(Id::new("a", "b"), PortRef::Number(80));
        assert_eq!(backend.pick(&[]), None);
        backend.set(vec![address(1), address(2), address(3)]);
        let mut seen: Vec<_> = (0..3).filter_map(|_| backend.pick(&[])).collect();
        seen.sort_unstable();
        assert_eq!(seen, [address(1), address(2), address(3)]);
        for _ in 0..3 {
            assert_eq!(backend.pick(&[address(1), address(3)]), Some(address(2)));
        }
        assert!(backend.pick(&[address(1), address(2), address(3)]).is_some());
    }
}
