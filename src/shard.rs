//! The two indexes by which the data plane keeps its state apart: the worker that works, and the
//! lane that the traffic belongs to.

use std::sync::OnceLock;

/// What traffic is for. A metrics label and an index into per-lane state: never a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Requests whose response a client waits for.
    Primary,
    /// Copies, which nobody waits for.
    Mirror,
}

impl Lane {
    /// All lanes, in index order.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Mirror];

    /// Position in per-lane arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Mirror => "mirror",
        }
    }
}

/// A data-plane thread, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// One `T` per worker, made when first used and then reached without a lock.
///
/// Each `T` lies in an allocation of its own, so that two workers do not write to one cache line.
pub struct Sharded<T>(Box<[OnceLock<Box<Padded<T>>>]>);

#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Room for `workers` shards.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// The shard of `worker`. A worker beyond the number given to `new` shares the first one's. (Not
    /// by a remainder: a request asks some twenty times, and a division is ten additions or more.)
    pub fn of(&self, worker: WorkerId) -> &T {
        let place = if worker.0 < self.0.len() { worker.0 } else { 0 };
        &self.0[place].get_or_init(|| Box::new(Padded(T::default()))).0
    }

    /// The shards that have been used.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| cell.get().map(|boxed| &boxed.0))
    }
}
