//! Settings that mean nothing and are ignored, but never in silence: whatever they are settings of goes on
//! being served, and the log, `check` and the conditions of routes say so. Pure.

use std::collections::BTreeSet;

use super::status::{Condition, first_lines};
use crate::limits;

/// The type of the condition of a route that such settings are about.
pub const SETTINGS_IGNORED: &str = "mirrorgate.dev/SettingsIgnored";

/// A setting that is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// What it is called.
    pub setting: String,
    /// What it says.
    pub value: String,
    /// What to write instead.
    pub hint: String,
}

impl Ignored {
    pub(super) fn new(setting: impl Into<String>, value: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: value.into(), hint: hint.into() }
    }

    /// A line for people about this setting of `object`.
    pub(super) fn of(&self, object: &str) -> String {
        let mut value: String = self.value.chars().take(limits::IGNORED_VALUE).collect();
        if value.len() < self.value.len() {
            value.push('…');
        }
        format!("{object}: {} {value:?} is ignored; hint: {}", self.setting, self.hint)
    }
}

/// The condition that tells of `ignored`, if there is something to tell.
pub(super) fn condition(ignored: &BTreeSet<String>) -> Option<Condition> {
    let message = first_lines(ignored.iter());
    let condition = Condition { message, ..Condition::yes(SETTINGS_IGNORED, "UnsupportedValue") };
    Some(condition).filter(|_| !ignored.is_empty())
}
