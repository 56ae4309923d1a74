#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::discovery::source::SourceError;

const REFRESH: Duration = Duration::from_secs(30);

fn set(hosts: &[u8]) -> Vec<EndpointSpec> {
    let endpoint = |host: &u8| EndpointSpec::new(SocketAddr::from((Ipv4Addr::new(127, 0, 0, *host), 80)));
    hosts.iter().map(endpoint).collect()
}

fn answer(update: Update, event: Instant) -> Answer {
    Answer { update, event, refresh: Some(REFRESH), warning: None }
}

fn full(hosts: &[u8], event: Instant) -> Answer {
    answer(Update::Full(set(hosts)), event)
}

fn failed(event: Instant) -> Answer {
    answer(Update::Failed(SourceError("refused".to_owned())), event)
}

fn gone(event: Instant) -> Answer {
    answer(Update::Gone("does not exist".to_owned()), event)
}

fn resolver(now: Instant) -> Resolver {
    let policy = ResolverPolicy { confirm_empty: true, ..ResolverPolicy::default() };
    let mut resolver = Resolver::new(policy, 7, now);
    assert_eq!(resolver.step(now), Action::Ask);
    resolver
}

/// Applies what is to be applied and returns it.
fn apply(resolver: &mut Resolver, now: Instant) -> Vec<EndpointSpec> {
    let Action::Apply { set, .. } = resolver.step(now) else { panic!("nothing to apply") };
    resolver.applied();
    set.to_vec()
}

#[test]
fn a_failure_keeps_the_set_says_why_and_backs_off() {
    let start = Instant::now();
    let mut resolver = resolver(start);
    resolver.heard(full(&[1], start), start);
    assert_eq!(apply(&mut resolver, start), set(&[1]));
    let (first, greatest) = limits::SOURCE_BACKOFF;
    let mut now = start + REFRESH;
    let mut expected = first;
    for _ in 0..10 {
        assert_eq!(resolver.step(now), Action::Ask);
        resolver.heard(failed(now), now);
        if now == start + REFRESH {
            assert_eq!(resolver.step(now), Action::KeepLast { error: "refused".to_owned() });
        } else {
            assert!(matches!(resolver.step(now), Action::KeepLast { .. }));
        }
        let Action::Wait(Some(next)) = resolver.step(now) else { panic!("a failure is not final") };
        assert!(next - now <= expected && next - now >= expected.mul_f64(0.89), "{:?}", next - now);
        now = next;
        expected = (2 * expected).min(greatest);
    }
    assert_eq!(resolver.step(now), Action::Ask);
    resolver.heard(full(&[1], now), now);
    assert_eq!(resolver.step(now), Action::Confirm);
    let Action::Wait(Some(next)) = resolver.step(now) else { panic!("an answer does not last for ever") };
    assert!(next > now + greatest && next <= now + REFRESH);
}

#[test]
fn nothing_is_obeyed_when_a_second_look_agrees() {
    let start = Instant::now();
    let mut resolver = resolver(start);
    resolver.heard(full(&[1], start), start);
    apply(&mut resolver, start);
    let first = start + REFRESH;
    assert_eq!(resolver.step(first), Action::Ask);
    resolver.heard(gone(first), first);
    let second = first + Duration::from_millis(1);
    assert_eq!(resolver.step(second), Action::Ask, "at once");
    resolver.heard(gone(second), second);
    let confirmed = Some(second);
    assert_eq!(resolver.step(second), Action::Apply { set: Arc::new([]), event: first, confirmed });
    resolver.applied();
    assert_eq!(resolver.step(second), Action::KeepLast { error: "does not exist".to_owned() });
    let third = second + REFRESH;
    assert_eq!(resolver.step(third), Action::Ask);
    resolver.heard(gone(third), third);
    assert_eq!(resolver.step(third), Action::Confirm, "nothing stays nothing without a second look");
}

#[test]
fn nothing_is_not_obeyed_when_a_second_look_differs() {
    let start = Instant::now();
    let mut resolver = resolver(start);
    resolver.heard(full(&[1], start), start);
    apply(&mut resolver, start);
    resolver.changed(start);
    assert_eq!(resolver.step(start), Action::Ask);
    resolver.heard(full(&[], start), start);
    assert_eq!(resolver.step(start), Action::Ask);
    resolver.heard(full(&[1], start), start);
    assert_eq!(resolver.step(start), Action::Confirm);
    assert!(matches!(resolver.step(start), Action::Wait(_)));
}

#[test]
fn a_change_seen_while_the_source_is_asked_is_asked_for_again() {
    let start = Instant::now();
    let mut resolver = resolver(start);
    let seen = start + Duration::from_millis(1);
    resolver.changed(seen);
    let answered = start + Duration::from_millis(2);
    resolver.heard(full(&[1], answered), answered);
    assert_eq!(apply(&mut resolver, answered), set(&[1]));
    assert_eq!(resolver.step(answered), Action::Ask);
    resolver.heard(full(&[2], answered), answered);
    let Action::Apply { event, .. } = resolver.step(answered) else { panic!("nothing to apply") };
    assert_eq!(event, seen, "it counts from when it was seen");
}

#[test]
fn a_failed_apply_is_tried_again_until_what_is_wanted_is_applied() {
    let start = Instant::now();
    let mut resolver = resolver(start);
    resolver.heard(full(&[1], start), start);
    assert!(matches!(resolver.step(start), Action::Apply { .. }));
    resolver.apply_failed("full".to_owned(), start);
    assert_eq!(resolver.step(start), Action::KeepLast { error: "full".to_owned() });
    let Action::Wait(Some(next)) = resolver.step(start) else { panic!("it is not given up") };
    assert!(next <= start + limits::SOURCE_BACKOFF.0);
    assert_eq!(apply(&mut resolver, next), set(&[1]));
    assert!(matches!(resolver.step(next), Action::Wait(_)));
}

#[test]
fn an_answer_for_ever_is_never_asked_for_again_and_never_too_old() {
    let start = Instant::now();
    let max_age = MaxAge { after: Duration::from_secs(60), then: WhenTooOld::Empty };
    let policy = ResolverPolicy { max_age: Some(max_age), ..ResolverPolicy::default() };
    let mut resolver = Resolver::new(policy, 7, start);
    assert_eq!(resolver.step(start), Action::Ask);
    resolver.heard(Answer { refresh: None, ..full(&[1], start) }, start);
    apply(&mut resolver, start);
    assert_eq!(resolver.step(start + Duration::from_secs(3600)), Action::Wait(None));
}

#[test]
fn too_old_is_said_or_treated_as_empty_until_the_source_answers() {
    for then in [WhenTooOld::Keep, WhenTooOld::Empty] {
        let start = Instant::now();
        let after = Duration::from_secs(60);
        let policy = ResolverPolicy { max_age: Some(MaxAge { after, then }), ..ResolverPolicy::default() };
        let mut resolver = Resolver::new(policy, 7, start);
        assert_eq!(resolver.step(start), Action::Ask);
        resolver.heard(full(&[1], start), start);
        apply(&mut resolver, start);
        let mut now = start + REFRESH;
        assert_eq!(resolver.step(now), Action::Ask);
        resolver.heard(failed(now), now);
        assert!(matches!(resolver.step(now), Action::KeepLast { .. }));
        now = start + after;
        if then == WhenTooOld::Empty {
            let emptied = Action::Apply { set: Arc::new([]), event: now, confirmed: Some(start) };
            assert_eq!(resolver.step(now), emptied, "its age goes on growing");
            resolver.applied();
        }
        let Action::KeepLast { error } = resolver.step(now) else { panic!("it must be said") };
        assert_eq!(error, "not confirmed for 60s: refused");
        assert_eq!(resolver.step(now), Action::Ask);
        resolver.heard(full(&[1], now), now);
        match then {
            WhenTooOld::Empty => assert_eq!(apply(&mut resolver, now), set(&[1])),
            WhenTooOld::Keep => assert_eq!(resolver.step(now), Action::Confirm),
        }
    }
}

/// What may happen to a resolver.
#[derive(Clone, Debug)]
enum Happening {
    /// The source answers with these hosts, if it was asked.
    Full(Vec<u8>),
    Gone,
    Failed,
    /// The source is seen to change.
    Changed,
    /// Applying begins or stops to fail.
    ApplyFails(bool),
    /// Time passes, in milliseconds.
    Clock(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => prop::collection::vec(1..4_u8, 0..3).prop_map(Happening::Full),
        2 => Just(Happening::Gone),
        3 => Just(Happening::Failed),
        2 => Just(Happening::Changed),
        2 => any::<bool>().prop_map(Happening::ApplyFails),
        6 => (0..40_000_u64).prop_map(Happening::Clock),
    ]
}

/// A resolver, what it applied, and by other means what it should have.
struct Replay {
    resolver: Resolver,
    policy: ResolverPolicy,
    now: Instant,
    asked: bool,
    apply_fails: bool,
    applied: Option<Vec<EndpointSpec>>,
    error: Option<String>,
    known: Option<Vec<EndpointSpec>>,
    negatives: u32,
    confirmed: Instant,
    /// The latest time at which the source must be asked again.
    due: Instant,
}

impl Replay {
    fn new(policy: ResolverPolicy, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            resolver: Resolver::new(policy.clone(), seed, now),
            policy,
            now,
            asked: false,
            apply_fails: false,
            applied: None,
            error: None,
            known: None,
            negatives: 0,
            confirmed: now,
            due: now,
        }
    }

    fn happens(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Clock(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Happening::ApplyFails(fails) => self.apply_fails = fails,
            Happening::Changed => {
                self.resolver.changed(now);
                self.due = now;
            }
            _ if !std::mem::take(&mut self.asked) => {}
            Happening::Failed => {
                self.due = now + self.policy.backoff.1;
                self.resolver.heard(failed(now), now);
            }
            Happening::Full(hosts) if !hosts.is_empty() => {
                self.negatives = 0;
                self.learned(set(&hosts));
                self.resolver.heard(full(&hosts, now), now);
            }
            Happening::Full(_) => self.nothing(full(&[], now)),
            Happening::Gone => self.nothing(gone(now)),
        }
        self.carry_out();
    }

    fn nothing(&mut self, answer: Answer) {
        self.negatives += 1;
        let obeyed = self.known.as_ref().is_some_and(Vec::is_empty);
        if obeyed || self.negatives > 1 || !self.policy.confirm_empty {
            self.negatives = 0;
            self.learned(Vec::new());
        } else {
            self.due = self.now;
        }
        self.resolver.heard(answer, self.now);
    }

    fn learned(&mut self, set: Vec<EndpointSpec>) {
        self.known = Some(set);
        self.confirmed = self.now;
        self.due = self.now + REFRESH;
    }

    fn carry_out(&mut self) {
        if self.policy.max_age.is_some_and(|max_age| {
            max_age.then == WhenTooOld::Empty && self.now >= self.confirmed + max_age.after
        }) {
            self.known = Some(Vec::new());
        }
        for _ in 0..16 {
            match self.resolver.step(self.now) {
                Action::Ask => self.asked = true,
                Action::Apply { set, event, confirmed } => {
                    assert!(event <= self.now);
                    assert!(confirmed.is_none_or(|confirmed| confirmed == self.confirmed));
                    if self.apply_fails {
                        self.resolver.apply_failed("apply".to_owned(), self.now);
                    } else {
                        self.applied = Some(set.to_vec());
                        self.error = None;
                        self.resolver.applied();
                    }
                }
                Action::Confirm => {
                    assert_eq!(self.applied, self.known, "only what is in use can be confirmed");
                    self.error = None;
                }
                Action::KeepLast { error } => self.error = Some(error),
                Action::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "it would spin");
                    if !self.asked {
                        assert!(until.is_some_and(|until| until <= self.due), "it asks too late");
                    }
                    if !self.apply_fails && until.is_none_or(|until| until > self.now + self.policy.backoff.1)
                    {
                        assert_eq!(self.applied, self.known);
                    }
                    return;
                }
            }
        }
        panic!("it does not come to rest");
    }
}

proptest! {
    #[test]
    fn what_is_applied_is_what_is_known(
        history in prop::collection::vec(happening(), 0..60),
        confirm_empty in any::<bool>(),
        empties in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let max_age = empties
            .then_some(MaxAge { after: Duration::from_secs(45), then: WhenTooOld::Empty });
        let policy = ResolverPolicy { confirm_empty, max_age, ..ResolverPolicy::default() };
        let mut replay = Replay::new(policy, seed);
        replay.carry_out();
        for happening in history {
            replay.happens(happening);
        }
        // Whatever happened, once applying works and its pause is over, both are the same.
        replay.happens(Happening::ApplyFails(false));
        replay.happens(Happening::Clock(5_000));
        prop_assert_eq!(&replay.applied, &replay.known);
        // And the source's failure shows for as long as it lasts.
        if !replay.asked {
            replay.happens(Happening::Changed);
        }
        replay.happens(Happening::Failed);
        prop_assert!(replay.error.is_some());
        let known = replay.known.clone();
        prop_assert_eq!(&replay.applied, &known);
    }
}

#[test]
fn what_is_kept_ages_from_when_it_was_right_however_often_it_is_told() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let kept = |hosts: &[u8], now| {
        let why = "broken".to_owned();
        answer(Update::Kept { endpoints: set(hosts), since: start, why }, now)
    };
    for then in [WhenTooOld::Keep, WhenTooOld::Empty] {
        let max_age = Some(MaxAge { after: Duration::from_secs(100), then });
        let mut resolver = Resolver::new(ResolverPolicy { max_age, ..ResolverPolicy::default() }, 7, start);
        assert_eq!(resolver.step(start), Action::Ask);
        resolver.heard(full(&[1], start), start);
        assert_eq!(apply(&mut resolver, start), set(&[1]));
        let error = "broken".to_owned();
        for seconds in [30, 60] {
            assert_eq!(resolver.step(later(seconds)), Action::Ask);
            resolver.heard(kept(&[1], later(seconds)), later(seconds));
            assert_eq!(resolver.step(later(seconds)), Action::KeepLast { error: error.clone() });
            assert!(matches!(resolver.step(later(seconds)), Action::Wait(_)), "nothing confirms it");
        }
        // A part of it is new.
        assert_eq!(resolver.step(later(90)), Action::Ask);
        resolver.heard(kept(&[1, 2], later(90)), later(90));
        match resolver.step(later(90)) {
            Action::Apply { set: next, confirmed, .. } => {
                assert_eq!((&*next, confirmed), (&*set(&[1, 2]), Some(start)));
                resolver.applied();
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(resolver.step(later(90)), Action::KeepLast { error });
        // Too old, and asked on and on.
        let error = "not confirmed for 100s: broken".to_owned();
        if then == WhenTooOld::Empty {
            assert_eq!(
                resolver.step(later(100)),
                Action::Apply { set: Arc::new([]), event: later(100), confirmed: Some(start) }
            );
            resolver.applied();
        }
        assert_eq!(resolver.step(later(100)), Action::KeepLast { error: error.clone() });
        for seconds in [130, 160] {
            assert_eq!(resolver.step(later(seconds)), Action::Ask);
            resolver.heard(kept(&[1, 2], later(seconds)), later(seconds));
            assert_eq!(resolver.step(later(seconds)), Action::KeepLast { error: error.clone() });
            assert!(
                matches!(resolver.step(later(seconds)), Action::Wait(_)),
                "neither more nor less is used"
            );
        }
        // Right again.
        assert_eq!(resolver.step(later(190)), Action::Ask);
        resolver.heard(full(&[1, 2], later(190)), later(190));
        match then {
            WhenTooOld::Keep => assert_eq!(resolver.step(later(190)), Action::Confirm),
            WhenTooOld::Empty => assert_eq!(apply(&mut resolver, later(190)), set(&[1, 2])),
        }
        assert!(matches!(resolver.step(later(190)), Action::Wait(_)));
    }
}
