//! Which workspaces share which quota.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::{SharedQuota, SharedQuotaSpec, Workspace};
use kube::ResourceExt;
use kube::runtime::reflector::Store;

/// Whether a workspace has a part in a quota: by who owns it, or by being the topmost or
/// below it.
fn covers(quota: &SharedQuotaSpec, owner: &str, with_those_above: &[&str]) -> bool {
    quota.account.as_deref() == Some(owner)
        || quota.workspace.as_deref().is_some_and(|topmost| with_those_above.contains(&topmost))
}

/// The names of the quotas in which a workspace has a part, in order.
pub fn quotas(quotas: &[Arc<SharedQuota>], owner: &str, with_those_above: &[&str]) -> Vec<String> {
    let shared = quotas.iter().filter(|quota| covers(&quota.spec, owner, with_those_above));
    let mut names: Vec<String> = shared.map(|quota| quota.name_any()).collect();
    names.sort();
    names
}

/// A workspace and all above it, upwards. One that is above itself ends it.
fn with_those_above<'a>(name: &'a str, parents: &HashMap<&'a str, &'a str>) -> Vec<&'a str> {
    let mut line = vec![name];
    while let Some(parent) = line.last().and_then(|last| parents.get(last))
        && !line.contains(parent)
    {
        line.push(parent);
    }
    line
}

/// Who shares what, both ways; made anew when a workspace or a quota's owner changes.
#[derive(Debug, Default)]
pub struct Cover {
    /// The quotas that it was made for.
    made_for: Vec<String>,
    namespaces: HashMap<String, HashSet<String>>,
    quotas: HashMap<String, Vec<String>>,
}

impl Cover {
    /// Makes it anew when the quotas are others, or after `Cover::default()`; says
    /// whether it did.
    pub fn refresh(&mut self, quotas: &[Arc<SharedQuota>], workspaces: &Store<Workspace>) -> bool {
        let mut names: Vec<String> = quotas.iter().map(|quota| quota.uid().unwrap_or_default()).collect();
        names.sort();
        if names == self.made_for {
            return false;
        }
        *self = Self::new(quotas, &workspaces.state());
        self.made_for = names;
        true
    }

    fn new(quotas: &[Arc<SharedQuota>], workspaces: &[Arc<Workspace>]) -> Self {
        let names: Vec<String> = workspaces.iter().map(|workspace| workspace.name_any()).collect();
        let mut parents = HashMap::new();
        for (workspace, name) in workspaces.iter().zip(&names) {
            parents.extend(workspace.spec.parent.as_deref().map(|parent| (name.as_str(), parent)));
        }
        let mut by_account: HashMap<&str, Vec<String>> = HashMap::new();
        let mut by_workspace: HashMap<&str, Vec<String>> = HashMap::new();
        for quota in quotas {
            if let Some(account) = quota.spec.account.as_deref() {
                by_account.entry(account).or_default().push(quota.name_any());
            }
            if let Some(workspace) = quota.spec.workspace.as_deref() {
                by_workspace.entry(workspace).or_default().push(quota.name_any());
            }
        }
        let mut cover = Self::default();
        for (workspace, name) in workspaces.iter().zip(&names) {
            let status = workspace.status.as_ref();
            let Some(namespace) = status.and_then(|status| status.namespace.clone()) else { continue };
            let above = with_those_above(name, &parents);
            let by_above = above.iter().filter_map(|above| by_workspace.get(above));
            let by_owner = by_account.get(workspace.spec.owner.as_str());
            for quota in by_owner.into_iter().chain(by_above).flatten() {
                cover.namespaces.entry(quota.clone()).or_default().insert(namespace.clone());
                cover.quotas.entry(namespace.clone()).or_default().push(quota.clone());
            }
        }
        cover
    }

    /// The namespaces of the workspaces that share a quota.
    pub fn namespaces(&self, quota: &str) -> Option<&HashSet<String>> {
        self.namespaces.get(quota)
    }

    /// The quotas that a namespace has a part in.
    pub fn quotas(&self, namespace: &str) -> impl Iterator<Item = &String> {
        self.quotas.get(namespace).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use api::{WorkspaceSpec, WorkspaceStatus};

    use super::*;

    fn workspace(name: &str, owner: &str, parent: Option<&str>) -> Arc<Workspace> {
        let spec =
            WorkspaceSpec { owner: owner.into(), parent: parent.map(Into::into), ..WorkspaceSpec::default() };
        let mut workspace = Workspace::new(name, spec);
        let namespace = Some(format!("{name}-ns"));
        workspace.status = Some(WorkspaceStatus { namespace, ..WorkspaceStatus::default() });
        Arc::new(workspace)
    }

    fn quota(name: &str, account: Option<&str>, workspace: Option<&str>) -> Arc<SharedQuota> {
        let (account, workspace) = (account.map(Into::into), workspace.map(Into::into));
        Arc::new(SharedQuota::new(name, SharedQuotaSpec { account, workspace, ..SharedQuotaSpec::default() }))
    }

    #[test]
    fn a_quota_is_of_an_account_or_of_all_below_a_workspace() {
        let workspaces = [
            workspace("root", "ada", None),
            workspace("middle", "bob", Some("root")),
            workspace("leaf", "ada", Some("middle")),
            workspace("other", "ada", None),
            // These two are above each other, which is refused elsewhere.
            workspace("egg", "cy", Some("hen")),
            workspace("hen", "cy", Some("egg")),
        ];
        let all = [
            quota("ada", Some("ada"), None),
            quota("tree", None, Some("middle")),
            quota("cy", None, Some("hen")),
        ];
        let cover = Cover::new(&all, &workspaces);
        let names = |quota: &str| {
            let mut names: Vec<_> = cover.namespaces(quota).unwrap().iter().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names("ada"), ["leaf-ns", "other-ns", "root-ns"]);
        assert_eq!(names("tree"), ["leaf-ns", "middle-ns"]);
        assert_eq!(names("cy"), ["egg-ns", "hen-ns"]);
        assert_eq!(cover.quotas("leaf-ns").collect::<Vec<_>>(), ["ada", "tree"]);
        assert_eq!(quotas(&all, "ada", &["leaf", "middle", "root"]), ["ada", "tree"]);
        assert!(cover.namespaces("nobody").is_none() && cover.quotas("x").next().is_none());
    }
}
