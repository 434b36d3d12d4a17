//! Quotas that workspaces share.

mod exact;
mod kinds;
