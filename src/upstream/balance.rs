//! Which endpoint takes the next exchange.
//!
//! A [`Balance`] is made once for each set and lane, on the control runtime; a pick only looks things
//! up and costs the same among ten endpoints as among ten thousand. Pure: it knows endpoints by their
//! index, and whatever it has to know of the world it asks of [`Chance`].

mod draw;
mod key;
mod maglev;
mod rotation;

use std::sync::Arc;

pub(super) use self::draw::Draw;
pub(super) use self::key::hash_of;
pub(super) use self::maglev::Maglev;
use self::rotation::Rotation;
use crate::limits;
use crate::plan::{BalancePlan, HashKey};

/// A way to pick, made for the shares of one set.
pub(super) enum Balance {
    /// Power of two choices: nearly as even as looking at all, at the cost of looking at two
    /// (Mitzenmacher 2001).
    LeastLoad(Draw),
    /// Each in turn.
    RoundRobin(Rotation),
    /// Any.
    Random(Draw),
    /// The same for equal keys.
    Consistent(HashKey, Arc<Maglev>),
}

/// What a pick has to know of the world.
pub(super) trait Chance {
    /// Uniform over 64 bits.
    fn random(&self) -> u64;
    /// Counts the picks of this worker.
    fn turn(&self) -> u64;
    /// The request's key; `None` when it has none.
    fn key(&self, by: &HashKey) -> Option<u64>;
    /// Whether the endpoint at `index` may be picked.
    fn usable(&self, index: usize) -> bool;
    /// Exchanges that the endpoint at `index` has in flight.
    fn load(&self, index: usize) -> u64;
}

impl Balance {
    /// Made for endpoints with these `shares`, none of which is 0; `names` are what a consistent
    /// choice knows them by.
    pub(super) fn new<'a>(
        plan: &BalancePlan,
        shares: &[u64],
        names: impl Iterator<Item = &'a [u8]>,
        last: Option<&Self>,
    ) -> Self {
        match plan {
            BalancePlan::LeastLoad => Self::LeastLoad(Draw::new(shares)),
            BalancePlan::RoundRobin => Self::RoundRobin(Rotation::new(shares)),
            BalancePlan::Random => Self::Random(Draw::new(shares)),
            BalancePlan::Consistent(by) => {
                let names: Vec<u64> = names.map(maglev::hash).collect();
                let table = match last {
                    // The table is the one part that costs milliseconds to make.
                    Some(Self::Consistent(_, table)) if table.is_for(&names, shares) => table.clone(),
                    _ => Arc::new(Maglev::new(&names, shares)),
                };
                Self::Consistent(by.clone(), table)
            }
        }
    }

    /// Whether it has to know of endpoints that cannot be used, so that equal keys find back to
    /// theirs.
    pub(super) fn wants_all(plan: &BalancePlan) -> bool {
        matches!(plan, BalancePlan::Consistent(_))
    }

    /// The index of a usable endpoint among `count`, or `None` when there is none.
    pub(super) fn pick(&self, count: usize, chance: &impl Chance) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let found = match self {
            Self::LeastLoad(draw) => least_load(draw, count, chance),
            Self::Random(draw) => Some(draw.index(chance.random())).filter(|index| chance.usable(*index)),
            Self::RoundRobin(rotation) => {
                Some(rotation.index(chance.turn())).filter(|index| chance.usable(*index))
            }
            Self::Consistent(by, table) => {
                let key = chance.key(by).unwrap_or_else(|| chance.random());
                table.indexes(key).find(|index| chance.usable(*index))
            }
        };
        found.or_else(|| self.another(count, chance))
    }

    /// Only a request that failed before comes here, or one that met an endpoint out of use.
    #[cold]
    fn another(&self, count: usize, chance: &impl Chance) -> Option<usize> {
        let redrawn = match self {
            Self::LeastLoad(draw) | Self::Random(draw) => {
                (0..limits::REDRAWS).map(|_| draw.index(chance.random())).find(|index| chance.usable(*index))
            }
            Self::RoundRobin(_) | Self::Consistent(..) => None,
        };
        redrawn.or_else(|| {
            // From anywhere: from the first on, one endpoint would get all that failed elsewhere.
            let from = draw::scaled(chance.random(), count as u64) as usize;
            (from..count).chain(0..from).find(|index| chance.usable(*index))
        })
    }
}

fn least_load(draw: &Draw, count: usize, chance: &impl Chance) -> Option<usize> {
    if count == 1 {
        return chance.usable(0).then_some(0);
    }
    let one = draw.index(chance.random());
    let other = draw.other(one, chance.random());
    match (chance.usable(one), chance.usable(other)) {
        (true, true) => {
            // Without the exchange to come: at equal loads the draw, which knows the shares, decides.
            let cost = |index, against| chance.load(index).saturating_mul(draw.share(against));
            Some(if cost(one, other) <= cost(other, one) { one } else { other })
        }
        (true, false) => Some(one),
        (false, true) => Some(other),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests;
