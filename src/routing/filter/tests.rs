#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
}

fn target(text: &str) -> PathAndQuery {
    PathAndQuery::try_from(text).unwrap()
}

#[test]
fn edits_remove_then_set_then_add() {
    let edits = HeaderEdits {
        set: vec![field("x-set", "new"), field("x-removed", "again")],
        add: vec![field("x-add", "second"), field("x-set", "beside"), field("x-add", "third")],
        remove: vec![HeaderName::from_static("x-removed"), HeaderName::from_static("x-absent")],
    };
    let mut headers = HeaderMap::from_iter([
        field("x-set", "old"),
        field("x-set", "older"),
        field("x-add", "first"),
        field("x-removed", "old"),
        field("x-other", "kept"),
    ]);
    edits.apply(&mut headers);
    let values = |name: &str| -> Vec<_> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(values("x-set"), ["new", "beside"]);
    assert_eq!(values("x-add"), ["first", "second", "third"]);
    assert_eq!(values("x-removed"), ["again"]);
    assert_eq!(values("x-other"), ["kept"]);
    assert_eq!(headers.len(), 7);
}

#[test]
fn edits_are_empty_only_without_any() {
    assert!(HeaderEdits::default().is_empty());
    assert!(!HeaderEdits { set: vec![field("a", "b")], ..HeaderEdits::default() }.is_empty());
    assert!(!HeaderEdits { add: vec![field("a", "b")], ..HeaderEdits::default() }.is_empty());
    assert!(!HeaderEdits { remove: vec![HeaderName::from_static("a")], ..HeaderEdits::default() }.is_empty());
}

#[test]
fn fields_of_framing_and_connections_are_refused_in_every_list() {
    for name in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
    ] {
        for edits in [
            HeaderEdits { set: vec![field(name, "x")], ..HeaderEdits::default() },
            HeaderEdits { add: vec![field(name, "x")], ..HeaderEdits::default() },
            HeaderEdits { remove: vec![HeaderName::try_from(name).unwrap()], ..HeaderEdits::default() },
        ] {
            let problems = edits.check();
            assert_eq!(problems.len(), 1, "{name}");
            assert!(problems.iter().all(|problem| problem.contains(name)), "{problems:?}");
        }
    }
}

#[test]
fn ordinary_edits_are_fine_and_too_many_are_not() {
    let mut edits = HeaderEdits {
        set: vec![field("x-env", "shadow")],
        add: vec![field("set-cookie", "a=b")],
        remove: vec![HeaderName::from_static("authorization")],
    };
    assert_eq!(edits.check(), Vec::<String>::new());
    edits.add = vec![field("x-many", "1"); limits::HEADER_EDITS + 1];
    assert_eq!(edits.check(), ["`add` has 1025 entries; at most 1024 are allowed"]);
}

#[test]
fn a_prefix_is_replaced_as_gateway_api_has_it() {
    // The first eleven are the table of HTTPPathModifier.
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/bar", "/", "/xyz/", "/xyz/bar"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/", "/", "", "/"),
        ("/bar", "/", "/", "/bar"),
        ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ("/foo/bar?v=/foo", "/foo", "/xyz", "/xyz/bar?v=/foo"),
        ("/foo?v", "/foo", "", "/?v"),
        ("/foo?", "/foo", "/xyz", "/xyz?"),
        ("/foo/b%20r", "/foo", "/xyz", "/xyz/b%20r"),
        ("*", "/", "/xyz", "*"),
    ] {
        let rewrite = PathRewrite::Prefix(replacement.to_owned());
        let new = rewrite.apply(&target(path), prefix.len()).unwrap();
        assert_eq!(new.as_str(), expected, "{path} {prefix} {replacement}");
        // The index counts a prefix without the slash at its end.
        let new = rewrite.apply(&target(path), prefix.trim_end_matches('/').len()).unwrap();
        assert_eq!(new.as_str(), expected, "{path} {prefix} {replacement}");
    }
}

#[test]
fn the_whole_path_is_replaced_and_the_query_stays() {
    for (path, replacement, expected) in
        [("/a/b", "/x", "/x"), ("/a?b=c", "/x/", "/x/?b=c"), ("/", "/", "/"), ("/a?", "/x", "/x?")]
    {
        let new = PathRewrite::Full(replacement.to_owned()).apply(&target(path), 0).unwrap();
        assert_eq!(new.as_str(), expected, "{path} {replacement}");
    }
}

#[test]
fn a_target_that_grows_too_long_is_an_error() {
    let path = target(&format!("/{}", "a".repeat(65_000)));
    let rewrite = PathRewrite::Prefix(format!("/{}", "b".repeat(1000)));
    assert!(matches!(rewrite.apply(&path, 0), Err(RewriteError::Path(_))));
}

#[test]
fn rewrites_are_checked() {
    for (rewrite, good) in [
        (PathRewrite::Prefix(String::new()), true),
        (PathRewrite::Prefix("/".to_owned()), true),
        (PathRewrite::Prefix("/a/b/".to_owned()), true),
        (PathRewrite::Prefix("a".to_owned()), false),
        (PathRewrite::Full("/a".to_owned()), true),
        (PathRewrite::Full(String::new()), false),
        (PathRewrite::Full("/a?b".to_owned()), false),
        (PathRewrite::Full("/a#b".to_owned()), false),
        (PathRewrite::Full("/a b".to_owned()), false),
        (PathRewrite::Full("//host".to_owned()), true),
    ] {
        assert_eq!(rewrite.check().is_none(), good, "{rewrite:?}: {:?}", rewrite.check());
    }
}

#[test]
fn a_location_has_a_port_only_if_its_scheme_does_not_imply_it() {
    let redirect = |scheme, port| Redirect {
        scheme,
        host: None,
        port,
        path: None,
        status: StatusCode::MOVED_PERMANENTLY,
    };
    for (redirect, scheme, listener, expected) in [
        (redirect(None, None), "http", 80, "http://a.test/p?q"),
        (redirect(None, None), "http", 8080, "http://a.test:8080/p?q"),
        (redirect(None, None), "https", 443, "https://a.test/p?q"),
        (redirect(None, None), "https", 8443, "https://a.test:8443/p?q"),
        (redirect(None, None), "http", 443, "http://a.test:443/p?q"),
        (redirect(Some("https"), None), "http", 8080, "https://a.test/p?q"),
        (redirect(Some("http"), None), "https", 8443, "http://a.test/p?q"),
        (redirect(Some("https"), Some(443)), "http", 80, "https://a.test/p?q"),
        (redirect(Some("https"), Some(80)), "http", 80, "https://a.test:80/p?q"),
        (redirect(Some("https"), Some(8443)), "http", 80, "https://a.test:8443/p?q"),
        (redirect(None, Some(80)), "http", 8080, "http://a.test/p?q"),
        (redirect(None, Some(80)), "https", 8443, "https://a.test:80/p?q"),
        (redirect(None, Some(8080)), "http", 80, "http://a.test:8080/p?q"),
    ] {
        let location = redirect.location(scheme, "a.test", listener, &target("/p?q"), 0).unwrap();
        assert_eq!(location, expected, "{redirect:?}");
    }
}

#[test]
fn a_location_takes_host_and_path_from_the_redirect_or_the_request() {
    let redirect = |host: Option<&str>, path| Redirect {
        scheme: None,
        host: host.map(str::to_owned),
        port: None,
        path,
        status: StatusCode::FOUND,
    };
    let prefix = |path: &str| Some(PathRewrite::Prefix(path.to_owned()));
    let full = |path: &str| Some(PathRewrite::Full(path.to_owned()));
    for (redirect, path, expected) in [
        (redirect(None, None), "/foo/bar?q=1", "http://a.test/foo/bar?q=1"),
        (redirect(Some("b.test"), None), "/foo/bar?q=1", "http://b.test/foo/bar?q=1"),
        (redirect(None, prefix("/xyz")), "/foo/bar?q=1", "http://a.test/xyz/bar?q=1"),
        (redirect(None, prefix("")), "/foo", "http://a.test/"),
        (redirect(Some("b.test"), full("/x")), "/foo/bar?q=1", "http://b.test/x?q=1"),
        (redirect(Some("[::1]"), None), "/", "http://[::1]/"),
        // Behind an authority two slashes cannot name another host.
        (redirect(None, prefix("")), "/foo//evil.test", "http://a.test//evil.test"),
        (redirect(None, None), "*", "http://a.test/"),
    ] {
        let location = redirect.location("http", "a.test", 80, &target(path), "/foo".len()).unwrap();
        assert_eq!(location, expected, "{redirect:?}");
    }
    let error = redirect(None, None).location("http", "a\r\nb", 80, &target("/"), 0);
    assert!(matches!(error, Err(RewriteError::Location(_))));
}
