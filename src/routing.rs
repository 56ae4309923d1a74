//! The compiled table: which route takes a request, and what it does with it.

pub mod cors;
pub mod filter;
pub mod index;
pub mod matches;
pub mod query;
pub mod sections;
pub mod streams;
pub mod table;

pub use table::RoutingTable;
