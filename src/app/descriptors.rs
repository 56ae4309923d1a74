//! As many file descriptors as the system lets this process have.
//!
//! The usual soft limit of 1,024 is there for programs that call `select(2)`; a proxy that stays below
//! it refuses clients long before anything else is scarce. Called by [`super::run`] alone: a program
//! around the gateway has its own mind about its limits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(current, maximum, %error, "the limit of file descriptors stays as it is");
    }
}
