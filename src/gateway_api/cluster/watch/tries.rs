//! What is known of the tries before: how the last one ended, and what shows that the next is up to date.

/// How the last try ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// There was none.
    First,
    /// There was a list.
    Listed,
    /// There was none: the API server is away, or lets nobody in.
    Lost,
}

/// What shows that a kind is up to date.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A complete list: the watch behind it held the last time.
    List,
    /// Only a watch that holds. Whoever may list and not watch would be told as fine again and again.
    Watch,
}
