//! The mirror: who gets a copy, and what becomes of it.

pub mod outcome;
