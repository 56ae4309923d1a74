//! Where Gateways listen: an address of their own, from `spec.addresses` or a pool, so that two of
//! them never share a port of one address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::ServedGateway;
use crate::gateway_api::resources::Key;

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    first: IpAddr,
    last: IpAddr,
}

impl FromStr for AddressPool {
    type Err = String;

    /// Reads `10.0.0.10-10.0.0.60`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let address =
            |text: &str| text.trim().parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address"));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let pool = Self { first: address(first)?, last: address(last)? };
        match pool.first.is_ipv4() == pool.last.is_ipv4() && pool.first <= pool.last {
            true => Ok(pool),
            false => Err(format!("{text:?} is not a range: write first-last")),
        }
    }
}

impl AddressPool {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    fn iter(self) -> impl Iterator<Item = IpAddr> {
        std::iter::successors(Some(self.first), move |address| match address {
            _ if *address >= self.last => None,
            IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
            IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
        })
    }
}

/// Why a Gateway has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressProblem {
    /// A kind of address that is not supported.
    Unsupported(String),
    /// An address that is not ours to use.
    NotUsable(String),
    /// The pool has none left, or another Gateway has the same port.
    NotAssigned,
}

/// Who has which address. Kept from one translation to the next, so that a Gateway keeps its own.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pool: Option<AddressPool>,
    assigned: BTreeMap<Key, IpAddr>,
}

impl Addresses {
    /// Without a pool Gateways share all addresses of the machine, as long as their ports differ.
    pub fn new(pool: Option<AddressPool>) -> Self {
        Self { pool, assigned: BTreeMap::new() }
    }

    /// Forgets Gateways that are no longer there.
    pub(super) fn keep<'a>(&mut self, living: impl Iterator<Item = &'a Key>) {
        let living: BTreeSet<_> = living.collect();
        self.assigned.retain(|key, _| living.contains(key));
    }

    /// Gives every Gateway its address, the oldest first.
    pub(super) fn assign(&mut self, gateways: &mut [ServedGateway]) {
        let mut ports: BTreeSet<(IpAddr, u16)> = BTreeSet::new();
        // What is asked for by name is not given to others.
        let mut taken: BTreeSet<IpAddr> =
            gateways.iter().filter_map(|gateway| wanted(gateway).ok()?).collect();
        taken.extend(self.assigned.values());
        for gateway in gateways {
            let found = self.address(gateway, &mut taken);
            gateway.address = found.and_then(|address| {
                let own: BTreeSet<_> =
                    gateway.listeners.iter().map(|listener| (address, listener.port)).collect();
                match own.is_disjoint(&ports) {
                    true => {
                        ports.extend(own);
                        Ok(address)
                    }
                    false => Err(AddressProblem::NotAssigned),
                }
            });
        }
    }

    fn address(
        &mut self,
        gateway: &ServedGateway,
        taken: &mut BTreeSet<IpAddr>,
    ) -> Result<IpAddr, AddressProblem> {
        if let Some(address) = wanted(gateway)? {
            // In the pool or not: whether this machine has it is seen when it is bound.
            self.assigned.remove(&gateway.key);
            return Ok(address);
        }
        let Some(pool) = self.pool else { return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) };
        if let Some(address) = self.assigned.get(&gateway.key) {
            return Ok(*address);
        }
        // What it was told before this process began is kept if it can be.
        let status = gateway.object.status.as_ref().and_then(|status| status.addresses.as_ref());
        let before = status.into_iter().flatten().filter_map(|one| one.value.parse::<IpAddr>().ok());
        let mut candidates = before.filter(|address| pool.contains(*address)).chain(pool.iter());
        let free = candidates.find(|address| !taken.contains(address));
        let address = free.ok_or(AddressProblem::NotAssigned)?;
        taken.insert(address);
        self.assigned.insert(gateway.key.clone(), address);
        Ok(address)
    }
}

/// The address that a Gateway names, if it names one.
fn wanted(gateway: &ServedGateway) -> Result<Option<IpAddr>, AddressProblem> {
    let mut addresses = Vec::new();
    for one in gateway.object.spec.addresses.iter().flatten() {
        let value = one.value.as_deref().unwrap_or("");
        match one.r#type.as_deref() {
            None | Some("IPAddress") if value.is_empty() => {}
            None | Some("IPAddress") => addresses.push(value),
            Some(other) => {
                return Err(AddressProblem::Unsupported(format!(
                    "addresses of type {other} are not supported"
                )));
            }
        }
    }
    let parsed: Result<Vec<IpAddr>, _> = addresses.iter().map(|address| address.parse()).collect();
    match parsed.as_deref() {
        Ok([]) => Ok(None),
        Ok([address]) => Ok(Some(*address)),
        Ok(_) => Err(AddressProblem::NotUsable("more than one address is named".to_owned())),
        Err(_) => Err(AddressProblem::NotUsable(format!("{} is no IP address", addresses.join(", ")))),
    }
}
