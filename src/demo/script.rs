//! What happens to the services while the clients go on: endpoints move, die and come back, and the
//! mirror goes through all that must not show on the primary's side.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::screen::short;
use super::service::{Fleet, Published};
use super::traffic::Seen;
use crate::shard::Lane;
use crate::upstream::registry::BackendRef;

/// How long the mirror takes to answer while it is slow: longer than its timeout.
const SLOW: Duration = Duration::from_secs(3);

/// The services and who speaks about them.
pub(super) struct Script {
    pub(super) fleets: [Fleet; 2],
    pub(super) backends: [BackendRef; 2],
    pub(super) seen: Arc<Seen>,
    pub(super) told: Arc<Told>,
}

/// What the script tells the screen.
#[derive(Default)]
pub(super) struct Told(Mutex<Telling>);

/// What there is to tell.
#[derive(Default)]
pub(super) struct Telling {
    /// Lines that the screen has not shown yet.
    pub(super) news: Vec<String>,
    /// How the mirror is; nothing to be said while it is well.
    pub(super) mirror: &'static str,
    /// How soon new sets were in use, by lane.
    pub(super) published: [Publications; 2],
}

/// How soon new sets of one backend were in use.
#[derive(Clone, Copy, Default)]
pub(super) struct Publications {
    pub(super) count: u32,
    pub(super) last: Duration,
    pub(super) worst: Duration,
}

impl Told {
    pub(super) fn lock(&self) -> MutexGuard<'_, Telling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    /// Plays it once within `time`.
    pub(super) async fn play(&mut self, time: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let at = |percent: u32| sleep_until(begun + time * percent / 100);

        at(8).await;
        self.moves(Lane::Primary, 1).await?;
        at(15).await;
        self.moves(Lane::Mirror, 1).await?;

        at(24).await;
        self.fleets[Lane::Mirror.index()].kill(1);
        self.mirror_is("one endpoint killed, still in the file");
        at(32).await;
        self.grows(1, "a new one takes its place").await?;

        at(40).await;
        self.mirror().service().answer_after(SLOW);
        self.mirror_is("answers after 3 s");
        at(54).await;
        self.mirror().service().answer_after(Duration::ZERO);
        self.mirror_is("");

        at(62).await;
        self.fleets[Lane::Mirror.index()].kill(usize::MAX);
        self.mirror_is("dead, refuses every connection");
        at(71).await;
        let published = self.mirror().publish(&self.backends[Lane::Mirror.index()]).await?;
        self.told.lock().mirror = "scaled to zero, its file names no endpoint";
        self.published(Lane::Mirror, "scaled to zero", &published);
        at(79).await;
        self.grows(2, "two endpoints are back").await?;

        at(87).await;
        self.moves(Lane::Primary, usize::MAX).await?;
        at(92).await;
        self.moves(Lane::Mirror, usize::MAX).await?;
        at(100).await;
        Ok(())
    }

    fn mirror(&self) -> &Fleet {
        &self.fleets[Lane::Mirror.index()]
    }

    /// Other ports for up to `count` endpoints.
    async fn moves(&mut self, lane: Lane, count: usize) -> io::Result<()> {
        let fleet = &mut self.fleets[lane.index()];
        let all = fleet.addresses();
        let count = count.min(all.len());
        let published = fleet.replace(count, &self.backends[lane.index()]).await?;
        let what = match count == all.len() {
            true => format!("all {count} endpoints move to other ports"),
            false => format!("{count} of {} endpoints moves to another port", all.len()),
        };
        self.published(lane, &what, &published);
        Ok(())
    }

    async fn grows(&mut self, count: usize, what: &str) -> io::Result<()> {
        let lane = Lane::Mirror.index();
        let published = self.fleets[lane].grow(count, &self.backends[lane]).await?;
        self.mirror_is("");
        self.published(Lane::Mirror, what, &published);
        Ok(())
    }

    fn mirror_is(&self, how: &'static str) {
        self.seen.trouble.store(!how.is_empty(), Ordering::Relaxed);
        let mut told = self.told.lock();
        let was = std::mem::replace(&mut told.mirror, how);
        match (how, was) {
            ("", "answers after 3 s") => told.news.push("mirror: answers at once again".to_owned()),
            ("", _) => {}
            _ => told.news.push(format!("mirror: {how}")),
        }
    }

    fn published(&self, lane: Lane, what: &str, published: &Published) {
        let mut told = self.told.lock();
        let Published { after, generation } = *published;
        told.news.push(format!(
            "{}: {what}; generation {generation} in use {} after the file changed",
            lane.as_str(),
            short(after)
        ));
        let publications = &mut told.published[lane.index()];
        publications.count += 1;
        publications.last = after;
        publications.worst = publications.worst.max(after);
    }
}
