//! Whether there is a copy: every reason against it counted as itself, and the bounds of a budget.

use http::Method;

use super::*;
use crate::plan::{Fraction, SampleKey, SharePlan};
use crate::routing::matches::{RouteMatch, ValueMatch};

#[tokio::test]
async fn each_reason_not_to_copy_is_counted_as_itself() {
    let (address, _read) = answering(OK).await;
    type Change = fn(&mut MirrorPlan);
    type Ask = fn(&mut Subject<'_>);
    let same: Ask = |_| {};
    let cases: [(Outcome, Change, Ask); 11] = [
        (Outcome::SkippedDraining, |_| {}, |subject| subject.draining = true),
        (Outcome::SkippedOverload, |_| {}, |subject| subject.overloaded = true),
        (Outcome::SkippedUpgrade, |_| {}, |subject| subject.upgrades = true),
        (Outcome::SkippedLoop, |_| {}, |subject| subject.hops = Some(1)),
        (Outcome::SkippedMethod, |mirror| mirror.methods = Some(vec![Method::GET]), same),
        (
            Outcome::SkippedSampledOut,
            |mirror| mirror.share.fraction = Fraction { numerator: 0, denominator: 1 },
            same,
        ),
        (
            Outcome::SkippedCondition,
            |mirror| {
                mirror.matches = vec![RouteMatch {
                    headers: vec![("x-a".parse().unwrap(), ValueMatch::Present)],
                    ..RouteMatch::default()
                }];
            },
            same,
        ),
        (
            Outcome::SkippedOversize,
            |mirror| (mirror.max_body, mirror.on_oversize) = (Some(9), Oversize::Skip),
            |subject| subject.length = Length::Exact(10),
        ),
        (Outcome::SkippedInFlight, |mirror| mirror.in_flight = 0, same),
        (Outcome::SkippedRate, |mirror| mirror.rate = Some(1), same),
        (Outcome::SkippedPaused, |_| {}, same),
    ];
    for (expected, change, ask) in cases {
        let setting = Setting::new(address, change);
        if expected == Outcome::SkippedPaused {
            setting.mirror().budget.dial().turn(dial::Order::Pause, Instant::now());
        }
        if expected == Outcome::SkippedRate {
            drop(setting.offer(&head("/", &[]), Length::None, same).expect("the first of a second"));
        }
        assert!(setting.offer(&head("/", &[]), Length::None, ask).is_none(), "{expected:?}");
        assert_eq!(setting.metrics().outcome_total(expected), 1, "{:?}", setting.outcomes());
        setting.assert_settled(if expected == Outcome::SkippedRate { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_full_worker_and_a_mirror_without_endpoints_skip() {
    let (address, _read) = answering(OK).await;
    let setting = Setting::new(address, |_| {});
    let full = setting.worker.copies().charge(crate::limits::MIRROR_BYTES_PER_WORKER).unwrap();
    assert!(setting.offer(&head("/", &[]), Length::Chunked, |_| {}).is_none());
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_some(), "without a body it pins nothing");
    drop(full);
    setting.mirror().backend.publish(&[], Instant::now());
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_none());
    assert_eq!(
        setting.outcomes(),
        [(Outcome::CutDraining, 1), (Outcome::SkippedBytes, 1), (Outcome::SkippedNoEndpoints, 1)]
    );
    setting.assert_settled(3);
}

#[tokio::test]
async fn what_cannot_be_reached_is_soon_not_tried() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setting = Setting::new(closed, |_| {});
    let mut tried = 0;
    for _ in 0..100 {
        if let Some(copy) = setting.offer(&head("/", &[]), Length::None, |_| {}) {
            copy.deliver(&setting.worker).await;
            tried += 1;
        }
    }
    let skipped = setting.metrics().outcome_total(Outcome::SkippedBreaker);
    // A slow machine may see a probe or two become due.
    assert!((5..=10).contains(&tried) && skipped == 100 - tried, "{:?}", setting.outcomes());
    assert!(setting.mirror().budget.is_broken());
    setting.assert_settled(100);
}

#[tokio::test]
async fn the_same_key_is_always_in_or_always_out() {
    let (address, _read) = answering(OK).await;
    let percent =
        |numerator| SharePlan { fraction: Fraction { numerator, denominator: 100 }, ..SharePlan::default() };
    let setting = |share| {
        Setting::new(address, |mirror| {
            mirror.sample_by = Some(SampleKey::Header("x-user".parse().unwrap()));
            mirror.share = percent(share);
            mirror.in_flight = usize::MAX;
        })
    };
    let (five, ten) = (setting(5), setting(10));
    let mut inside = [0; 2];
    for user in 0..400 {
        let parts = head("/", &[("x-user", &format!("user-{user}"))]);
        let asked = |setting: &Setting| setting.offer(&parts, Length::None, |_| {}).is_some();
        let first = [asked(&five), asked(&ten)];
        assert_eq!(first, [asked(&five), asked(&ten)], "user {user}");
        assert!(!first[0] || first[1], "user {user} is in at 5 % and not at 10 %");
        inside.iter_mut().zip(first).for_each(|(count, is_in)| *count += usize::from(is_in));
    }
    assert!(inside[0] > 5 && inside[0] < inside[1] && inside[1] < 80, "{inside:?}");
}

#[tokio::test]
async fn a_reload_keeps_counts_and_what_was_dialled() {
    let (address, _read) = answering(OK).await;
    let mut setting = Setting::new(address, |_| {});
    drop(setting.offer(&head("/", &[]), Length::None, |_| {}));
    setting.mirror().budget.dial().turn(dial::Order::Pause, Instant::now());
    setting.reload(|mirror| mirror.rate = Some(1000));
    assert!(setting.offer(&head("/", &[]), Length::None, |_| {}).is_none());
    assert_eq!(setting.outcomes(), [(Outcome::CutDraining, 1), (Outcome::SkippedPaused, 1)]);
    setting.reload(|mirror| mirror.share.fraction = Fraction { numerator: 99, denominator: 100 });
    assert_eq!(setting.mirror().budget.dial().view(Instant::now()).state, dial::DialState::Active);
}

/// A seeded run of requests and endings against the budget: whatever comes, there are never more in
/// flight than allowed, a broken mirror has one probe at a time, and the counts add up.
#[tokio::test]
async fn any_course_of_events_keeps_the_bounds() {
    let (address, _read) = answering(OK).await;
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limit = random.usize(1..8);
        let setting = Setting::new(address, |mirror| mirror.in_flight = limit);
        let mut flying: Vec<(Permit, bool)> = Vec::new();
        let mut offered = 0;
        for _ in 0..200 {
            if random.bool() {
                offered += 1;
                let budget = &setting.mirror().budget;
                let broken = budget.is_broken();
                budget.metrics().offered(WorkerId(0));
                match budget.admit(WorkerId(0)) {
                    Ok(permit) => flying.push((permit, broken)),
                    Err(outcome) => budget.skipped(WorkerId(0), outcome),
                }
            } else if !flying.is_empty() {
                let (permit, _) = flying.swap_remove(random.usize(..flying.len()));
                match random.u8(..8) {
                    0 => permit.end(Outcome::Delivered),
                    1 => permit.end(Outcome::FailedTimeout),
                    2 => drop(permit),
                    _ => permit.end(Outcome::FailedConnect),
                }
            }
            assert!(flying.len() <= limit, "seed {seed}");
            assert_eq!(setting.metrics().in_flight.load(Ordering::Relaxed), flying.len(), "seed {seed}");
            assert_eq!(setting.metrics().accounting_error(), 0, "seed {seed}");
            let probes = flying.iter().filter(|(_, probe)| *probe).count();
            assert!(!setting.mirror().budget.is_broken() || probes <= 1, "seed {seed}: {probes} probes");
        }
        flying.clear();
        setting.assert_settled(offered);
    }
}
