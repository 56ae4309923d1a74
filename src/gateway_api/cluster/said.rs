//! Errors of the API server and on the way to it, in words for people: kube's own show the structs behind them.

use kube::core::Status;

/// What it says.
pub(super) fn by_error(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => by_status(status),
        // Only a frame around what is said below it.
        kube::Error::Service(error) => by_chain(&**error),
        error => by_chain(error),
    }
}

/// The code, and what stands with it.
pub(super) fn by_status(status: &Status) -> String {
    format!("{} {}", status.code, status.message.trim_end())
}

/// What an error says, and what the errors below it add.
pub(super) fn by_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_without_the_structs_behind_them() {
        let status = Status::failure("leases is forbidden\n", "Forbidden").with_code(403);
        assert_eq!(by_error(&kube::Error::Api(status.boxed())), "403 leases is forbidden");
        let refused = std::io::Error::other("Connection refused");
        assert_eq!(by_error(&kube::Error::Service(Box::new(refused))), "Connection refused");
    }
}
