//! What each client may ask of one Ingress: so many requests in a time, so many
//! at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use crate::rate::{Rate, Time};
use crate::route::Owner;

/// Clients that one Ingress tells apart at a time. A flood from more addresses
/// than these is refused as one.
const MOST: usize = 16_384;
/// Who was forgotten is looked for at most so often.
const SWEEP: Time = 1_000_000_000;
/// How long to wait when it isn't known.
const LATER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLimits {
    pub per_second: Option<Rate>,
    pub per_minute: Option<Rate>,
    /// Requests at once.
    pub open: Option<u32>,
    /// For whom none of it holds.
    pub exempt: Vec<IpNet>,
}

#[derive(Debug, Default)]
struct Client {
    /// When their buckets are full again.
    second: Time,
    minute: Time,
    open: u32,
}

impl Client {
    fn forgettable(&self, now: Time) -> bool {
        self.open == 0 && self.second <= now && self.minute <= now
    }
}

/// The clients of one Ingress.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clients: HashMap<IpAddr, Client>,
    swept: Time,
}

/// One client's request; it counts as long as this is kept.
#[derive(Debug)]
pub(crate) struct Admitted(Arc<Owner>, IpAddr);

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(clients) = self.0.clients.get() {
            clients.leave(self.1);
        }
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

impl Clients {
    fn enter(&self, limits: &ClientLimits, client: IpAddr, now: Time) -> Result<(), Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.clients.len() >= MOST && !state.clients.contains_key(&client) {
            if now.saturating_sub(state.swept) >= SWEEP {
                state.swept = now;
                state.clients.retain(|_, client| !client.forgettable(now));
            }
            if state.clients.len() >= MOST {
                return Err(LATER);
            }
        }
        let client = state.clients.entry(client).or_default();
        if limits.open.is_some_and(|most| client.open >= most) {
            return Err(LATER);
        }
        let take = |rate: Option<Rate>, full: Time| rate.map_or(Ok(full), |rate| rate.take(full, now));
        let (second, minute) =
            (take(limits.per_second, client.second)?, take(limits.per_minute, client.minute)?);
        (client.second, client.minute) = (second, minute);
        client.open += 1;
        Ok(())
    }

    fn leave(&self, client: IpAddr) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = state.clients.get_mut(&client) {
            client.open = client.open.saturating_sub(1);
        }
    }
}

impl ClientLimits {
    /// Takes a client's request in, or says when to come again. None: there is no
    /// limit for them.
    pub(crate) fn admit(
        &self,
        owner: &Arc<Owner>,
        address: IpAddr,
        now: Time,
    ) -> Result<Option<Admitted>, Duration> {
        let address = address.to_canonical();
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return Ok(None);
        }
        let key = key(address);
        owner.clients.get_or_init(Box::default).enter(self, key, now)?;
        Ok(Some(Admitted(owner.clone(), key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Id, Kind};
    use crate::tenant::Tenant;

    fn owner() -> Arc<Owner> {
        Arc::new(Owner::new(Kind::Ingress, Id::new("a", "i"), Arc::new(Tenant::new("a", Default::default()))))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn each_client_has_its_own_limits() {
        let limits = ClientLimits {
            per_second: Rate::new(1, Duration::from_secs(1), 2),
            exempt: vec!["10.0.0.9/32".parse().unwrap()],
            ..ClientLimits::default()
        };
        let owner = owner();
        let taken = |last| (0..10).take_while(|_| limits.admit(&owner, address(last), 0).is_ok()).count();
        assert_eq!([taken(1), taken(2), taken(1), taken(9)], [2, 2, 0, 10]);
    }

    #[test]
    fn requests_at_once_end_when_they_end() {
        let limits = ClientLimits { open: Some(1), ..ClientLimits::default() };
        let owner = owner();
        let first = limits.admit(&owner, address(1), 0).unwrap();
        assert!(limits.admit(&owner, address(1), 0).is_err());
        assert!(limits.admit(&owner, address(2), 0).is_ok());
        drop(first);
        assert!(limits.admit(&owner, address(1), 0).is_ok());
    }

    #[test]
    fn a_network_of_one_client_is_one_client() {
        assert_eq!(key("2001:db8::1".parse().unwrap()), key("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(key("2001:db8::1".parse().unwrap()), key("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(key("::ffff:10.0.0.1".parse().unwrap()), address(1));
    }

    #[test]
    fn more_clients_than_can_be_told_apart_are_refused_until_some_are_forgotten() {
        let limits =
            ClientLimits { per_second: Rate::new(1, Duration::from_secs(1), 1), ..ClientLimits::default() };
        let owner = owner();
        let client = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..u32::try_from(MOST).unwrap() {
            assert!(limits.admit(&owner, client(number), 0).is_ok());
        }
        let one_more = client(u32::MAX);
        assert!(limits.admit(&owner, one_more, 0).is_err());
        assert!(limits.admit(&owner, one_more, 2 * SWEEP).is_ok());
    }
}
