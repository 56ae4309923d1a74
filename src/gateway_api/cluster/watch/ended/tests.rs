#![allow(clippy::panic)]

use kube::core::Status;

use super::*;

#[test]
fn a_refusal_is_known_by_its_code_whenever_it_comes() {
    for code in [403, 404] {
        let refusal = || kube::Error::Api(Box::new(Status::failure("no", "").with_code(code)));
        for error in [
            watcher::Error::InitialListFailed(refusal()),
            watcher::Error::WatchStartFailed(refusal()),
            watcher::Error::WatchFailed(refusal()),
        ] {
            match ended(&error, false) {
                Ended::Refused(text) => assert_eq!(text, format!("{code} no")),
                _ => panic!("{error}"),
            }
        }
    }
}
