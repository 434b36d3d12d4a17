//! Which workspaces share which quota.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::{SharedQuota, Workspace};
use kube::ResourceExt;
use kube::runtime::reflector::Store;

/// The names of the quotas in which a workspace has a part, in order: by who owns it, or
/// by being the topmost or below it.
pub fn quotas(quotas: &[Arc<SharedQuota>], owner: &str, name: &str, above: &[String]) -> Vec<String> {
    let is_topmost = |topmost: &str| topmost == name || above.iter().any(|above| above == topmost);
    let shared = quotas.iter().filter(|quota| {
        quota.spec.account.as_deref() == Some(owner)
            || quota.spec.workspace.as_deref().is_some_and(is_topmost)
    });
    let mut names: Vec<String> = shared.map(|quota| quota.name_any()).collect();
    names.sort();
    names
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
    /// whether it did. `above` says what is above a workspace.
    pub fn refresh(
        &mut self,
        quotas: &[Arc<SharedQuota>],
        workspaces: &Store<Workspace>,
        above: &dyn Fn(&str) -> Vec<String>,
    ) -> bool {
        let mut names: Vec<String> = quotas.iter().map(|quota| quota.uid().unwrap_or_default()).collect();
        names.sort();
        if names == self.made_for {
            return false;
        }
        *self = Self::new(quotas, &workspaces.state(), above);
        self.made_for = names;
        true
    }

    fn new(
        quotas: &[Arc<SharedQuota>],
        workspaces: &[Arc<Workspace>],
        above: &dyn Fn(&str) -> Vec<String>,
    ) -> Self {
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
        for workspace in workspaces {
            let status = workspace.status.as_ref();
            let Some(namespace) = status.and_then(|status| status.namespace.clone()) else { continue };
            let mut line = vec![workspace.name_any()];
            if !by_workspace.is_empty() {
                line.extend(above(&line[0]));
            }
            let by_above = line.iter().filter_map(|one| by_workspace.get(one.as_str()));
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
    use api::tree::Tree;
    use api::{SharedQuotaSpec, WorkspaceSpec, WorkspaceStatus};

    use super::*;

    fn workspace(name: &str, owner: &str, parent: Option<&str>, accepted: &[&str]) -> Arc<Workspace> {
        let spec = WorkspaceSpec {
            owner: owner.into(),
            parent: parent.map(Into::into),
            accepted_children: accepted.iter().map(|one| (*one).to_owned()).collect(),
            ..WorkspaceSpec::default()
        };
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
            workspace("root", "ada", None, &["bob/middle"]),
            workspace("middle", "bob", Some("ada/root"), &["ada/leaf"]),
            workspace("leaf", "ada", Some("bob/middle"), &[]),
            workspace("twig", "ada", Some("leaf"), &[]),
            workspace("other", "ada", None, &[]),
            // These aren't below it: nobody accepted them, or it isn't their owner's.
            workspace("sneak", "eve", Some("ada/root"), &[]),
            workspace("plain", "bob", Some("root"), &[]),
            workspace("stray", "cy", Some("bob/leaf"), &[]),
            // These two are above each other, so that neither is above anything.
            workspace("egg", "cy", Some("hen"), &[]),
            workspace("hen", "cy", Some("egg"), &[]),
        ];
        let mut tree = Tree::default();
        for workspace in &workspaces {
            tree.set(&workspace.name_any(), workspace.node());
        }
        let above = move |name: &str| -> Vec<String> { tree.above(name).map(str::to_owned).collect() };
        let all = [
            quota("ada", Some("ada"), None),
            quota("all", None, Some("root")),
            quota("tree", None, Some("middle")),
            quota("cy", None, Some("hen")),
        ];
        let cover = Cover::new(&all, &workspaces, &above);
        let names = |quota: &str| {
            let mut names: Vec<_> = cover.namespaces(quota).unwrap().iter().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names("ada"), ["leaf-ns", "other-ns", "root-ns", "twig-ns"]);
        assert_eq!(names("all"), ["leaf-ns", "middle-ns", "root-ns", "twig-ns"]);
        assert_eq!(names("tree"), ["leaf-ns", "middle-ns", "twig-ns"]);
        assert_eq!(names("cy"), ["hen-ns"]);
        // Both ways, and as a namespace is told, it is the same.
        for workspace in &workspaces {
            let name = workspace.name_any();
            let mut of_namespace: Vec<_> = cover.quotas(&format!("{name}-ns")).cloned().collect();
            of_namespace.sort();
            assert_eq!(of_namespace, quotas(&all, &workspace.spec.owner, &name, &above(&name)), "{name}");
        }
        assert!(cover.namespaces("nobody").is_none() && cover.quotas("x").next().is_none());
    }
}
