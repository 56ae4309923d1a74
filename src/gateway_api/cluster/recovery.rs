//! Word that the API server answers again. Whoever could not reach it waits longer and longer before it tries
//! again; the first that gets through tells the others, so that all of them are up to date soon after it.
//!
//! Word is heard once in a while only, and after a random moment: it never makes more of the tries than a
//! watch's own pauses would allow, and those who hear it do not come all at once. Called by `watch` and `lease`.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;

/// Where word is spread.
pub(super) struct Recovery(watch::Sender<()>);

/// One who tells and hears it.
pub(super) struct Hearing {
    all: watch::Sender<()>,
    news: watch::Receiver<()>,
    /// When it last did something because of it.
    heeded: Option<Instant>,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub(super) fn hearing(&self) -> Hearing {
        Hearing { all: self.0.clone(), news: self.0.subscribe(), heeded: None }
    }
}

impl Hearing {
    /// A try begins: what was said up to now says nothing about how it will end.
    pub(super) fn begins(&mut self) {
        self.news.mark_unchanged();
    }

    /// The API server answered, which it had not before.
    pub(super) fn tell(&mut self) {
        self.all.send_replace(());
        self.news.mark_unchanged();
    }

    /// Waits for `pause`, or until there is word, which came since the last try began; whether there was.
    pub(super) async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = self.word() => true,
            () = tokio::time::sleep(pause) => false,
        }
    }

    /// Resolves when there is word. May be dropped at any time: it is heard the next time then.
    pub(super) async fn word(&mut self) {
        let (longest, spread) = (limits::WATCH_BACKOFF.1, limits::RECOVERY_SPREAD);
        loop {
            let mut news = self.news.clone();
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
            if self.heeded.is_none_or(|heeded| heeded.elapsed() >= longest) {
                break;
            }
            self.news.mark_unchanged();
        }
        tokio::time::sleep(spread.mul_f64(fastrand::f64())).await;
        self.news.mark_unchanged();
        self.heeded = Some(Instant::now());
    }

    /// Resolves when there is word although a try has had its time since it began: it is stuck.
    pub(super) async fn overtakes(&self, begun: Instant) {
        let mut news = self.news.clone();
        if news.changed().await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(begun + limits::API_SILENCE).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn word_ends_a_pause_but_not_its_own_nor_too_often() {
        let recovery = Recovery::new();
        let (mut one, mut other) = (recovery.hearing(), recovery.hearing());
        other.begins();
        one.tell();
        assert!(!one.pause(LONG).await, "it is told to others");
        let since = Instant::now();
        assert!(other.pause(LONG).await);
        assert!(since.elapsed() <= limits::RECOVERY_SPREAD);
        // What was said before a try is of no use to it.
        tokio::time::advance(limits::WATCH_BACKOFF.1).await;
        one.tell();
        other.begins();
        assert!(!other.pause(LONG).await);
        one.tell();
        assert!(other.pause(LONG).await);
        one.tell();
        assert!(!other.pause(LONG).await, "so soon after it tries no more often than by itself");
        one.tell();
        assert!(other.pause(LONG).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_is_overtaken_once_it_has_had_its_time() {
        let recovery = Recovery::new();
        let (mut one, other) = (recovery.hearing(), recovery.hearing());
        let begun = Instant::now();
        assert!(other.overtakes(begun).now_or_never().is_none());
        one.tell();
        assert!(other.overtakes(begun).now_or_never().is_none());
        other.overtakes(begun).await;
        assert!(begun.elapsed() >= limits::API_SILENCE);
    }
}
