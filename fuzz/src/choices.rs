//! Bytes as a source of choices; when they are used up, every choice is the first.

/// What is left of the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'bytes>(pub &'bytes [u8]);

impl<'bytes> Choices<'bytes> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is at most 65,536.
    pub fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 {
            usize::from(self.byte())
        } else {
            usize::from(self.byte()) << 8 | usize::from(self.byte())
        };
        number % end.max(1)
    }

    /// One of `all`.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Up to `most` values.
    pub fn some<T>(&mut self, most: usize, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| value(self)).collect()
    }

    /// What comes up to the next `end`, or all that is left.
    pub fn until(&mut self, end: u8) -> &'bytes [u8] {
        let length = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let (found, rest) = self.0.split_at(length);
        self.0 = rest.get(1..).unwrap_or_default();
        found
    }
}
