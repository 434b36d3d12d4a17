//! Addresses for Services of type LoadBalancer, from a pool, where no cloud
//! gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::FIELD_MANAGER;

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ends = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match ends {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is not FIRST-LAST, two IPv4 addresses in order")),
        }
    }
}

/// What a Service says of the address it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Any,
    For(Ipv4Addr),
    Nonsense,
}

fn asked(service: &Service) -> Asked {
    match service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref()) {
        None | Some("") => Asked::Any,
        Some(text) => text.parse().map_or(Asked::Nonsense, Asked::For),
    }
}

/// Which Service has which address.
#[derive(Debug)]
struct Allocation {
    pool: Pool,
    held: BTreeMap<String, Ipv4Addr>,
}

impl Allocation {
    fn new(pool: Pool) -> Self {
        Self { pool, held: BTreeMap::new() }
    }

    /// The address for a Service that now has `current`: that one if it is of
    /// the pool and nobody else's, else the first that is free. One that `asked`
    /// for an address gets that or none.
    fn give(&mut self, service: &str, current: Option<Ipv4Addr>, asked: Asked) -> Option<Ipv4Addr> {
        self.held.remove(service);
        let taken: BTreeSet<Ipv4Addr> = self.held.values().copied().collect();
        let usable = |address: &Ipv4Addr| {
            (self.pool.first..=self.pool.last).contains(address) && !taken.contains(address)
        };
        let range = u32::from(self.pool.first)..=u32::from(self.pool.last);
        let chosen = match asked {
            Asked::Any => current.filter(usable).or_else(|| range.map(Ipv4Addr::from).find(usable))?,
            Asked::For(address) => Some(address).filter(usable)?,
            Asked::Nonsense => return None,
        };
        self.held.insert(service.into(), chosen);
        Some(chosen)
    }

    /// Whether an address became free by that.
    fn take_back(&mut self, service: &str) -> bool {
        self.held.remove(service).is_some()
    }
}

fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == "atoll.dev/pool")
        && service.metadata.deletion_timestamp.is_none()
}

fn current(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.first()?.ip.as_ref()?.parse().ok()
}

fn key(service: &Service) -> String {
    format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any())
}

/// Watches Services and gives addresses.
pub async fn run(client: Client, pool: Pool) -> anyhow::Result<()> {
    let changes = watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).default_backoff();
    pin_mut!(changes);
    let mut allocation = Allocation::new(pool);
    // Addresses that are held are all known before any is given out.
    let mut waiting: Vec<Service> = Vec::new();
    // Those that found the pool empty, until an address becomes free.
    let mut unserved: Vec<Service> = Vec::new();
    let mut listed = false;
    while let Some(change) = changes.next().await {
        match change {
            Ok(watcher::Event::Init) => {
                allocation = Allocation::new(pool);
                unserved.clear();
                listed = false;
            }
            Ok(watcher::Event::InitApply(service)) | Ok(watcher::Event::Apply(service)) => {
                if is_ours(&service) {
                    if let Some(address) = current(&service) {
                        allocation.give(&key(&service), Some(address), asked(&service));
                    }
                    waiting.push(service);
                } else if allocation.take_back(&key(&service)) {
                    waiting.append(&mut unserved);
                }
            }
            Ok(watcher::Event::Delete(service)) => {
                unserved.retain(|other| key(other) != key(&service));
                if allocation.take_back(&key(&service)) {
                    waiting.append(&mut unserved);
                }
            }
            Ok(watcher::Event::InitDone) => listed = true,
            Err(error) => tracing::warn!(%error, "watching services"),
        }
        if listed {
            for service in waiting.drain(..) {
                if !settle(&client, &mut allocation, &service).await {
                    unserved.push(service);
                }
            }
        }
    }
    anyhow::bail!("the watch of services ended")
}

/// Gives a Service its address; false when there is none left.
async fn settle(client: &Client, allocation: &mut Allocation, service: &Service) -> bool {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let now = current(service);
    let asked = asked(service);
    let Some(address) = allocation.give(&key(service), now, asked) else {
        match asked {
            Asked::Any => tracing::error!(service = key(service), "no address is left in the pool"),
            // The one who asks is the one who is wrong.
            _ => tracing::info!(service = key(service), "the address it asks for can't be had"),
        }
        return false;
    };
    if now == Some(address) {
        return true;
    }
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } });
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    match services.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await {
        Ok(_) => tracing::info!(service = key(service), %address, by = FIELD_MANAGER, "gave an address"),
        // Its next change, or the watch's next start, tries again.
        Err(error) => tracing::warn!(service = key(service), %error, "giving an address"),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        "10.0.0.1-10.0.0.2".parse().unwrap()
    }

    fn address(last: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn each_gets_its_own_and_keeps_it() {
        let mut allocation = Allocation::new(pool());
        assert_eq!(allocation.give("a", None, Asked::Any), address(1));
        assert_eq!(allocation.give("b", None, Asked::Any), address(2));
        assert_eq!(allocation.give("a", address(1), Asked::Any), address(1));
        assert_eq!(allocation.give("c", None, Asked::Any), None);
        assert!(allocation.take_back("a") && !allocation.take_back("a"));
        assert_eq!(allocation.give("c", None, Asked::Any), address(1));
    }

    #[test]
    fn an_address_of_elsewhere_or_of_another_is_not_kept() {
        let mut allocation = Allocation::new(pool());
        assert_eq!(allocation.give("a", address(9), Asked::Any), address(1));
        assert_eq!(allocation.give("b", address(1), Asked::Any), address(2));
    }

    #[test]
    fn who_asks_for_an_address_gets_it_or_none() {
        let mut allocation = Allocation::new(pool());
        let wanted = |last| Asked::For(Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(allocation.give("a", address(1), wanted(2)), address(2));
        assert_eq!(allocation.give("b", None, wanted(2)), None);
        assert_eq!(allocation.give("b", None, wanted(9)), None);
        assert_eq!(allocation.give("b", None, Asked::Nonsense), None);
        assert_eq!(allocation.give("b", None, Asked::Any), address(1));
    }

    #[test]
    fn a_pool_is_two_addresses_in_order() {
        for bad in ["", "10.0.0.1", "10.0.0.2-10.0.0.1", "a-b"] {
            assert!(bad.parse::<Pool>().unwrap_err().contains("FIRST-LAST"));
        }
    }
}
