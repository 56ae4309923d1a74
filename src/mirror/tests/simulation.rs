//! A seeded world around the tee and the budgets, in time that only the world moves: requests come and
//! break off, mirrors refuse, stall, crawl and recover, and in any order of all that the laws hold.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http_body::Body;

use super::*;
use crate::memory::Account;
use crate::mirror::tee::tests::{Source, source};
use crate::mirror::tee::{CopyBody, End};

const WORLDS: u64 = 150;
const EVENTS: usize = 250;
/// What all copies may pin together here, and one alone.
const AROUND: usize = 150_000;
const LAG: usize = 40_000;
/// How long a copy may take after its request is complete.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a mirror does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weather {
    Takes,
    Crawls,
    Stalls,
    Refuses,
    Resets,
}

/// A request whose primary has not pulled all of it.
struct Asked {
    tee: Tee<Source>,
    whole: Arc<Vec<u8>>,
    seen: Vec<u8>,
}

struct Flying {
    mirror: usize,
    permit: Permit,
    is_probe: bool,
    reader: Arc<Reader>,
    body: CopyBody,
    whole: Arc<Vec<u8>>,
    seen: Vec<u8>,
    complete_since: Option<tokio::time::Instant>,
}

struct World {
    random: fastrand::Rng,
    setting: Setting,
    around: Arc<Account>,
    weather: Vec<Weather>,
    limit: usize,
    asked: Vec<Asked>,
    flying: Vec<Flying>,
    requests: u64,
    /// Probes that each open breaker let through, and since when it is open.
    probes: Vec<(u64, Option<tokio::time::Instant>)>,
    exact: usize,
}

impl World {
    fn new(seed: u64, address: SocketAddr) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = random.usize(1..12);
        let mut setting = Setting::new(address, |mirror| mirror.in_flight = limit);
        setting.plan.backends.push(spec("other", address));
        let mut other = MirrorPlan::new("other".into());
        other.in_flight = limit;
        setting.plan.routes[0].mirrors.push(other);
        setting.reload(|_| {});
        Self {
            random,
            setting,
            around: Account::new(AROUND),
            weather: vec![Weather::Takes; 2],
            limit,
            asked: Vec::new(),
            flying: Vec::new(),
            requests: 0,
            probes: vec![(0, None); 2],
            exact: 0,
        }
    }

    fn budget(&self, mirror: usize) -> Arc<Budget> {
        self.setting.table.routes()[0].mirrors[mirror].budget.clone()
    }

    async fn event(&mut self) {
        match self.random.u8(..20) {
            0..4 => self.ask(),
            4..10 => self.pull().await,
            10..16 => self.copy(),
            16 => drop(self.random.choice(0..self.asked.len()).map(|at| self.asked.swap_remove(at))),
            17 => {
                let mirror = self.random.usize(..2);
                let all =
                    [Weather::Takes, Weather::Crawls, Weather::Stalls, Weather::Refuses, Weather::Resets];
                self.weather[mirror] = all[self.random.usize(..all.len())];
            }
            _ => tokio::time::advance(Duration::from_millis(self.random.u64(1..700))).await,
        }
    }

    fn ask(&mut self) {
        let mut whole = vec![0; self.random.usize(..90_000)];
        self.random.fill(&mut whole);
        let whole = Arc::new(whole);
        let mut frames = VecDeque::new();
        let mut rest = Bytes::from(whole.to_vec());
        while !rest.is_empty() {
            let most = if self.random.bool() { 10 } else { 16_000 };
            let piece = rest.split_to(self.random.usize(1..=most).min(rest.len()));
            frames.push_back(Ok(Frame::data(Chunk::free(piece))));
            if frames.len() > 200 {
                frames.push_back(Ok(Frame::data(Chunk::free(std::mem::take(&mut rest)))));
            }
        }
        let readers = (0..2).filter_map(|mirror| self.offer(mirror, &whole)).collect();
        self.requests += 1;
        self.asked.push(Asked { tee: Tee::new(source(frames), readers), whole, seen: Vec::new() });
    }

    fn offer(&mut self, mirror: usize, whole: &Arc<Vec<u8>>) -> Option<Arc<Reader>> {
        let budget = self.budget(mirror);
        budget.metrics().offered(WorkerId(0));
        let is_probe = budget.is_broken();
        match budget.admit(WorkerId(0)) {
            Ok(permit) => {
                self.probes[mirror].0 += u64::from(is_probe);
                let reader = Reader::new(Account::within(&self.around, LAG), SizeHint::default());
                let (body, whole, seen) = (reader.body(), whole.clone(), Vec::new());
                let copy = Flying {
                    mirror,
                    permit,
                    is_probe,
                    reader: reader.clone(),
                    body,
                    whole,
                    seen,
                    complete_since: None,
                };
                self.flying.push(copy);
                Some(reader)
            }
            Err(outcome) => {
                budget.skipped(WorkerId(0), outcome);
                None
            }
        }
    }

    /// The primary takes a few pieces: at once, whatever becomes of the copies.
    async fn pull(&mut self) {
        let Some(at) = self.random.choice(0..self.asked.len()) else { return };
        for _ in 0..self.random.usize(1..40) {
            if !self.asked[at].take_one().await {
                let done = self.asked.swap_remove(at);
                assert!(done.seen == *done.whole, "what the primary got");
                return;
            }
        }
    }

    /// A copy goes on as its mirror does.
    fn copy(&mut self) {
        let Some(at) = self.random.choice(0..self.flying.len()) else { return };
        let copy = &mut self.flying[at];
        let ended = match self.weather[copy.mirror] {
            Weather::Takes => copy.take(usize::MAX),
            Weather::Crawls => copy.take(1),
            Weather::Stalls => copy.overdue(),
            Weather::Refuses if copy.seen.is_empty() => Some(Outcome::FailedConnect),
            Weather::Refuses | Weather::Resets => Some(Outcome::FailedReset),
        };
        if let Some(outcome) = ended {
            self.end(at, outcome);
        }
    }

    fn end(&mut self, at: usize, outcome: Outcome) {
        let Flying { permit, reader, body, whole, seen, .. } = self.flying.swap_remove(at);
        // As the exchange has it: a body that was cut is what became of the copy.
        let outcome = match reader.ended() {
            Some(End::Cut(cut)) => cut,
            _ => outcome,
        };
        match outcome {
            Outcome::Delivered => {
                assert!(seen == *whole, "a delivered copy is exact");
                self.exact += 1;
            }
            _ => assert!(whole.starts_with(&seen), "a copy that was cut is the beginning"),
        }
        drop(body);
        permit.end(outcome);
    }

    fn check(&mut self) {
        assert!(self.around.used() <= AROUND);
        for mirror in 0..2 {
            let (budget, flying) =
                (self.budget(mirror), self.flying.iter().filter(|copy| copy.mirror == mirror));
            let metrics = budget.metrics();
            let count = flying.clone().count();
            assert!(count <= self.limit, "{count} in flight");
            assert_eq!(metrics.in_flight.load(Ordering::Relaxed), count);
            assert_eq!((metrics.accounting_error(), metrics.offered_total()), (0, self.requests));
            let probes = flying.filter(|copy| copy.is_probe).count();
            let (tried, since) = &mut self.probes[mirror];
            match budget.is_broken() {
                false => (*tried, *since) = (0, None),
                true => {
                    assert!(probes <= 1, "{probes} probes at once");
                    let since = since.get_or_insert_with(tokio::time::Instant::now).elapsed();
                    let most = since.as_millis() / crate::limits::BREAKER_PROBE.as_millis() + 1;
                    assert!(u128::from(*tried) <= most, "{tried} probes in {since:?}");
                }
            }
        }
    }

    /// Everything comes to its end: nothing is kept.
    async fn settle(mut self) -> usize {
        while let Some(mut asked) = self.asked.pop() {
            while asked.take_one().await {}
            assert!(asked.seen == *asked.whole);
        }
        while !self.flying.is_empty() {
            tokio::time::advance(PATIENCE).await;
            for at in (0..self.flying.len()).rev() {
                if let Some(outcome) = self.flying[at].take(3).or_else(|| self.flying[at].overdue()) {
                    self.end(at, outcome);
                }
            }
        }
        self.check();
        self.setting.assert_settled(self.requests);
        assert_eq!(self.around.used(), 0);
        self.exact
    }
}

impl Asked {
    async fn take_one(&mut self) -> bool {
        // It may be held back for a moment, and let others run first.
        for _ in 0..10 {
            match Pin::new(&mut self.tee).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => tokio::time::advance(Duration::from_millis(1)).await,
                Poll::Ready(None) => return false,
                Poll::Ready(Some(frame)) => {
                    self.seen.extend_from_slice(frame.unwrap().into_data().unwrap().bytes());
                    return true;
                }
            }
        }
        panic!("the primary waits");
    }
}

impl Flying {
    fn take(&mut self, frames: usize) -> Option<Outcome> {
        for _ in 0..frames {
            match Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return None,
                Poll::Ready(None) => return Some(Outcome::Delivered),
                Poll::Ready(Some(Err(error))) => {
                    assert_eq!(error, BodyError::Cut);
                    return Some(Outcome::FailedReset);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.seen.extend_from_slice(frame.into_data().unwrap().bytes());
                }
            }
        }
        None
    }

    /// Its time runs from the end of the request.
    fn overdue(&mut self) -> Option<Outcome> {
        self.reader.ended()?;
        let since = *self.complete_since.get_or_insert_with(tokio::time::Instant::now);
        (since.elapsed() >= PATIENCE).then_some(Outcome::FailedTimeout)
    }
}

#[tokio::test(start_paused = true)]
async fn the_laws_hold_in_any_world() {
    // Nobody connects: copies here are bodies and permits.
    let address = "127.0.0.1:9".parse().unwrap();
    let (mut exact, mut seen) = (0, std::collections::BTreeSet::new());
    for seed in 0..WORLDS {
        let mut world = World::new(seed, address);
        for _ in 0..EVENTS {
            world.event().await;
            world.check();
        }
        seen.extend(world.setting.outcomes().into_iter().map(|(outcome, _)| outcome.as_str()));
        exact += world.settle().await;
    }
    // A world in which nothing happens proves nothing.
    for outcome in [
        "delivered",
        "cut_lag",
        "cut_bytes",
        "cut_client_gone",
        "failed_timeout",
        "failed_connect",
        "failed_reset",
        "skipped_breaker",
        "skipped_in_flight",
    ] {
        assert!(seen.contains(outcome), "{outcome} never happened: {seen:?}");
    }
    assert!(exact > 500, "{exact} copies arrived whole");
}
