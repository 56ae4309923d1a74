//! TLS that is routed by the name that clients ask for, without a look at what is inside.

use foldhash::HashMap;

use super::matches::HostPattern;
use super::table::{Backends, ListenerId};
use crate::plan::{SectionMode, SectionPlan};

/// A TLS route, ready to be used.
pub struct StreamRoute {
    /// Its name.
    pub name: std::sync::Arc<str>,
    /// Who takes its connections.
    pub backends: Backends,
}

/// What a part of a listener does with TLS, and the routes that serve it.
#[derive(Default)]
pub(super) struct Streams {
    /// Listeners with a part that is not HTTP.
    split: Vec<ListenerId>,
    /// By part; parts that are HTTP are not there.
    parts: HashMap<usize, Part>,
    routes: Vec<StreamRoute>,
}

struct Part {
    mode: SectionMode,
    /// Hosts with their route, the most specific first, and among equals the earlier route.
    hosts: Vec<(HostPattern, usize)>,
}

/// A route with what it is found by.
pub(super) struct Found<'plan> {
    pub(super) parts: Vec<ListenerId>,
    pub(super) hosts: &'plan [HostPattern],
    pub(super) route: StreamRoute,
}

impl Streams {
    pub(super) fn build<'plan>(
        sections: &[SectionPlan],
        routes: impl Iterator<Item = Found<'plan>>,
        number: impl Fn(&std::sync::Arc<str>) -> ListenerId,
    ) -> Self {
        let mut streams = Self::default();
        for section in sections.iter().filter(|section| section.mode != SectionMode::Http) {
            streams.split.push(number(&section.listener));
            let part = Part { mode: section.mode, hosts: Vec::new() };
            streams.parts.insert(number(&section.name).0, part);
        }
        for (index, Found { parts, hosts, route }) in routes.enumerate() {
            for id in parts {
                if let Some(part) = streams.parts.get_mut(&id.0) {
                    part.hosts.extend(hosts.iter().map(|host| (host.clone(), index)));
                }
            }
            streams.routes.push(route);
        }
        for part in streams.parts.values_mut() {
            part.hosts.sort_by_key(|(host, _)| match host {
                HostPattern::Exact(_) => 0,
                HostPattern::Suffix(suffix) => usize::MAX - suffix.len(),
            });
        }
        streams
    }

    /// Whether clients of `listener` are to be told apart by name before anybody ends their TLS.
    pub(super) fn split(&self, listener: ListenerId) -> bool {
        !self.split.is_empty() && self.split.contains(&listener)
    }

    /// What happens to TLS for `name` in a part of a listener; `None` if the part is HTTP.
    pub(super) fn find(&self, part: ListenerId, name: &str) -> Option<(SectionMode, Option<&StreamRoute>)> {
        let part = self.parts.get(&part.0)?;
        let found = part.hosts.iter().find(|(host, _)| host.takes(name));
        Some((part.mode, found.and_then(|(_, route)| self.routes.get(*route))))
    }

    pub(super) fn routes(&self) -> &[StreamRoute] {
        &self.routes
    }
}
