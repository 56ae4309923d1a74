//! Each in turn, by weight: a sequence in which each index stands as often as its share says, as
//! evenly spread as can be.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::limits;

/// A sequence of indexes, gone through again and again.
pub(in crate::upstream) struct Rotation {
    count: usize,
    /// `None` when each stands once.
    sequence: Option<Box<[u32]>>,
}

impl Rotation {
    pub(super) fn new(shares: &[u64]) -> Self {
        let even = shares.windows(2).all(|pair| pair[0] == pair[1]);
        Self { count: shares.len(), sequence: (!even).then(|| spread(&rounded(shares))) }
    }

    /// Whose turn the one of this number is; 0 when there is none.
    pub(super) fn index(&self, turn: u64) -> usize {
        match &self.sequence {
            Some(sequence) => {
                let place = turn % sequence.len().max(1) as u64;
                sequence.get(place as usize).map_or(0, |index| *index as usize)
            }
            None => (turn % self.count.max(1) as u64) as usize,
        }
    }
}

/// Shares in their lowest terms, or rounded where these need too long a sequence; none is 0.
fn rounded(shares: &[u64]) -> Vec<u64> {
    let divisor = shares.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total: u128 = shares.iter().map(|share| u128::from(share / divisor)).sum();
    if total <= limits::ROTATION as u128 {
        return shares.iter().map(|share| share / divisor).collect();
    }
    let scale = |share: u64| u128::from(share / divisor) * limits::ROTATION as u128 / total;
    shares.iter().map(|share| (scale(*share) as u64).max(1)).collect()
}

fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// Earliest deadline first: the `n`-th turn of an index of share `s` is due at `(2n + 1) / 2s`.
fn spread(shares: &[u64]) -> Box<[u32]> {
    let total: u64 = shares.iter().sum();
    let length = total as usize;
    // Deadlines as whole numbers, in units small enough to tell any two apart.
    let due = |turn: u64, share: u64| (u128::from(2 * turn + 1) << 64) / u128::from(2 * share);
    let mut turns: BinaryHeap<_> = shares
        .iter()
        .enumerate()
        .map(|(index, share)| Reverse((due(0, *share), index, 0_u64, *share)))
        .collect();
    let mut sequence = Vec::with_capacity(length);
    while sequence.len() < length {
        let Some(Reverse((_, index, turn, share))) = turns.pop() else { break };
        sequence.push(index as u32);
        turns.push(Reverse((due(turn + 1, share), index, turn + 1, share)));
    }
    sequence.into()
}
