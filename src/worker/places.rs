//! Who is looked at in each sweep of a worker's: places in a list that are taken and given back.

use crate::limits;

/// A bounded list of `T`, whose places are used again.
#[derive(Debug)]
pub struct Places<T> {
    taken: Vec<Option<T>>,
    free: Vec<usize>,
    most: usize,
}

impl<T> Places<T> {
    /// Room for `most`.
    pub fn new(most: usize) -> Self {
        Self { taken: Vec::new(), free: Vec::new(), most }
    }

    /// The place that `one` has from now on; `None` when there is none.
    pub fn insert(&mut self, one: T) -> Option<usize> {
        if let Some(place) = self.free.pop() {
            *self.taken.get_mut(place)? = Some(one);
            return Some(place);
        }
        if self.taken.len() >= self.most {
            return None;
        }
        self.taken.push(Some(one));
        Some(self.taken.len() - 1)
    }

    /// Whoever has `place`.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.taken.get_mut(place)?.as_mut()
    }

    /// Gives `place` back.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let one = self.taken.get_mut(place)?.take();
        if one.is_some() {
            self.free.push(place);
        }
        one
    }

    /// How many places are taken.
    pub fn count(&self) -> usize {
        self.taken.len() - self.free.len()
    }

    /// Looks at those from place `from` on. Says where to go on when there are more than
    /// [`limits::DEADLINE_SLICE`]: no request is held up for longer.
    pub fn slice(&mut self, from: usize, look: impl FnMut(&mut T)) -> Option<usize> {
        let rest = self.taken.get_mut(from..).unwrap_or_default();
        let more = rest.len() > limits::DEADLINE_SLICE;
        rest.iter_mut().take(limits::DEADLINE_SLICE).flatten().for_each(look);
        more.then_some(from + limits::DEADLINE_SLICE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_given_back_and_bounded() {
        let mut places = Places::new(2);
        assert_eq!((places.insert('a'), places.insert('b')), (Some(0), Some(1)));
        assert_eq!(places.insert('c'), None);
        assert_eq!(places.remove(0), Some('a'));
        assert_eq!(places.remove(0), None, "once");
        assert_eq!(places.count(), 1);
        assert_eq!(places.insert('d'), Some(0));
        assert_eq!(places.get_mut(0), Some(&mut 'd'));
        assert_eq!(places.remove(7), None);
    }

    #[test]
    fn many_are_looked_at_in_slices() {
        let mut places = Places::new(usize::MAX);
        for number in 0..=limits::DEADLINE_SLICE {
            places.insert(number).unwrap();
        }
        places.remove(3);
        let mut seen = 0;
        assert_eq!(places.slice(0, |_| seen += 1), Some(limits::DEADLINE_SLICE));
        assert_eq!(seen, limits::DEADLINE_SLICE - 1);
        assert_eq!(places.slice(limits::DEADLINE_SLICE, |_| seen += 1), None);
        assert_eq!(seen, limits::DEADLINE_SLICE);
    }
}
