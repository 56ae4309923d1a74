#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod authorities;
mod conformance;
mod ignored;
mod property;
mod translation;

use std::path::Path;

use super::listeners::Addresses;
use super::manifests::Manifests;
use super::translate::{Settings, Translation, translate};

/// Reads manifests, all of which must be readable.
fn read(text: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.add(Path::new("test.yaml"), text);
    assert_eq!(manifests.problems, []);
    manifests
}

fn translated(manifests: &Manifests) -> Translation {
    let settings = Settings { any_class: true, ..Settings::default() };
    translate(&manifests.resources, &settings, &mut Addresses::default())
}
