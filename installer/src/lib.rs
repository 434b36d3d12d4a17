//! installer
pub mod image;
pub mod progress;
