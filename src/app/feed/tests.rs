#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use super::*;

/// For what happens at once unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

fn gateway(name: &str) -> String {
    let kind = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n";
    let listener = "{ name: http, port: 8080, protocol: HTTP }";
    format!(
        "{kind}metadata: {{ name: {name} }}\nspec: {{ gatewayClassName: c, addresses: [{{ value: 127.0.0.1 }}], listeners: [{listener}] }}\n"
    )
}

fn limits(body: &str) -> String {
    format!("limits: {{ body: {body} }}\n")
}

/// Whatever it is that has everything loaded again (a change of the file beside the resources, SIGHUP), half a
/// file is not taken for all of it.
#[tokio::test]
async fn what_is_half_written_is_what_it_was_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, beside) = (folder.path().join("manifests/a.yaml"), folder.path().join("base.yaml"));
    fs::create_dir(folder.path().join("manifests")).unwrap();
    fs::write(&manifest, gateway("one")).unwrap();
    fs::write(&beside, limits("1KiB")).unwrap();
    let base = Base::new(Some(beside.clone()), None).unwrap();
    let settings = Settings { any_class: true, ..Settings::default() };
    let place = folder.path().join("manifests");
    let feed = ResourceFeed::manifests(place, base, settings, None, Arc::default());
    let loaded = || {
        let plan = feed.load().plan;
        let names: Vec<_> = plan.listeners.iter().map(|one| one.name.to_string()).collect();
        (names.join(" "), plan.limits.body)
    };
    let changes = feed.watch();
    changes.refresh();
    let one = ("default/one:8080".to_owned(), Some(1024));
    assert_eq!(loaded(), one);

    for file in [&manifest, &beside] {
        let mut writing = File::create(file).unwrap();
        // A comment is all that there is of it, which would be a manifest without objects, and the defaults.
        writing.write_all(b"# to be continued\n").unwrap();
        let seen = async {
            while !changes.are_being_written() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap();
        changes.refresh();
        assert_eq!(loaded(), one);
        let rest = if file == &beside { limits("1KiB") } else { gateway("one") };
        writing.write_all(rest.as_bytes()).unwrap();
        drop(writing);
        tokio::time::timeout(PATIENCE, changes.next()).await.unwrap();
        changes.refresh();
        assert_eq!(loaded(), one);
        assert_eq!(feed.problems(), Vec::<String>::new());
    }
}
