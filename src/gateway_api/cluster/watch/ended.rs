//! What an error of a watch means: whether it is harmless, a refusal, or something that may pass. Pure.

use kube::runtime::watcher;

use crate::gateway_api::cluster::health::Failure;

/// Why a watch has to begin anew.
pub(super) enum Ended {
    /// The version from which it would go on is too old.
    Expired,
    /// The field selector is not known.
    Selector,
    /// Whoever asks may not, which an API server that has only just begun says to everybody.
    Forbidden(String),
    /// Anything else.
    Failed(Failure),
}

/// What `error` of a watch, which may have a field selector, means.
pub(super) fn ended(error: &watcher::Error, has_selector: bool) -> Ended {
    let status = match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    let text = match status {
        Some(status) => format!("{} {}", status.code, status.message.trim_end()),
        None => chain(error),
    };
    match status.map_or(0, |status| status.code) {
        400 if has_selector => Ended::Selector,
        403 => Ended::Forbidden(text),
        404 => Ended::Failed(Failure::Refused(text)),
        410 => Ended::Expired,
        _ => Ended::Failed(Failure::Failed(text)),
    }
}

/// What an error says, and what the errors below it add.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
