//! What a table looks up once and holds: found again while anybody holds it, forgotten afterwards.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Handles by label, held weakly.
pub(super) struct Handles<K, V>(Mutex<HandleMap<K, V>>);

struct HandleMap<K, V> {
    entries: HashMap<K, Weak<V>>,
    /// Size at which the dead are looked for; grows with the living, so that a look costs each
    /// entry a constant, and the dead are never more than the living.
    prune_at: usize,
}

impl<K, V> Default for Handles<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HandleMap { entries: HashMap::new(), prune_at: 64 }))
    }
}

impl<K: Eq + Hash + Ord + Clone, V> Handles<K, V> {
    /// The living handle of `key`, or the one that `make` makes.
    pub(super) fn living_or(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(living) = map.entries.get(&key).and_then(Weak::upgrade) {
            return living;
        }
        if map.entries.len() >= map.prune_at {
            map.entries.retain(|_, handle| handle.strong_count() > 0);
            map.prune_at = (2 * map.entries.len()).max(64);
        }
        let handle = Arc::new(make());
        map.entries.insert(key, Arc::downgrade(&handle));
        handle
    }

    /// The living ones, ordered by key.
    pub(super) fn living(&self) -> Vec<(K, Arc<V>)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let living = map.entries.iter().filter_map(|(key, handle)| Some((key.clone(), handle.upgrade()?)));
        let mut living: Vec<_> = living.collect();
        living.sort_by(|(one, _), (other, _)| one.cmp(other));
        living
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_dead_do_not_pile_up() {
        let handles = Handles::<usize, usize>::default();
        let kept = handles.living_or(0, || 7);
        for key in 1..10_000 {
            assert_eq!(*handles.living_or(key, || key), key);
        }
        assert!(handles.0.lock().unwrap().entries.len() <= 64);
        assert!(Arc::ptr_eq(&kept, &handles.living_or(0, || 8)));
        assert_eq!(handles.living(), [(0, kept)]);
    }
}
