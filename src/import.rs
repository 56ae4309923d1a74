//! Routes for what other proxies were told: Ingresses with the mirror annotations of ingress-nginx
//! become Gateway API resources, nginx configurations with `mirror` become a configuration of ours.
//!
//! Whatever is not carried over is said with its place, never passed over: a route that quietly does
//! less than the one that it replaces is worse than none. Nothing here is read by a running gateway.

mod ingress;
mod nginx;
mod yaml;

use std::fmt;
use std::path::Path;

use crate::gateway_api::manifests;
use crate::gateway_api::resources::Key;

/// What was made of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// YAML to be run.
    pub text: String,
    /// What it does not say.
    pub notes: Vec<Note>,
}

/// Something that was not carried over, or was with a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it stands: a line, or an object.
    pub place: String,
    /// What it is, and what to do about it.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

impl Import {
    fn note(&mut self, place: impl fmt::Display, message: impl Into<String>) {
        let note = Note { place: place.to_string(), message: message.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Reads Ingresses, a file or a folder of them, or an nginx configuration, from `path`; routes of
/// Ingresses attach to `gateway`. Blocks.
///
/// # Errors
/// It cannot be read, or has nothing to be imported.
pub fn import(path: &Path, gateway: &Key) -> Result<Import, String> {
    let told = |error: String| format!("{}: {error}", path.display());
    if manifests::are_at(path) {
        return ingress::import(path, gateway);
    }
    nginx::import(path).map_err(told)
}

#[cfg(test)]
mod tests;
