//! Front as its clients and the API server meet it: over TLS, on real sockets.

#![allow(clippy::unwrap_used)]

mod headers;
mod namespaces;
mod streams;
mod world;
