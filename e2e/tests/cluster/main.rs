//! The whole, end to end: a real cluster, real packets, a real browser.
//!
//! `cargo verify` runs this, one test at a time: some take the shared cluster
//! apart and see it come back. Tests run in the order of their names.

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
