//! Which part of a listener takes a request: listeners of Gateway API that share a port and are told
//! apart by host. Of those that take a host the most specific one does, and no other.

use foldhash::HashMap;

use super::matches::HostPattern;
use super::table::ListenerId;
use crate::plan::SectionPlan;

/// The parts of all listeners that have any.
#[derive(Debug, Default)]
pub struct Sections(HashMap<usize, Vec<(Option<HostPattern>, ListenerId)>>);

impl Sections {
    /// `number` gives listeners and sections their numbers.
    pub fn build(plans: &[SectionPlan], number: impl Fn(&std::sync::Arc<str>) -> ListenerId) -> Self {
        let mut sections = Self::default();
        for plan in plans {
            let listener = number(&plan.listener).0;
            sections.0.entry(listener).or_default().push((plan.host.clone(), number(&plan.name)));
        }
        // Exact hosts first, then the longer suffix, and any host last.
        for parts in sections.0.values_mut() {
            parts.sort_by_key(|(host, _)| match host {
                Some(HostPattern::Exact(_)) => 0,
                Some(HostPattern::Suffix(suffix)) => usize::MAX / 2 - suffix.len(),
                None => usize::MAX,
            });
        }
        sections
    }

    /// The part of `listener` that takes `host`; the listener itself if it has no parts.
    pub fn find(&self, listener: ListenerId, host: &str) -> Option<ListenerId> {
        if self.0.is_empty() {
            return Some(listener);
        }
        let Some(parts) = self.0.get(&listener.0) else { return Some(listener) };
        let takes = |pattern: &Option<HostPattern>| pattern.as_ref().is_none_or(|one| one.takes(host));
        parts.iter().find(|(pattern, _)| takes(pattern)).map(|(_, section)| *section)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::plan::SectionMode;

    #[test]
    fn the_most_specific_part_takes_a_host() {
        let suffix = |text: &str| Some(HostPattern::Suffix(text.to_owned()));
        let part = |name: &str, host| SectionPlan {
            name: name.into(),
            listener: "0".into(),
            host,
            mode: SectionMode::Http,
        };
        let plans = [
            part("1", None),
            part("2", suffix(".example.com")),
            part("3", suffix(".foo.example.com")),
            part("4", Some(HostPattern::Exact("abc.foo.example.com".to_owned()))),
            SectionPlan { listener: "5".into(), ..part("6", suffix(".a")) },
        ];
        let sections = Sections::build(&plans, |name: &Arc<str>| ListenerId(name.parse().unwrap()));
        let find = |listener, host| sections.find(ListenerId(listener), host).map(|found| found.0);
        assert_eq!(find(0, "bar.com"), Some(1));
        assert_eq!(find(0, "example.com"), Some(1));
        assert_eq!(find(0, "bar.example.com"), Some(2));
        assert_eq!(find(0, "bar.foo.example.com"), Some(3));
        assert_eq!(find(0, "abc.foo.example.com"), Some(4));
        assert_eq!(find(5, "b"), None, "no part takes it");
        assert_eq!(find(7, "b"), Some(7), "a listener without parts");
    }
}
