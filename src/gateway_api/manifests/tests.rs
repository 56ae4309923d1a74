#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ ports: [{{ port: {port} }}] }}\n"
    )
}

fn slice(name: &str, host: u8) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{ name: {name}, labels: {{ kubernetes.io/service-name: of-{name} }} }}\naddressType: IPv4\nendpoints: [{{ addresses: [10.0.0.{host}] }}]\n"
    )
}

#[test]
fn endpoints_of_a_file_that_cannot_be_read_any_more_are_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = LastGood::new();
    let mut doubt = |text: &str| {
        fs::write(folder.path().join("a.yaml"), text).unwrap();
        load_again(folder.path(), &mut last, |_| false).doubt.map(|doubt| doubt.why)
    };
    assert_eq!(doubt(&service("a", 1)), None);
    assert_eq!(doubt("kind: ["), None, "there were none");
    assert_eq!(doubt(&slice("s", 1)), None);
    assert!(doubt("kind: [").unwrap().contains("a.yaml:1"));
    assert_eq!(doubt(&slice("s", 1)), None);
}

/// Services with their ports, slices with their addresses, and how many problems there are.
fn read(path: &Path, last: &mut LastGood) -> (Vec<String>, usize) {
    let read = load_again(path, last, |_| false);
    let port = |service: &k8s_openapi::api::core::v1::Service| {
        service.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first().map(|port| port.port)).unwrap()
    };
    let services = read.resources.services.iter().map(|(key, one)| format!("{}:{}", key.name, port(one)));
    let slices = read.slices.iter().map(|one| {
        let name = one.metadata.name.as_deref().unwrap();
        format!("{name}={}", one.endpoints.first().unwrap().addresses.first().unwrap())
    });
    (services.chain(slices).collect(), read.problems.len())
}

#[test]
fn what_cannot_be_read_keeps_what_was_good_and_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut last = LastGood::new();
    let mut found = || {
        let (found, problems) = read(folder.path(), &mut last);
        (found.join(" "), problems)
    };
    fs::create_dir(at("deep")).unwrap();
    fs::write(at("a.yaml"), service("a", 1)).unwrap();
    fs::write(
        at("deep/b.yaml"),
        format!("{}---\n{}---\n{}", service("b", 1), service("c", 1), slice("s", 1)),
    )
    .unwrap();
    let all = "a:1 b:1 c:1 s=10.0.0.1";
    assert_eq!(found(), (all.to_owned(), 0));

    // One document of a file: the others of it are what they are now.
    let half = format!("kind: [\n---\n{}---\n{}", service("c", 2), slice("s", 2));
    fs::write(at("deep/b.yaml"), &half).unwrap();
    for _ in 0..2 {
        assert_eq!(found(), ("a:1 b:1 c:2 s=10.0.0.2".to_owned(), 1));
    }
    // What went elsewhere is what it is there, although that is read first.
    fs::write(at("a.yaml"), format!("{}---\n{}", service("a", 1), service("b", 7))).unwrap();
    assert_eq!(found(), ("a:1 b:7 c:2 s=10.0.0.2".to_owned(), 1));
    // Whole again: what is not in it is gone.
    fs::write(at("a.yaml"), service("a", 1)).unwrap();
    fs::write(at("deep/b.yaml"), slice("s", 3)).unwrap();
    assert_eq!(found(), ("a:1 s=10.0.0.3".to_owned(), 0));

    // A link that leads nowhere, beside files that are read before and after it.
    fs::remove_file(at("a.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("a.yaml")).unwrap();
    fs::write(at("z.yaml"), service("z", 1)).unwrap();
    assert_eq!(found(), ("a:1 z:1 s=10.0.0.3".to_owned(), 1));
    fs::remove_file(at("a.yaml")).unwrap();
    assert_eq!(found(), ("z:1 s=10.0.0.3".to_owned(), 0));
    // A folder that is gone is gone; that of all is away.
    fs::remove_dir_all(at("deep")).unwrap();
    assert_eq!(found(), ("z:1".to_owned(), 0));
    let away = tempfile::tempdir().unwrap();
    fs::rename(folder.path(), away.path().join("folder")).unwrap();
    assert_eq!(found(), ("z:1".to_owned(), 1));
    fs::rename(away.path().join("folder"), folder.path()).unwrap();
    assert_eq!(found(), ("z:1".to_owned(), 0));
    // What says that there is nothing is obeyed.
    fs::write(at("z.yaml"), "").unwrap();
    assert_eq!(found(), (String::new(), 0));
}

#[test]
fn endpoints_that_are_kept_are_as_old_as_the_reading_that_they_are_from() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let mut last = LastGood::new();
    let mut load = |written: Option<&str>| {
        let begun = Instant::now();
        let read = load_again(folder.path(), &mut last, |file| {
            written.is_some_and(|name| file.file_name().is_some_and(|found| found == name))
        });
        let kept = read.doubt.map_or_else(HashMap::new, |doubt| doubt.kept);
        let mut kept: Vec<_> = kept.into_iter().map(|((_, service), since)| (service, since)).collect();
        kept.sort();
        (kept, read.slices.len(), begun)
    };
    write("a.yaml", format!("{}---\n{}", slice("s", 1), slice("t", 1)));
    write("b.yaml", slice("u", 1));
    assert_eq!(load(None).0, []);
    // The last good reading counts, however often it was good before and however often it is looked at since.
    let (_, _, begun) = load(None);
    write("a.yaml", "kind: [".to_owned());
    let (kept, slices, ended) = load(None);
    let names =
        |kept: &[(Arc<str>, Instant)]| kept.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&kept), slices), (vec!["of-s".to_owned(), "of-t".to_owned()], 3));
    assert!(kept.iter().all(|(_, since)| (begun..ended).contains(since)), "{kept:?}");
    assert_eq!(load(None).0, kept);
    // What can be read of the file is as it is now.
    write("a.yaml", format!("kind: [\n---\n{}", slice("t", 2)));
    assert_eq!(load(None).0, kept[..1]);
    // One that somebody writes to is not looked into.
    write("a.yaml", format!("{}---\n{}", slice("s", 1), slice("t", 1)));
    write("b.yaml", String::new());
    let (kept, slices, _) = load(Some("b.yaml"));
    assert_eq!((names(&kept), slices), (vec!["of-u".to_owned()], 3));
    let (kept, slices, _) = load(None);
    assert_eq!((kept.len(), slices), (0, 2));
}

#[test]
fn fields_that_nobody_knows_are_told_and_the_object_is_used() {
    let mut read = Manifests::default();
    let route = |mirror: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: r }}\nspec:\n  rules:\n  - name: ~\n    filters:\n    - type: RequestMirror\n      requestMirror: {{ {mirror} }}\n"
        )
    };
    let fine = "backendRef: { name: b, port: 80 }, percent: 10";
    read.add(Path::new("a.yaml"), &route(fine));
    // What kinds of the core have beyond what is known here is of no concern.
    let newer = service("b", 1).replace("ports:", "newer: 1, ports:");
    read.add(Path::new("a.yaml"), &newer);
    assert_eq!(read.warnings, []);
    let mistaken = "backendRef: { name: b, port: 80, prot: 1 }, percnt: 10";
    let mut read = Manifests::default();
    read.add(Path::new("a.yaml"), &format!("{newer}---\n{}", route(mistaken)));
    read.add(Path::new("b.yaml"), "apiVersion: mirrorgate.dev/v1alpha1\nkind: MirrorPolicy\nmetadata: { name: p }\nspec: { targetRef: { kind: HTTPRoute, name: r }, budgets: {} }\n");
    let told: Vec<_> = read.warnings.iter().map(ToString::to_string).collect();
    let mirror = "HTTPRoute r: the field spec.rules[0].filters[0].requestMirror";
    let ignored = "is not known and ignored; hint: look for a typing mistake";
    assert_eq!(
        told,
        [
            format!("a.yaml:6: {mirror}.backendRef.prot {ignored}"),
            format!("a.yaml:6: {mirror}.percnt {ignored}"),
            format!("b.yaml:1: MirrorPolicy p: the field spec.budgets {ignored}"),
        ]
    );
    assert_eq!(
        (read.problems.len(), read.resources.http_routes.len(), read.resources.mirror_policies.len()),
        (0, 1, 1)
    );
}

#[test]
fn an_object_that_stands_there_twice_is_told_with_both_places_and_the_last_one_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let elsewhere = service("a", 7).replace("name: a", "name: a, namespace: other");
    let list = format!(
        "kind: List\napiVersion: v1\nitems: [{}]\n",
        r#"{ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 3 }] } }"#
    );
    fs::write(at("a.yaml"), format!("{}---\n{}---\n{elsewhere}", slice("s", 1), service("a", 1))).unwrap();
    fs::write(at("b.yaml"), format!("{}---\n{list}", slice("s", 2))).unwrap();
    let read = load(folder.path());
    let told: Vec<_> = read.warnings.iter().map(ToString::to_string).collect();
    let twice = |file: &str, what: &str, other: &str| {
        let [file, other] = [file, other].map(|place| at(place).display().to_string());
        format!("{file}: {what} stands in {other} as well, and this one is used; hint: keep one of them")
    };
    assert_eq!(
        told,
        [
            twice("b.yaml:1", "EndpointSlice default/s", "a.yaml:1"),
            twice("b.yaml:7", "Service default/a", "a.yaml:7"),
        ]
    );
    let (found, problems) = self::read(folder.path(), &mut LastGood::new());
    assert_eq!((found.join(" ").as_str(), problems), ("a:3 a:7 s=10.0.0.2", 0));
}
