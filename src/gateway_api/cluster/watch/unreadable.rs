//! Objects that cannot be read, by name: each costs only itself, is told in the log when that is news, and by
//! `/ready` for as long as it is so. Called by the watch that sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gateway_api::cluster::Shared;
use crate::gateway_api::resources::Key;
use crate::limits;

/// Those of one watch, and why they cannot be read: never more than it would keep if they could.
pub(super) struct Unreadable {
    watch: String,
    shared: Arc<Shared>,
    known: BTreeMap<Key, String>,
    /// Of a list that is not complete yet.
    listed: BTreeMap<Key, String>,
}

impl Unreadable {
    /// Of `watch`, which has seen none yet.
    pub(super) fn new(watch: &str, shared: &Arc<Shared>) -> Self {
        let (known, listed) = (BTreeMap::new(), BTreeMap::new());
        Self { watch: watch.to_owned(), shared: shared.clone(), known, listed }
    }

    /// A list begins.
    pub(super) fn list(&mut self) {
        self.listed.clear();
    }

    /// What the list has of an object.
    pub(super) fn in_list<K>(&mut self, key: Key, object: Result<K, String>) -> Option<K> {
        object.map_err(|why| self.listed.insert(key, cut(&why))).ok()
    }

    /// The list is complete.
    pub(super) fn list_ends(&mut self) {
        let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listed));
        if before != self.known {
            let news = self.known.iter().filter(|(key, why)| before.get(key) != Some(*why));
            news.for_each(|(key, why)| tracing::warn!("{}", self.line(key, why)));
            self.tell();
        }
    }

    /// What an event has of an object.
    pub(super) fn in_event<K>(&mut self, key: &Key, object: Result<K, String>) -> Option<K> {
        match object {
            Ok(object) => {
                self.gone(key);
                Some(object)
            }
            Err(why) => {
                let why = cut(&why);
                if self.known.get(key) != Some(&why) {
                    tracing::warn!("{}", self.line(key, &why));
                    self.known.insert(key.clone(), why);
                    self.tell();
                }
                None
            }
        }
    }

    /// The object can be read now, or is there no more.
    pub(super) fn gone(&mut self, key: &Key) {
        if self.known.remove(key).is_some() {
            self.tell();
        }
    }

    fn tell(&self) {
        let (most, _) = limits::UNREADABLE_TOLD;
        let mut lines: Vec<_> = self.known.iter().take(most).map(|(key, why)| self.line(key, why)).collect();
        if let more @ 1.. = self.known.len().saturating_sub(most) {
            lines.push(format!("{}: {more} more cannot be read and are left out", self.watch));
        }
        self.shared.health.unreadable(&self.watch, lines);
    }

    fn line(&self, key: &Key, why: &str) -> String {
        format!("{}: {key} cannot be read and is left out: {why}", self.watch)
    }
}

/// Why an object cannot be read may quote it, however long.
fn cut(why: &str) -> String {
    let (_, longest) = limits::UNREADABLE_TOLD;
    why.chars().take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(why: &str) -> Result<(), String> {
        Err(why.to_owned())
    }

    #[test]
    fn as_many_are_named_as_there_is_room_for_and_each_for_as_long_as_it_lasts() {
        let shared = Arc::new(Shared::new(Arc::default()));
        shared.health.live("HTTPRoutes");
        let mut unreadable = Unreadable::new("HTTPRoutes", &shared);
        let key = |name: &str| Key::new("one", name);
        let (most, longest) = limits::UNREADABLE_TOLD;
        unreadable.list();
        for number in 0..most + 2 {
            assert_eq!(unreadable.in_list(key(&format!("{number:03}")), broken("x")), None);
        }
        assert_eq!(shared.health.problems(), Vec::<String>::new(), "the list is not complete");
        unreadable.list_ends();
        let told = shared.health.problems();
        assert_eq!(told.len(), most + 1);
        assert_eq!(told[0], "HTTPRoutes: one/000 cannot be read and is left out: x");
        assert_eq!(told[most], "HTTPRoutes: 2 more cannot be read and are left out");
        unreadable.list();
        unreadable.list_ends();
        assert_eq!(shared.health.problems(), Vec::<String>::new());
        unreadable.in_event(&key("long"), broken(&"ä".repeat(2 * longest)));
        unreadable.in_event(&key("gone"), broken("x"));
        let told = shared.health.problems();
        assert_eq!((told.len(), told[1].matches('ä').count()), (2, longest));
        unreadable.gone(&key("gone"));
        assert_eq!(unreadable.in_event(&key("long"), Ok(())), Some(()));
        assert_eq!(shared.health.problems(), Vec::<String>::new());
    }
}
