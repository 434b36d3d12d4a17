//! Attacks of tenants on each other and on the cloud, each named for what it tries.
//! Each is refused for the reason it should be, and succeeds when what protects
//! against it is taken away: so none passes because something else was wrong.

mod attack;
mod defaults;
mod hierarchy;
mod life;
mod peering;
mod people;
mod pods;
mod propagation;
mod quota;
mod rights;
mod services;
mod sweep;
mod volumes;

/// The world of these tests goes last.
#[test]
fn zz_everybody_leaves() {
    attack::World::shared().leave();
}
