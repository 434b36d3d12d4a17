//! Names that more than one program relies on.

/// The group of every custom resource.
pub const GROUP: &str = "atoll.dev";
/// The version in which resources are served and stored.
pub const VERSION: &str = "v1alpha1";

/// The namespace of Atoll's own pods, secrets and settings.
pub const SYSTEM_NAMESPACE: &str = "atoll-system";

/// Label on every object that belongs to an installed app; its value is the
/// name of the app's `Instance`.
pub const INSTANCE_LABEL: &str = "atoll.dev/instance";

/// The domain under which tenants' apps are served. Browsers and curl resolve
/// every name below `localhost` to this machine without DNS.
pub const APPS_DOMAIN: &str = "atollapps.localhost";
/// All hosts below [`APPS_DOMAIN`], as certificates name them.
pub const APPS_WILDCARD: &str = "*.atollapps.localhost";
/// The desktop's host: another site than the apps', so that no app can ride on
/// the desktop's cookies.
pub const DESKTOP_HOST: &str = "atoll.localhost";

/// The name under which front is reached from outside; a kubeconfig gives it as
/// `tls-server-name`, because not every program resolves it.
pub const FRONT_HOST: &str = "api.atoll.localhost";

/// The Service of the default gateway, in [`SYSTEM_NAMESPACE`].
pub const GATEWAY_SERVICE: &str = "gateway";
/// The `kubernetes.io/tls` Secret with the certificate for `*.APPS_DOMAIN`, in
/// [`SYSTEM_NAMESPACE`].
pub const GATEWAY_CERTIFICATE: &str = "gateway-certificate";
/// Annotation on a Service of [`SYSTEM_NAMESPACE`] that leads to a Gateway:
/// the Gateway's `namespace/name`.
pub const GATEWAY_ANNOTATION: &str = "atoll.dev/gateway";

/// On an Ingress or an HTTPRoute: whether its answers are compressed, `on` or `off`.
pub const COMPRESSION_ANNOTATION: &str = "atoll.dev/compression";
/// On Secrets of [`SYSTEM_NAMESPACE`]: what an authority of ACME asks of a host, for the
/// gateways to answer.
pub const ACME_CHALLENGE_LABEL: &str = "atoll.dev/acme-challenge";
/// On the Secrets of workspaces that ACME has made and may renew.
pub const ACME_LABEL: &str = "atoll.dev/acme";
/// On a Gateway whose listeners' missing certificates are to be had by ACME: `"true"`.
pub const ACME_ANNOTATION: &str = "atoll.dev/acme";
/// The issuer that an Ingress names to be given certificates by ACME.
pub const ACME_ISSUER: &str = "atoll";
/// In [`SYSTEM_NAMESPACE`]: the ConfigMap with which an operator turns ACME on.
pub const ACME_CONFIG: &str = "acme";
/// The Gateway behind [`GATEWAY_SERVICE`], which every workspace may use. Its
/// address also serves Ingresses.
pub const DEFAULT_GATEWAY: &str = "gateway";
/// The classes by which an Ingress names our gateway: our own, which is the
/// default one, and the one that app templates name.
pub const INGRESS_CLASSES: [&str; 2] = ["atoll", "nginx"];
/// The class by which a Gateway names ours.
pub const GATEWAY_CLASS: &str = "atoll";
/// The controller name in our IngressClass and GatewayClass.
pub const GATEWAY_CONTROLLER: &str = "atoll.dev/gateway";

/// The user by which Kubernetes knows an account.
pub fn user(account: &str) -> String {
    format!("{USER_PREFIX}{account}")
}
/// What every account's user name begins with.
pub const USER_PREFIX: &str = "atoll:";
/// The group of every account.
pub const ACCOUNTS_GROUP: &str = "atoll:accounts";
/// The group of accounts that operate the cloud, bound to `cluster-admin`.
pub const OPERATORS_GROUP: &str = "atoll:operators";

/// Label on a workspace's namespace; its value is the workspace's name. Tenants
/// can't change it.
pub const WORKSPACE_LABEL: &str = "atoll.dev/workspace";
/// Label on the namespace of a workspace in which nothing new may be made.
pub const CORDONED_LABEL: &str = "atoll.dev/cordoned";
/// Label on the namespace of a workspace in which nothing may run.
pub const SUSPENDED_LABEL: &str = "atoll.dev/suspended";
/// The scheduling gate of pods in a suspended workspace.
pub const SUSPENDED_GATE: &str = "atoll.dev/suspended";
/// What the annotations begin with by which a workspace's namespace tells the
/// admission policies what its plan allows.
pub const POLICY_PREFIX: &str = "policy.atoll.dev/";
/// Label on the namespace of a workspace whose plan says what is meant where nothing is
/// named.
pub const DEFAULTS_LABEL: &str = "atoll.dev/defaults";
/// Label on the namespace of a workspace that has a part in a shared quota: what is
/// made there asks first.
pub const SHARED_QUOTA_LABEL: &str = "atoll.dev/shared-quota";
/// Annotation on such a namespace: the names of the shared quotas.
pub const SHARED_QUOTAS_ANNOTATION: &str = "policy.atoll.dev/shared-quotas";
/// The plan of workspaces that name none.
pub const DEFAULT_PLAN: &str = "standard";
/// What the name of the ClusterRole of a member's role begins with:
/// `atoll:viewer` and so on.
pub const ROLE_PREFIX: &str = "atoll:";

/// How long a workspace's name may be: its namespace's name is seven longer.
pub const WORKSPACE_NAME_LENGTH: usize = 56;

/// Whether a workspace may have this name; if not, what to change.
pub fn check_workspace_name(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() {
        Err("give it a name")
    } else if name.len() > WORKSPACE_NAME_LENGTH {
        Err("use at most 56 characters")
    } else if !name.bytes().all(allowed) {
        Err("use small letters, digits and hyphens")
    } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        Err("begin with a letter")
    } else if name.ends_with('-') {
        Err("end with a letter or digit")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_a_name_that_makes_a_namespace() {
        for good in ["a", "shop", "web-2", &"a".repeat(56)] {
            assert_eq!(check_workspace_name(good), Ok(()), "{good}");
        }
        for bad in ["", "Shop", "2web", "-a", "a-", "a_b", "a.b", "straße", &"a".repeat(57)] {
            assert!(check_workspace_name(bad).is_err(), "{bad}");
        }
    }
}
