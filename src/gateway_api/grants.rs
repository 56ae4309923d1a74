//! Whether one namespace lets another refer to what is in it.

use super::GROUP;
use super::resources::{Key, Resources};

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    /// Kind in Gateway API's group.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Whether `from` may refer to the object `to` of `kind` in `group`. What is in one namespace always may.
pub fn permits(resources: &Resources, from: From<'_>, group: &str, kind: &str, to: &Key) -> bool {
    from.namespace == to.namespace
        || resources.grants.iter().filter(|(key, _)| key.namespace == to.namespace).any(|(_, grant)| {
            let trusted =
                grant.spec.from.iter().any(|one| {
                    one.group == GROUP && one.kind == from.kind && one.namespace == from.namespace
                });
            let opened = grant.spec.to.iter().any(|one| {
                one.group == group
                    && one.kind == kind
                    && one.name.as_ref().is_none_or(|name| name.is_empty() || *name == to.name)
            });
            trusted && opened
        })
}
