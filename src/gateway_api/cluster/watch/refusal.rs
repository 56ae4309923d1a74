//! When a refusal is believed. An API server that has only just begun knows neither roles nor definitions
//! yet, and refuses for a moment what it will grant: whoever starts then must not go on without that kind.

use tokio::time::Instant;

use crate::gateway_api::cluster::health::Failure;
use crate::limits;

/// What a watch hears of its permission and its kind, one answer after the other.
#[derive(Default)]
pub(super) struct Refusal {
    since: Option<Instant>,
}

impl Refusal {
    /// Refused once more: a failure like others at first, and an answer once it has lasted.
    pub(super) fn again(&mut self, text: String) -> Failure {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < limits::REFUSAL_HOLDS { Failure::Failed(text) } else { Failure::Refused(text) }
    }

    /// Whether nothing but refusals was heard at last.
    pub(super) fn lasts(&self) -> bool {
        self.since.is_some()
    }

    /// Something else was heard.
    pub(super) fn over(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_believed_once_it_has_lasted() {
        let mut refusal = Refusal::default();
        let text = || "403".to_owned();
        let short = limits::REFUSAL_HOLDS - Duration::from_millis(1);
        assert_eq!(refusal.again(text()), Failure::Failed(text()));
        tokio::time::advance(short).await;
        assert_eq!(refusal.again(text()), Failure::Failed(text()));
        refusal.over();
        assert!(!refusal.lasts());
        tokio::time::advance(short).await;
        assert_eq!(refusal.again(text()), Failure::Failed(text()), "it began anew");
        tokio::time::advance(limits::REFUSAL_HOLDS).await;
        assert!(refusal.lasts());
        assert_eq!(refusal.again(text()), Failure::Refused(text()));
    }
}
