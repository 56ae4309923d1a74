#![allow(clippy::panic)]

use kube::core::Status;

use super::*;

#[test]
fn a_refusal_is_known_by_its_code_whenever_it_comes() {
    let refusal = || kube::Error::Api(Box::new(Status::failure("no", "Forbidden").with_code(403)));
    for error in [
        watcher::Error::InitialListFailed(refusal()),
        watcher::Error::WatchStartFailed(refusal()),
        watcher::Error::WatchFailed(refusal()),
    ] {
        match ended(&error, false) {
            Ended::Forbidden(text) => assert_eq!(text, "403 no"),
            _ => panic!("{error}"),
        }
    }
}
