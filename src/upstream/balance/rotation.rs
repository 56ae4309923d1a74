//! Each in turn, by weight: a sequence in which each index stands as often as its share says, evenly
//! spread.

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

/// Each index has had its due share of every beginning of the sequence, within less than one turn: its
/// `n`-th turn of `s` in a sequence of length `l` is not before `nl / s` and is due at `(n + 1)l / s`, and
/// of those that may the one that is due first goes first. (That is scheduling unit tasks by earliest
/// deadline, which meets all deadlines where any order does.)
fn spread(shares: &[u64]) -> Box<[u32]> {
    let length: u64 = shares.iter().sum();
    let not_before = |turn: u64, share: u64| turn * length / share;
    let due = |turn: u64, share: u64| ((turn + 1) * length).div_ceil(share);
    let mut early: BinaryHeap<_> = (0..shares.len()).map(|index| Reverse((0, index, 0_u64))).collect();
    let mut ready = BinaryHeap::with_capacity(shares.len());
    let mut sequence = Vec::with_capacity(length as usize);
    for now in 0..length {
        while early.peek().is_some_and(|Reverse((from, ..))| *from <= now)
            && let Some(Reverse((_, index, turn))) = early.pop()
        {
            ready.push(Reverse((due(turn, shares[index]), index, turn)));
        }
        let Some(Reverse((_, index, turn))) = ready.pop() else { break };
        sequence.push(index as u32);
        early.push(Reverse((not_before(turn + 1, shares[index]), index, turn + 1)));
    }
    sequence.into()
}
