//! Counts by status code: a slot for each code that is common, a locked map for all others.
//!
//! Shards hold the slots; the map is one per series, since what a backend rarely answers may cost a
//! lock. It is bounded by what a status code can be, 100 to 999.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

/// Codes with a slot of their own. Every one costs 8 bytes for each route, backend lane and worker.
const COMMON: [u16; 30] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412,
    413, 422, 429, 499, 500, 501, 502, 503, 504,
];
/// The slots of [`COMMON`], then the one for exchanges that brought no code.
const SLOTS: usize = COMMON.len() + 1;
const NONE_SLOT: usize = COMMON.len();
const RARE: u8 = u8::MAX;

/// Slot of each code below 600, [`RARE`] where it has none.
static SLOT_OF: [u8; 600] = {
    let mut slots = [RARE; 600];
    let mut slot = 0;
    while slot < COMMON.len() {
        slots[COMMON[slot] as usize] = slot as u8;
        slot += 1;
    }
    slots
};

/// One worker's counts of common codes.
pub(super) struct CodeCounts([AtomicU64; SLOTS]);

/// The counts of all other codes, of all workers.
#[derive(Default)]
pub(super) struct RareCodes(Mutex<BTreeMap<u16, u64>>);

impl Default for CodeCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; SLOTS])
    }
}

impl CodeCounts {
    /// Counts `code`, or an exchange that brought none.
    #[inline]
    pub(super) fn add(&self, code: Option<StatusCode>, rare: &RareCodes) {
        let slot = match code {
            None => NONE_SLOT,
            Some(code) => SLOT_OF.get(usize::from(code.as_u16())).copied().map_or(SLOTS, usize::from),
        };
        match (self.0.get(slot), code) {
            (Some(count), _) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            (None, Some(code)) => rare.add(code),
            (None, None) => {}
        }
    }
}

impl RareCodes {
    #[cold]
    fn add(&self, code: StatusCode) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code.as_u16()).or_default() += 1;
    }
}

/// Counts other than 0 over all `shards`, by the label's value, in ascending order, `none` last.
pub(super) fn totals<'a>(
    shards: impl Iterator<Item = &'a CodeCounts>,
    rare: &RareCodes,
) -> Vec<(String, u64)> {
    let mut by_code = rare.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut none = 0;
    for shard in shards {
        for (slot, count) in shard.0.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            match COMMON.get(slot) {
                Some(code) => *by_code.entry(*code).or_default() += count,
                None => none += count,
            }
        }
    }
    let codes = by_code.into_iter().map(|(code, count)| (code.to_string(), count));
    codes.chain([("none".to_owned(), none)]).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_possible_code_is_counted_once() {
        let (shard, rare) = (CodeCounts::default(), RareCodes::default());
        for code in 100..=999 {
            shard.add(Some(StatusCode::from_u16(code).unwrap()), &rare);
        }
        shard.add(None, &rare);
        let totals = totals([&shard].into_iter(), &rare);
        let mut expected: Vec<_> = (100..=999).map(|code| (code.to_string(), 1)).collect();
        expected.push(("none".to_owned(), 1));
        assert_eq!(totals, expected);
    }

    #[test]
    fn shards_are_added_up_and_zeroes_left_out() {
        let shards = [CodeCounts::default(), CodeCounts::default()];
        let rare = RareCodes::default();
        shards[0].add(Some(StatusCode::OK), &rare);
        shards[1].add(Some(StatusCode::OK), &rare);
        shards[1].add(Some(StatusCode::IM_A_TEAPOT), &rare);
        assert_eq!(totals(shards.iter(), &rare), [("200".to_owned(), 2), ("418".to_owned(), 1)]);
    }
}
