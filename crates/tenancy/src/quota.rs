//! Quota that several workspaces share, exact under concurrency.
//!
//! A [`SharedQuota`](api::SharedQuota) is a book that everybody writes by
//! compare-and-swap. Before an object is stored, [`gate`] enters what it will use as
//! reserved; it grants that only while used and reserved together stay within the
//! limit. Once the object is there, [`keeper`] moves its amount over to what is used,
//! and takes it away when the object is gone. So at any moment the book holds at
//! least what is stored, and it is never late about what is free by more than the
//! keeper's watch.
//!
//! [`book`] decides, [`charge`] says what an object uses, [`index`] knows the objects
//! that are there: these are pure.

pub mod amount;
pub mod book;
pub mod charge;
pub mod cover;
pub mod expression;
pub mod gate;
pub mod index;
pub mod keeper;
