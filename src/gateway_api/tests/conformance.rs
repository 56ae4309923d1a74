//! Every official conformance manifest, through reading and translation. What becomes of each of them
//! is checked in `tests/it/gateway_api`, where the suite's Secrets are.
//!
//! They are not part of this repository: where the folder is not there, that is said.

use std::path::PathBuf;

use super::super::listeners::{AddressPool, Addresses};
use super::super::manifests::Manifests;
use super::super::model;
use super::super::refs::for_each_backend;
use super::super::translate::{Settings, Translation, translate};
use crate::plan::RouteAction;

fn folder() -> Option<PathBuf> {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1).find_map(|up| {
        let folder = up.join("shared/gateway-api/conformance");
        folder.is_dir().then_some(folder)
    });
    if found.is_none() {
        eprintln!("skipped: the conformance manifests are not on this machine");
    }
    found
}

/// The manifests of one test, with those that all tests use.
fn manifests(folder: &std::path::Path, name: &str) -> Manifests {
    let mut manifests = Manifests::default();
    for file in [folder.join("base.yaml"), folder.join("tests").join(name)] {
        let text = std::fs::read_to_string(&file).unwrap();
        manifests.add(&file, &text.replace("{GATEWAY_CLASS_NAME}", "mirrorgate"));
    }
    manifests
}

fn translated(manifests: &Manifests) -> Translation {
    let settings = Settings { any_class: true, ..Settings::default() };
    let pool: AddressPool = "10.0.0.1-10.0.0.99".parse().unwrap();
    translate(&manifests.resources, &settings, &mut Addresses::new(Some(pool)))
}

#[test]
fn every_manifest_is_read_and_translated() {
    let Some(folder) = folder() else { return };
    let mut names: Vec<_> = folder
        .join("tests")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 100, "{} manifests", names.len());
    for name in names {
        let manifests = manifests(&folder, &name);
        assert_eq!(manifests.problems, [], "{name}");
        assert_eq!(manifests.warnings, [], "{name}");
        let translation = translated(&manifests);
        assert_eq!(translation, translated(&manifests), "{name}: the same resources mean the same");
        // Whatever a plan names is there, or is nothing at all; and what is there is named.
        let backends: Vec<_> = translation.backends.iter().map(|spec| spec.name.clone()).collect();
        for route in &translation.routes {
            let RouteAction::Forward(choices) = &route.action else { continue };
            let primaries = choices.iter().map(|choice| &choice.backend).filter(|name| !name.is_empty());
            let mirrors = choices.iter().flat_map(|choice| &choice.mirrors).chain(&route.mirrors);
            for named in primaries.chain(mirrors.map(|mirror| &mirror.backend)) {
                assert!(backends.contains(named), "{name}: {} names {named}", route.name);
            }
        }
        // The walker finds every reference that the text has.
        let mut walked = 0;
        for route in model::routes(&manifests.resources) {
            for_each_backend(&route, |_, _| walked += 1);
        }
        assert_eq!(walked, references(&manifests), "{name}");
        if std::env::var_os("MIRRORGATE_SHOW").is_some_and(|shown| shown == *name) {
            eprintln!("{}\n{:#?}", translation.statuses, translation.routes);
        }
    }
}

/// Counts references to backends in the raw objects, knowing nothing of their types.
fn references(manifests: &Manifests) -> usize {
    fn count(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| {
                    let own = match (key.as_str(), value) {
                        ("backendRefs", serde_json::Value::Array(items)) => items.len(),
                        ("backendRef", _) => 1,
                        _ => 0,
                    };
                    own + count(value)
                })
                .sum(),
            serde_json::Value::Array(items) => items.iter().map(count).sum(),
            _ => 0,
        }
    }
    let resources = &manifests.resources;
    let http = resources.http_routes.values().map(|route| serde_json::to_value(&route.spec).unwrap());
    let grpc = resources.grpc_routes.values().map(|route| serde_json::to_value(&route.spec).unwrap());
    let tls = resources.tls_routes.values().map(|route| serde_json::to_value(&route.spec).unwrap());
    http.chain(grpc).chain(tls).map(|spec| count(&spec)).sum()
}
