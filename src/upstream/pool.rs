//! What one worker has open to one endpoint in one lane.

/// Idle connections and the count of exchanges in flight.
#[derive(Default)]
pub struct Pool {}

impl Pool {
    /// Exchanges in flight.
    pub fn in_flight(&self) -> usize {
        0
    }

    /// Connections open, idle ones included.
    pub fn connections(&self) -> usize {
        0
    }

    /// Closes idle connections; takes none back from now on.
    pub(super) fn close(&self) {}
}
