#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::discovery::DnsSettings;
use crate::discovery::source::SourceSpec;
use crate::discovery::tests::{PATIENCE, Running, addresses, until_addresses, until_error};
use crate::upstream::registry::BackendRef;

struct Watching {
    _running: Running,
    directory: TempDir,
    backend: BackendRef,
}

/// A backend whose file is `name` in a new directory, prepared by `prepare`.
fn watching(name: &str, prepare: impl Fn(&TempDir)) -> Watching {
    let directory = tempfile::tempdir().unwrap();
    prepare(&directory);
    let running = Running::start(DnsSettings::default());
    let backend = running.backend("app", SourceSpec::File(directory.path().join(name)));
    Watching { _running: running, directory, backend }
}

fn replace(directory: &TempDir, name: &str, text: &str) {
    let temporary = directory.path().join("temporary");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, directory.path().join(name)).unwrap();
}

fn text(port: u16) -> String {
    format!("127.0.0.1:{port}\nend\n")
}

#[tokio::test]
async fn a_file_replaced_by_rename_is_published_each_time() {
    let watching = watching("endpoints", |directory| replace(directory, "endpoints", &text(1)));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    for port in 2..30 {
        replace(&watching.directory, "endpoints", &text(port));
        until_addresses(&watching.backend, &[&format!("127.0.0.1:{port}")]).await;
    }
    assert_eq!(watching.backend.endpoints().generation(), 29);
}

#[tokio::test]
async fn a_configuration_map_swapped_by_its_link_is_seen() {
    let version = |directory: &TempDir, number: u16| {
        let name = format!("..version-{number}");
        fs::create_dir(directory.path().join(&name)).unwrap();
        fs::write(directory.path().join(&name).join("endpoints"), text(number)).unwrap();
        symlink(&name, directory.path().join("..data_tmp")).unwrap();
        fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    };
    let watching = watching("endpoints", |directory| {
        version(directory, 1);
        symlink("..data/endpoints", directory.path().join("endpoints")).unwrap();
    });
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    for number in 2..10 {
        version(&watching.directory, number);
        until_addresses(&watching.backend, &[&format!("127.0.0.1:{number}")]).await;
        fs::remove_dir_all(watching.directory.path().join(format!("..version-{}", number - 1))).unwrap();
    }
    assert_eq!(watching.backend.endpoints().generation(), 9);
}

#[tokio::test]
async fn a_directory_swapped_by_its_link_is_seen() {
    let version = |directory: &TempDir, number: u16| {
        let name = format!("release-{number}");
        fs::create_dir(directory.path().join(&name)).unwrap();
        fs::write(directory.path().join(&name).join("endpoints"), text(number)).unwrap();
        symlink(&name, directory.path().join("next")).unwrap();
        fs::rename(directory.path().join("next"), directory.path().join("current")).unwrap();
    };
    let watching = watching("current/endpoints", |directory| version(directory, 1));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    for number in 2..6 {
        version(&watching.directory, number);
        until_addresses(&watching.backend, &[&format!("127.0.0.1:{number}")]).await;
    }
}

#[tokio::test]
async fn a_truncated_half_written_or_invalid_file_keeps_the_last_good_set() {
    let watching = watching("endpoints", |directory| replace(directory, "endpoints", &text(1)));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    let path = watching.directory.path().join("endpoints");
    let confirmed = watching.backend.freshness().confirmed;
    fs::write(&path, "").unwrap();
    until_error(&watching.backend, "not complete").await;
    fs::write(&path, "127.0.0.1:2\n127.0").unwrap();
    fs::write(&path, "nonsense\nend\n").unwrap();
    until_error(&watching.backend, "nonsense").await;
    assert_eq!(addresses(&watching.backend), ["127.0.0.1:1"]);
    assert_eq!(watching.backend.freshness().confirmed, confirmed, "its age grows");
    fs::write(&path, text(2)).unwrap();
    until_addresses(&watching.backend, &["127.0.0.1:2"]).await;
    assert_eq!(watching.backend.freshness().last_error, None);
}

/// Half of a list may well be a list: that it is not all shows in that its writer has not closed it.
#[tokio::test]
async fn a_file_is_not_read_while_somebody_writes_it() {
    let watching = watching("endpoints", |directory| replace(directory, "endpoints", &text(1)));
    let path = watching.directory.path().join("endpoints");
    let mut source = FileSource::open(
        path.clone(),
        |text| Ok(vec![EndpointSpec::new(SocketAddr::from(([127, 0, 0, 1], text.lines().count() as u16)))]),
        &FileWatch::default(),
    );
    assert_eq!(lines(source.ask().await), "127.0.0.1:2");
    let mut writing = File::create(&path).unwrap();
    writing.write_all(b"1\n2\n3\n").unwrap();
    let seen = timeout(PATIENCE, async {
        while !source.watched.is_being_written() {
            tokio::task::yield_now().await;
        }
    });
    seen.await.expect("the watcher tells of it");
    // Such as a periodic look, which comes at any time.
    let answer = source.ask().await;
    assert!(matches!(answer.update, Update::Failed(error) if error.to_string().contains("being written")));
    writing.write_all(b"4\n5\n").unwrap();
    drop(writing);
    timeout(PATIENCE, source.changed()).await.expect("that it is closed is told");
    assert_eq!(lines(source.ask().await), "127.0.0.1:5");
    // And one that is never closed is read as it is in the end.
    let mut kept = File::create(&path).unwrap();
    kept.write_all(text(4).as_bytes()).unwrap();
    until_addresses(&watching.backend, &["127.0.0.1:4"]).await;
}

/// The address in an answer that has one for as many lines as were read.
fn lines(answer: Answer) -> String {
    match answer.update {
        Update::Full(set) => set[0].address.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_file_is_a_failure_until_it_appears() {
    let watching = watching("endpoints", |_| {});
    until_error(&watching.backend, "No such file").await;
    assert_eq!(watching.backend.endpoints().generation(), 0);
    replace(&watching.directory, "endpoints", &text(1));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    fs::remove_file(watching.directory.path().join("endpoints")).unwrap();
    until_error(&watching.backend, "No such file").await;
    assert_eq!(addresses(&watching.backend), ["127.0.0.1:1"]);
    replace(&watching.directory, "endpoints", &text(1));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    assert_eq!(watching.backend.endpoints().generation(), 1, "the same set is not another one");
}

#[tokio::test]
async fn a_missing_directory_is_watched_once_it_appears() {
    let watching = watching("later/endpoints", |_| {});
    until_error(&watching.backend, "No such file").await;
    fs::create_dir(watching.directory.path().join("later")).unwrap();
    replace(&watching.directory, "later/endpoints", &text(1));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    replace(&watching.directory, "later/endpoints", &text(2));
    until_addresses(&watching.backend, &["127.0.0.1:2"]).await;
}

#[tokio::test]
async fn an_empty_list_is_obeyed() {
    let watching = watching("endpoints", |directory| replace(directory, "endpoints", &text(1)));
    until_addresses(&watching.backend, &["127.0.0.1:1"]).await;
    replace(&watching.directory, "endpoints", "end\n");
    until_addresses(&watching.backend, &[]).await;
}

#[tokio::test]
async fn one_of_many_files_in_a_directory_changes_alone() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(DnsSettings::default());
    let backends: Vec<_> = (0..20)
        .map(|number| {
            replace(&directory, &format!("endpoints-{number}"), &text(1));
            let path = directory.path().join(format!("endpoints-{number}"));
            running.backend(&format!("app-{number}"), SourceSpec::File(path))
        })
        .collect();
    for backend in &backends {
        until_addresses(backend, &["127.0.0.1:1"]).await;
    }
    drop(running.backend("app-3", SourceSpec::Static(Vec::new())));
    until_addresses(&backends[3], &[]).await;
    replace(&directory, "endpoints-7", &text(2));
    until_addresses(&backends[7], &["127.0.0.1:2"]).await;
    let others = backends.iter().enumerate().filter(|(number, _)| ![3, 7].contains(number));
    for (_, backend) in others {
        assert_eq!(backend.endpoints().generation(), 1);
    }
}

/// Without a resolver there is no periodic look: only the watcher can tell.
#[tokio::test]
async fn every_way_of_replacing_a_file_is_hinted_by_the_watcher() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["release-1", "release-2"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("endpoints"), text(1)).unwrap();
    }
    symlink("release-1", at("current")).unwrap();
    symlink("current/endpoints", at("link")).unwrap();
    replace(&directory, "plain", &text(1));
    let swap = || {
        symlink("release-2", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
    };
    let ways: [(&str, &dyn Fn()); 5] = [
        ("plain", &|| replace(&directory, "plain", &text(2))),
        ("plain", &|| fs::write(at("plain"), text(3)).unwrap()),
        ("link", &|| fs::write(at("release-1/endpoints"), text(4)).unwrap()),
        ("link", &swap),
        ("current/endpoints", &swap),
    ];
    for (name, way) in ways {
        let watched = FileWatch::default().file(at(name));
        watched.refresh().unwrap();
        assert_eq!(watched.take(), None);
        let begun = Instant::now();
        way();
        let seen = timeout(PATIENCE, watched.changed()).await.expect(name);
        assert!(seen >= begun);
        fs::read(at(name)).unwrap();
    }
}
