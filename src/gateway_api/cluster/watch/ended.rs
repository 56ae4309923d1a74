//! What an error of a watch means: whether it is harmless, a refusal, or something that may pass. Pure.

use kube::runtime::watcher;

use crate::gateway_api::cluster::health::Failure;
use crate::gateway_api::cluster::said;

/// Why a watch has to begin anew.
pub(super) enum Ended {
    /// The version from which it would go on is too old.
    Expired,
    /// The field selector is not known.
    Selector,
    /// Whoever asks may not, or there is no such kind, which an API server that has only just begun says to
    /// everybody.
    Refused(String),
    /// There was no answer, although others get theirs.
    Overtaken,
    /// Anything else.
    Failed(Failure),
}

/// What `error` of a watch, which may have a field selector, means.
pub(super) fn ended(error: &watcher::Error, has_selector: bool) -> Ended {
    let below = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        _ => None,
    };
    let status = match (error, below) {
        (watcher::Error::WatchError(status), _) | (_, Some(kube::Error::Api(status))) => Some(&**status),
        _ => None,
    };
    let text = match (status, below) {
        (Some(status), _) => said::by_status(status),
        (None, Some(error)) => said::by_error(error),
        (None, None) => said::by_chain(error),
    };
    match status.map_or(0, |status| status.code) {
        400 if has_selector => Ended::Selector,
        403 | 404 => Ended::Refused(text),
        410 => Ended::Expired,
        _ => Ended::Failed(Failure::Failed(text)),
    }
}

#[cfg(test)]
mod tests;
