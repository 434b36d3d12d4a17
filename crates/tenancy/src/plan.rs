//! What is left of a plan below others: a workspace may use what its own plan allows,
//! and each plan above it. Pure.

use api::{PlanSpec, PodSecurity};

/// A plan that allows nothing: what a plan that isn't there counts as.
pub fn nothing() -> PlanSpec {
    PlanSpec { registries: Vec::new(), storage_classes: Vec::new(), ..PlanSpec::default() }
}

/// What is left of a plan below another: what both allow. A parent's plan can only
/// be tightened.
pub fn tighten(above: &PlanSpec, plan: &PlanSpec) -> PlanSpec {
    let both = |above: &[String], own: &[String]| -> Vec<String> {
        own.iter().filter(|name| above.contains(name)).cloned().collect()
    };
    let any = |names: &[String]| names.iter().any(|name| name == "*");
    let storage_classes = match (any(&above.storage_classes), any(&plan.storage_classes)) {
        (true, _) => plan.storage_classes.clone(),
        (false, true) => above.storage_classes.clone(),
        (false, false) => both(&above.storage_classes, &plan.storage_classes),
    };
    PlanSpec {
        pod_security: match (above.pod_security, plan.pod_security) {
            (PodSecurity::Baseline, PodSecurity::Baseline) => PodSecurity::Baseline,
            _ => PodSecurity::Restricted,
        },
        registries: narrower(&above.registries, &plan.registries),
        storage_classes,
        priority_classes: both(&above.priority_classes, &plan.priority_classes),
        runtime_classes: both(&above.runtime_classes, &plan.runtime_classes),
        node_labels: both(&above.node_labels, &plan.node_labels),
        tolerations: both(&above.tolerations, &plan.tolerations),
        ..plan.clone()
    }
}

/// Prefixes of which each lies in one of the others.
fn narrower(above: &[String], own: &[String]) -> Vec<String> {
    let within = |one: &str, other: &str| {
        other == "*" || one == other || one.starts_with(&format!("{}/", other.trim_end_matches('/')))
    };
    let mut left: Vec<String> = Vec::new();
    for (these, those) in [(own, above), (above, own)] {
        for one in these.iter().filter(|one| those.iter().any(|other| within(one, other))) {
            if !left.contains(one) {
                left.push(one.clone());
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_below_another_can_only_be_tighter() {
        let list = |names: &str| -> Vec<String> { names.split_whitespace().map(Into::into).collect() };
        let plan = |registries: &str, classes: &str, priorities: &str, pod_security| PlanSpec {
            registries: list(registries),
            storage_classes: list(classes),
            priority_classes: list(priorities),
            pod_security,
            ..PlanSpec::default()
        };
        let above = plan("docker.io quay.io/team", "*", "low", PodSecurity::Restricted);
        let own = plan("docker.io/library quay.io ghcr.io", "gold", "low high", PodSecurity::Baseline);
        let left = tighten(&above, &own);
        assert_eq!(left.registries, list("docker.io/library quay.io/team"));
        assert_eq!(left.storage_classes, list("gold"));
        assert_eq!(left.priority_classes, list("low"));
        assert_eq!(left.pod_security, PodSecurity::Restricted);
        let loose = plan("*", "*", "", PodSecurity::Baseline);
        assert_eq!(tighten(&above, &loose).registries, above.registries);
        assert_eq!(tighten(&loose, &own).registries, own.registries);
        // Of priority classes none means any, not even by this name.
        assert!(tighten(&above, &plan("", "", "*", PodSecurity::Baseline)).priority_classes.is_empty());
        assert!(
            tighten(
                &plan("docker.io/lib", "", "", PodSecurity::Baseline),
                &plan("docker.io/library", "", "", PodSecurity::Baseline)
            )
            .registries
            .is_empty()
        );
    }

    #[test]
    fn below_a_plan_that_is_not_there_nothing_is_allowed() {
        let all = PlanSpec {
            priority_classes: vec!["*".into()],
            pod_security: PodSecurity::Baseline,
            ..PlanSpec::default()
        };
        let left = tighten(&nothing(), &all);
        assert!(left.registries.is_empty() && left.storage_classes.is_empty());
        assert!(left.priority_classes.is_empty());
        assert_eq!(left.pod_security, PodSecurity::Restricted);
    }
}
