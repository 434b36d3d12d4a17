//! The whole, end to end: a real cluster, real packets, a real browser.
//!
//! `cargo verify` runs this in two halves side by side, each on a cluster of its own
//! and one test at a time in the order of their names: some take their cluster apart
//! and see it come back. `f_traces` has the machine for itself, after them.

// Tests end by panicking.
#![allow(clippy::unwrap_used)]

mod a_cluster;
mod b_app;
mod b_cloud;
mod b_desktop;
mod b_tenancy;
mod c_recovery;
mod c_roles;
mod c_traffic;
mod d_interruption;
mod e_refusals;
mod f_traces;
