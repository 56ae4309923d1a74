//! Where endpoints come from: *source → update → resolver → endpoint set → registry → backend*.

pub mod source;
