#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::plan::StopPlan;

const SECOND: Duration = Duration::from_secs(1);

fn percent(percent: u32) -> Fraction {
    Fraction { numerator: percent, denominator: 100 }
}

fn plan(share: u32) -> SharePlan {
    SharePlan { fraction: percent(share), ..SharePlan::default() }
}

fn ramp(stop: bool) -> SharePlan {
    let steps: Vec<_> = [1, 5, 100].map(percent).into();
    SharePlan {
        fraction: steps[0],
        ramp: Some(RampPlan { steps, every: 60 * SECOND }),
        stop: stop.then(StopPlan::default),
    }
}

/// How many of 1000 even draws pass, or why none does.
fn passing(dial: &Dial) -> Result<usize, Outcome> {
    let results: Vec<_> = (0..1000).map(|n| dial.admit(|| (2 * n + 1) * (u64::MAX / 2000))).collect();
    match results.iter().filter(|result| result.is_ok()).count() {
        0 => Err(results[0].unwrap_err()),
        some => Ok(some),
    }
}

fn well(copies: u64) -> Reading {
    Reading { delivered: copies, wanted: copies, ..Reading::default() }
}

#[test]
fn a_share_lets_its_part_through() {
    let now = Instant::now();
    assert_eq!(passing(&Dial::new(plan(100), now)), Ok(1000));
    assert_eq!(passing(&Dial::new(plan(25), now)), Ok(250));
    assert_eq!(passing(&Dial::new(plan(0), now)), Err(Outcome::SkippedSampledOut));
    assert_eq!(Dial::new(plan(100), now).admit(|| u64::MAX), Ok(()), "all is all");
}

#[test]
fn what_a_person_sets_stays_until_the_file_changes_it() {
    let now = Instant::now();
    let dial = Dial::new(plan(100), now);
    dial.turn(Order::Share(percent(10)), now);
    assert_eq!(passing(&dial), Ok(100));
    dial.turn(Order::Pause, now);
    assert_eq!(passing(&dial), Err(Outcome::SkippedPaused));
    dial.configure(plan(100), now);
    assert_eq!(passing(&dial), Err(Outcome::SkippedPaused), "a reload that says nothing new");
    dial.configure(SharePlan { stop: Some(StopPlan::default()), ..plan(100) }, now);
    assert_eq!(passing(&dial), Err(Outcome::SkippedPaused), "another threshold is no other share");
    dial.turn(Order::Resume, now);
    assert_eq!(passing(&dial), Ok(100));
    dial.turn(Order::Pause, now);
    dial.configure(plan(50), now);
    assert_eq!(passing(&dial), Ok(500), "the file has the last word");
}

#[test]
fn a_mirror_that_does_badly_is_stopped_with_its_reason() {
    let now = Instant::now();
    let dial = Dial::new(SharePlan { stop: Some(StopPlan::default()), ..plan(100) }, now);
    assert!(dial.looks());
    assert_eq!(dial.look(Reading::default(), now), None);
    let dropped = Reading { wanted: 200, drops: 150, delivered: 50, ..Reading::default() };
    let reason = "150 of 200 copies were dropped by a budget within 10s".to_owned();
    assert_eq!(dial.look(dropped, now + SECOND), Some(DialEvent::Stopped(reason.clone())));
    assert_eq!(passing(&dial), Err(Outcome::SkippedStopped));
    assert_eq!(dial.view(now).state, DialState::Stopped(reason));
    assert!(!dial.looks(), "a stopped mirror stays stopped");
    assert_eq!(dial.look(well(10_000), now + 60 * SECOND), None);
    dial.turn(Order::Resume, now + 61 * SECOND);
    assert_eq!(passing(&dial), Ok(1000));
    assert_eq!(dial.look(dropped, now + 62 * SECOND), None, "what was before is not held against it");
}

#[test]
fn a_ramp_goes_on_while_the_mirror_does_well() {
    let now = Instant::now();
    let dial = Dial::new(ramp(true), now);
    assert_eq!(passing(&dial), Ok(10));
    assert_eq!(dial.look(well(0), now), None);
    assert_eq!(dial.look(well(0), now + 100 * SECOND), None, "no copy, no proof");
    assert_eq!(dial.look(well(1), now + 101 * SECOND), Some(DialEvent::Stepped(percent(5))));
    assert_eq!(dial.view(now + 131 * SECOND).next_step, Some(30 * SECOND));
    assert_eq!(dial.look(well(1), now + 102 * SECOND), None);
    assert_eq!(dial.look(well(9), now + 160 * SECOND), None, "not yet");
    assert_eq!(dial.look(well(9), now + 161 * SECOND), Some(DialEvent::Stepped(percent(100))));
    assert_eq!(passing(&dial), Ok(1000));
    assert_eq!(dial.look(well(99), now + 1000 * SECOND), None, "that was the last");
    dial.configure(ramp(true), now);
    assert_eq!(passing(&dial), Ok(1000), "a reload does not begin it again");
}

#[test]
fn trouble_holds_a_ramp_that_nothing_stops() {
    let now = Instant::now();
    let dial = Dial::new(ramp(false), now);
    assert_eq!(dial.look(well(0), now), None);
    let mut reading = well(1000);
    for second in 1..100 {
        reading.wanted += 100;
        reading.errors += 100;
        assert_eq!(dial.look(reading, now + second * SECOND), None, "{second}");
    }
    assert_eq!(passing(&dial), Ok(10));
    // The last failures leave the window, and then a minute must be good.
    let mut stepped = None;
    for second in 100..300 {
        reading.delivered += 100;
        reading.wanted += 100;
        if let Some(event) = dial.look(reading, now + second * SECOND) {
            stepped.get_or_insert((second, event));
        }
    }
    let (second, event) = stepped.unwrap();
    assert!((160..=172).contains(&second), "{second}");
    assert_eq!(event, DialEvent::Stepped(percent(5)));
}

#[test]
fn a_person_ends_a_ramp_and_a_pause_does_not_count_as_time() {
    let now = Instant::now();
    let dial = Dial::new(ramp(false), now);
    assert_eq!(dial.look(well(1), now), None);
    dial.turn(Order::Pause, now + 59 * SECOND);
    assert_eq!(dial.look(well(2), now + 90 * SECOND), None);
    dial.turn(Order::Resume, now + 100 * SECOND);
    assert_eq!(dial.look(well(2), now + 101 * SECOND), None);
    assert_eq!(dial.look(well(3), now + 159 * SECOND), None);
    assert_eq!(dial.look(well(3), now + 160 * SECOND), Some(DialEvent::Stepped(percent(5))));
    dial.turn(Order::Share(percent(50)), now + 161 * SECOND);
    assert!(!dial.looks());
    assert_eq!(dial.view(now).step, None);
    assert_eq!(passing(&dial), Ok(500));
}
