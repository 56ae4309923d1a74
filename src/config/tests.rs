#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! What a configuration file is taken for, and what is said about wrong ones.

mod errors;
mod examples;
mod meaning;
mod robust;
