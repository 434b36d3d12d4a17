//! Tenancy: what accounts, workspaces, members and plans mean in Kubernetes.
//!
//! [`desired`] is the pure core: a workspace, its members and its plan go in,
//! and the objects that have to be in its namespace come out. [`name`] says which
//! names are possible, [`ownership`] how many workspaces an account may have, and
//! [`invitation`] what becomes of who accepts one, [`admission`] what is changed of pods,
//! [`defaults`] what is meant where nothing is named,
//! [`suspension`] how a workspace comes to rest and back, [`plan`] what is left of a
//! plan below others, [`reference`] which workspaces and accounts may be named,
//! [`review`] the form of admission's questions,
//! [`deletion`] when one goes that was deleted, [`propagation`] which objects are copied
//! into those below, [`quota`] what several may use together, [`peering`] which
//! of them agree that their pods may talk. [`controller`] watches the
//! resources and makes it so. What tenants may do to all this is in the cluster image's
//! manifests: the roles' ClusterRoles and the admission policies.
//!
//! It knows nothing of passwords and tokens, and nobody's usage.

pub mod admission;
mod condition;
pub mod controller;
pub mod defaults;
pub mod deletion;
pub mod desired;
pub mod invitation;
pub mod name;
pub mod ownership;
pub mod peering;
pub mod plan;
pub mod propagation;
pub mod quota;
pub mod reference;
pub mod review;
pub mod suspension;
