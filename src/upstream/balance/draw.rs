//! Drawing by weight in constant time: Walker's alias method, as made by Vose (1991).

/// Indexes drawn by their shares.
pub(in crate::upstream) struct Draw {
    count: usize,
    /// `None` when each is as good as the other.
    weighted: Option<Weighted>,
}

struct Weighted {
    shares: Box<[u64]>,
    columns: Box<[Column]>,
}

/// A draw that falls on a column is its index below the threshold and another from there on.
struct Column {
    threshold: u64,
    alias: u32,
}

impl Draw {
    pub(in crate::upstream) fn new(shares: &[u64]) -> Self {
        let even = shares.windows(2).all(|pair| pair[0] == pair[1]);
        Self { count: shares.len(), weighted: (!even).then(|| Weighted::new(shares)) }
    }

    /// The index that `draw`, uniform over 64 bits, falls on; 0 when there is none.
    pub(in crate::upstream) fn index(&self, draw: u64) -> usize {
        let product = u128::from(draw) * self.count as u128;
        let index = (product >> 64) as usize;
        match self.weighted.as_ref().and_then(|weighted| weighted.columns.get(index)) {
            // The low half is uniform within the column: one draw serves both questions.
            Some(column) if product as u64 >= column.threshold => column.alias as usize,
            _ => index,
        }
    }

    /// A second index to compare with `one`. Another one where all are even.
    pub(in crate::upstream) fn other(&self, one: usize, draw: u64) -> usize {
        if self.weighted.is_some() || self.count < 2 {
            return self.index(draw);
        }
        let index = one + 1 + scaled(draw, self.count as u64 - 1) as usize;
        if index >= self.count { index - self.count } else { index }
    }

    /// The share of `index`, relative to the others.
    pub(in crate::upstream) fn share(&self, index: usize) -> u64 {
        match &self.weighted {
            Some(weighted) => weighted.shares.get(index).copied().unwrap_or(1),
            None => 1,
        }
    }
}

impl Weighted {
    fn new(shares: &[u64]) -> Self {
        let count = shares.len();
        let total: u128 = shares.iter().map(|share| u128::from(*share)).sum::<u128>().max(1);
        // In units of which each column holds `total`.
        let mut left: Vec<u128> = shares.iter().map(|share| u128::from(*share) * count as u128).collect();
        let mut columns: Vec<Column> =
            (0..count).map(|index| Column { threshold: u64::MAX, alias: index as u32 }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|index| left[*index] < total);
        while let (Some(little), Some(much)) = (small.pop(), large.last().copied()) {
            columns[little] = Column { threshold: ((left[little] << 64) / total) as u64, alias: much as u32 };
            left[much] -= total - left[little];
            if left[much] < total {
                large.pop();
                small.push(much);
            }
        }
        Self { shares: shares.into(), columns: columns.into() }
    }
}

/// Where in `range` a `draw` lies that is uniform over 64 bits.
pub(super) fn scaled(draw: u64, range: u64) -> u64 {
    ((u128::from(draw) * u128::from(range)) >> 64) as u64
}
