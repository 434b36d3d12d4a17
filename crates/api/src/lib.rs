//! Atoll's custom resources, what its programs say to each other over HTTP, and
//! the names that they agree on.
//!
//! It knows no other crate, does no I/O and compiles to wasm, there without the
//! custom resources (feature `resources`). Start at [`names`], then [`workspace`].
//! [`tree`] and [`people`] say who is a member where: more than one program has to
//! come to the same answer.

pub mod http;
pub mod names;
pub mod people;
pub mod role;
pub mod tree;
pub mod usage;

#[cfg(feature = "resources")]
pub mod account;
#[cfg(feature = "resources")]
pub mod gateway;
#[cfg(feature = "resources")]
pub mod instance;
#[cfg(feature = "resources")]
pub mod invitation;
#[cfg(feature = "resources")]
pub mod peering;
#[cfg(feature = "resources")]
pub mod plan;
#[cfg(feature = "resources")]
pub mod quota;
#[cfg(feature = "resources")]
pub mod workspace;

#[cfg(feature = "resources")]
pub use account::{Account, AccountSpec, AccountStatus};
#[cfg(feature = "resources")]
pub use gateway::GatewayLimits;
#[cfg(feature = "resources")]
pub use instance::{Instance, InstanceSpec, InstanceStatus, ObjectReference};
#[cfg(feature = "resources")]
pub use invitation::{
    Acceptance, AcceptanceSpec, AcceptanceStatus, Invitation, InvitationSpec, InvitationStatus,
};
/// The trait by which a resource tells its kind and version.
#[cfg(feature = "resources")]
pub use kube::Resource;
#[cfg(feature = "resources")]
pub use peering::{Peering, PeeringSpec, PeeringStatus};
#[cfg(feature = "resources")]
pub use plan::{ClassDefaults, Plan, PlanSpec, PlanStatus, PodSecurity};
#[cfg(feature = "resources")]
pub use quota::{Measure, Reservation, SharedQuota, SharedQuotaSpec, SharedQuotaStatus};
pub use role::Role;
#[cfg(feature = "resources")]
pub use workspace::{Member, MemberSpec, Workspace, WorkspaceSpec, WorkspaceStatus};

#[cfg(feature = "resources")]
/// The definitions of all custom resources, as the API server takes them.
pub fn definitions()
-> [k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition; 9] {
    use kube::CustomResourceExt;
    [
        Account::crd(),
        Workspace::crd(),
        Member::crd(),
        Plan::crd(),
        Instance::crd(),
        Invitation::crd(),
        Acceptance::crd(),
        SharedQuota::crd(),
        Peering::crd(),
    ]
}
