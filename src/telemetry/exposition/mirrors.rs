//! Series of mirrors: what became of copies, how answers compare, and where the dial stands.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Exposition;
use crate::mirror::dial::DialState;
use crate::mirror::outcome::Outcome;
use crate::mirror::pair::Agreement;
use crate::shard::Lane;
use crate::telemetry::page::Page;

impl Exposition {
    pub(super) fn mirrors(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        page.counter("mirrorgate_mirror_requests", "What became of the copies", |family| {
            for ((route, mirror), metrics) in &mirrors {
                for outcome in Outcome::ALL {
                    let count = metrics.outcome_total(*outcome);
                    if count > 0 || *outcome == Outcome::Delivered {
                        let labels =
                            [("route", &**route), ("mirror", &**mirror), ("outcome", outcome.as_str())];
                        family.count(&labels, count)?;
                    }
                }
            }
            Ok(())
        })?;
        page.counter(
            "mirrorgate_mirror_offered",
            "Requests that the route forwarded while it had this mirror",
            |family| {
                mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                    family.count(&[("route", route), ("mirror", mirror)], metrics.offered_total())
                })
            },
        )?;
        page.gauge("mirrorgate_mirror_in_flight", "Copies in flight", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                let flying = metrics.in_flight.load(Ordering::Relaxed);
                family.value(&[("route", route), ("mirror", mirror)], flying as f64)
            })
        })?;
        page.gauge("mirrorgate_mirror_buffered_bytes", "Bytes that copies in flight pin", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                let bytes = metrics.buffered_bytes();
                family.value(&[("route", route), ("mirror", mirror)], bytes as f64)
            })
        })?;
        page.gauge(
            "mirrorgate_mirror_accounting_error",
            "Outcomes plus copies in flight less requests offered: stays 0",
            |family| {
                mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                    let error = metrics.accounting_error();
                    family.value(&[("route", route), ("mirror", mirror)], error as f64)
                })
            },
        )
    }

    pub(super) fn comparisons(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        page.counter(
            "mirrorgate_mirror_agreement",
            "Answers of the mirror beside the primary's: the same status, or class, or neither",
            |family| {
                for ((route, mirror), metrics) in &mirrors {
                    for agreement in Agreement::ALL {
                        let labels =
                            [("route", &**route), ("mirror", &**mirror), ("agreement", agreement.as_str())];
                        family.count(&labels, metrics.agreement_total(agreement))?;
                    }
                }
                Ok(())
            },
        )?;
        page.histogram(
            "mirrorgate_mirror_answer_seconds",
            "To the head of the answer, of requests that primary and mirror both answered",
            |family| {
                for ((route, mirror), metrics) in &mirrors {
                    for lane in Lane::ALL {
                        let answers = metrics.answers(lane);
                        if answers.count > 0 {
                            let labels =
                                [("route", &**route), ("mirror", &**mirror), ("lane", lane.as_str())];
                            family.distribution(&labels, &answers)?;
                        }
                    }
                }
                Ok(())
            },
        )?;
        page.counter("mirrorgate_mirror_omitted_bodies", "Copies of a head alone", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                family.count(&[("route", route), ("mirror", mirror)], metrics.omitted_bodies_total())
            })
        })?;
        page.counter(
            "mirrorgate_mirror_unread_answers",
            "Answers to delivered copies that were not read to their end: too long, or too slow",
            |family| {
                mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                    family.count(&[("route", route), ("mirror", mirror)], metrics.unread_answers_total())
                })
            },
        )
    }

    pub(super) fn dials(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let mirrors = self.metrics.mirrors();
        let dials = || mirrors.iter().filter_map(|(key, metrics)| Some((key, metrics.dial()?)));
        page.gauge("mirrorgate_mirror_percent", "Requests copied while the mirror is active", |family| {
            dials().try_for_each(|((route, mirror), dial)| {
                family.value(&[("route", route), ("mirror", mirror)], dial.fraction.percent())
            })
        })?;
        page.gauge("mirrorgate_mirror_state", "1 for the state that the mirror is in", |family| {
            for ((route, mirror), dial) in dials() {
                for state in DialState::WORDS {
                    let labels = [("route", &**route), ("mirror", &**mirror), ("state", state)];
                    family.value(&labels, f64::from(u8::from(dial.state.as_str() == state)))?;
                }
            }
            Ok(())
        })?;
        page.counter("mirrorgate_mirror_stops", "Times that the mirror was stopped by itself", |family| {
            mirrors.iter().try_for_each(|((route, mirror), metrics)| {
                family.count(&[("route", route), ("mirror", mirror)], metrics.stops_total())
            })
        })
    }
}
