//! The same endpoint for equal keys, in constant time: the look-up table of Maglev (Eisenbud and
//! others, NSDI 2016), filled by weight.
//!
//! It depends on nothing but names and shares, so that all workers and all processes agree, in
//! whatever order a source names its endpoints.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::limits;

/// Primes, since each endpoint goes through the table in steps of its own size. The least that has a
/// hundred places for each endpoint is taken, which keeps shares within some percent; the greatest
/// costs 4 MiB.
const SIZES: [usize; 4] = [1021, 16_381, 131_071, 1_048_573];

/// A table of keys.
pub(in crate::upstream) struct Maglev {
    names: Box<[u64]>,
    shares: Box<[u64]>,
    table: Box<[u32]>,
}

impl Maglev {
    /// For endpoints with these hashed `names` and `shares`.
    pub(in crate::upstream) fn new(names: &[u64], shares: &[u64]) -> Self {
        let size = SIZES.into_iter().find(|size| *size >= 100 * names.len()).unwrap_or(SIZES[3]);
        let table = if names.is_empty() { Box::default() } else { fill(names, shares, size) };
        Self { names: names.into(), shares: shares.into(), table }
    }

    /// Whether it was made for these.
    pub(super) fn is_for(&self, names: &[u64], shares: &[u64]) -> bool {
        *self.names == *names && *self.shares == *shares
    }

    /// Where a request of `key` goes, and where it goes when it cannot go there, and so on. Endpoints
    /// that come into question for one key are not those for another: what one endpoint's keys do
    /// when it fails is spread over all.
    pub(super) fn indexes(&self, key: u64) -> impl Iterator<Item = usize> {
        (0..=limits::REHASHES).filter_map(move |round| {
            let place = mixed(key.wrapping_add(round.wrapping_mul(GOLDEN))) % self.table.len().max(1) as u64;
            self.table.get(place as usize).map(|index| *index as usize)
        })
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &[u32] {
        &self.table
    }
}

fn fill(names: &[u64], shares: &[u64], size: usize) -> Box<[u32]> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|index| names[*index]);
    let mut table = Table { places: vec![EMPTY; size], empty: size };
    let mut walks: Vec<Walk> = order.iter().map(|index| Walk::new(*index, names[*index], size)).collect();
    if shares.windows(2).all(|pair| pair[0] == pair[1]) {
        while table.empty > 0 {
            walks.iter_mut().for_each(|walk| table.give(walk));
        }
        return table.places.into();
    }
    // The `n`-th place of a share `s` is due at `n / s`; dues are kept as whole numbers.
    let due = |turn: u64, share: u64| (u128::from(turn) << 64) / u128::from(share.max(1));
    let mut turns: BinaryHeap<_> =
        (0..walks.len()).map(|walk| Reverse((due(1, shares[order[walk]]), walk, 1_u64))).collect();
    while table.empty > 0 {
        let Some(Reverse((_, walk, turn))) = turns.pop() else { break };
        table.give(&mut walks[walk]);
        turns.push(Reverse((due(turn + 1, shares[order[walk]]), walk, turn + 1)));
    }
    table.places.into()
}

const EMPTY: u32 = u32::MAX;

struct Table {
    places: Vec<u32>,
    empty: usize,
}

/// An endpoint's way through the table.
struct Walk {
    index: u32,
    place: usize,
    step: usize,
}

impl Walk {
    fn new(index: usize, name: u64, size: usize) -> Self {
        let step = 1 + mixed(name ^ GOLDEN) % (size as u64 - 1);
        Self { index: index as u32, place: (mixed(name) % size as u64) as usize, step: step as usize }
    }
}

impl Table {
    /// Gives `walk` its next empty place. A step that is prime to the size comes by every place.
    fn give(&mut self, walk: &mut Walk) {
        if self.empty == 0 {
            return;
        }
        while self.places[walk.place] != EMPTY {
            walk.place = (walk.place + walk.step) % self.places.len();
        }
        self.places[walk.place] = walk.index;
        self.empty -= 1;
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finisher of splitmix64: every bit of the input shows in every bit of the output.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// FNV-1a, finished: the same in every process, which the standard library's hashers do not promise.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325_u64;
    mixed(bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)))
}
