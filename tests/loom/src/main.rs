//! What threads of the gateway share and race for, in every order that the memory model allows.
//!
//! The files are those of the gateway; only their atomics are loom's. A model that fails panics with the
//! order of events.

#![allow(dead_code)]

#[path = "../../../src/limits.rs"]
mod limits;
#[path = "../../../src/memory.rs"]
mod memory;

mod sync {
    pub(crate) use loom::sync::atomic;
}

mod mirror {
    #[path = "../../../../src/mirror/breaker.rs"]
    pub(crate) mod breaker;
    #[path = "../../../../src/mirror/meeting.rs"]
    pub(crate) mod meeting;
    #[path = "../../../../src/mirror/outcome.rs"]
    pub(crate) mod outcome;
    #[path = "../../../../src/mirror/rate.rs"]
    pub(crate) mod rate;
    #[path = "../../../../src/mirror/slots.rs"]
    pub(crate) mod slots;

    pub(crate) mod models;
}

fn main() {
    let models: [(&str, fn()); 8] = [
        ("a breaker that opens lets no probe through before its time", mirror::models::opening),
        ("an open breaker has one probe at a time", mirror::models::one_probe),
        ("a breaker is never stuck", mirror::models::never_stuck),
        ("a rate admits no more than it has", mirror::models::rate),
        ("no more places are taken than there are", mirror::models::slots),
        ("of two that meet one learns of the other", mirror::models::meeting),
        ("accounts stay within their bounds and end at zero", mirror::models::accounts),
        ("a charge is given back wherever it is dropped", mirror::models::given_back),
    ];
    for (law, model) in models {
        loom::model(model);
        println!("ok {law}");
    }
    println!("{} passed, 0 failed", models.len());
}
