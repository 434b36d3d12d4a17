//! What is left of a plan below others: a workspace may use what its own plan allows,
//! and each plan above it. Pure.

use api::tree::Problem;
use api::{ClassDefaults, PlanSpec, PodSecurity};

/// A plan that allows nothing: what a plan that isn't there counts as.
pub fn nothing() -> PlanSpec {
    PlanSpec {
        registries: Vec::new(),
        storage_classes: Vec::new(),
        ingress_classes: Vec::new(),
        gateway_classes: Vec::new(),
        gateways: Vec::new(),
        ..PlanSpec::default()
    }
}

/// What is left of a plan below all those above it. Where nobody can say what is above,
/// nothing is; what is below nothing has its own.
pub fn left(own: &PlanSpec, above: Result<impl IntoIterator<Item = PlanSpec>, &Problem>) -> PlanSpec {
    match above {
        Ok(above) => above.into_iter().fold(own.clone(), |left, above| tighten(&above, &left)),
        Err(problem) if problem.is_undecided() => tighten(&nothing(), own),
        Err(_) => own.clone(),
    }
}

/// What is left of a plan below another: what both allow. A parent's plan can only
/// be tightened.
pub fn tighten(above: &PlanSpec, plan: &PlanSpec) -> PlanSpec {
    let both = |above: &[String], own: &[String]| -> Vec<String> {
        own.iter().filter(|name| above.contains(name)).cloned().collect()
    };
    let any = |names: &[String]| names.iter().any(|name| name == "*");
    // Of these `*` is any.
    let narrower_names = |above: &[String], own: &[String]| match (any(above), any(own)) {
        (true, _) => own.to_vec(),
        (false, true) => above.to_vec(),
        (false, false) => both(above, own),
    };
    let mut node_selector = plan.node_selector.clone();
    node_selector.extend(above.node_selector.clone());
    let own_or = |own: &Option<String>, above: &Option<String>| own.clone().or_else(|| above.clone());
    let (own, higher) = (&plan.defaults, &above.defaults);
    PlanSpec {
        node_selector,
        // One that the lists no longer allow is left out by who tells of them.
        defaults: ClassDefaults {
            storage_class: own_or(&own.storage_class, &higher.storage_class),
            ingress_class: own_or(&own.ingress_class, &higher.ingress_class),
            priority_class: own_or(&own.priority_class, &higher.priority_class),
            runtime_class: own_or(&own.runtime_class, &higher.runtime_class),
        },
        pod_security: match (above.pod_security, plan.pod_security) {
            (PodSecurity::Baseline, PodSecurity::Baseline) => PodSecurity::Baseline,
            _ => PodSecurity::Restricted,
        },
        registries: narrower(&above.registries, &plan.registries),
        storage_classes: narrower_names(&above.storage_classes, &plan.storage_classes),
        ingress_classes: narrower_names(&above.ingress_classes, &plan.ingress_classes),
        gateway_classes: narrower_names(&above.gateway_classes, &plan.gateway_classes),
        gateways: narrower_names(&above.gateways, &plan.gateways),
        priority_classes: both(&above.priority_classes, &plan.priority_classes),
        runtime_classes: both(&above.runtime_classes, &plan.runtime_classes),
        node_labels: both(&above.node_labels, &plan.node_labels),
        tolerations: both(&above.tolerations, &plan.tolerations),
        gateway: plan.gateway.tighter(above.gateway),
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
    use api::GatewayLimits;

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
    fn nodes_get_fewer_on_the_way_down_and_what_is_meant_comes_from_above() {
        let plan = |nodes: &[(&str, &str)], priority: Option<&str>, runtime: Option<&str>| PlanSpec {
            node_selector: nodes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            defaults: ClassDefaults {
                priority_class: priority.map(Into::into),
                runtime_class: runtime.map(Into::into),
                ..ClassDefaults::default()
            },
            ..PlanSpec::default()
        };
        let above = plan(&[("pool", "shared"), ("disk", "ssd")], Some("low"), Some("vm"));
        let left = tighten(&above, &plan(&[("pool", "own"), ("arch", "arm")], Some("high"), None));
        // Both hold, and of two that can't the upper one.
        assert_eq!(
            left.node_selector,
            plan(&[("arch", "arm"), ("disk", "ssd"), ("pool", "shared")], None, None).node_selector
        );
        assert_eq!(left.defaults, plan(&[], Some("high"), Some("vm")).defaults);
    }

    #[test]
    fn at_the_gateway_the_strictest_of_all_that_say_something_holds() {
        let plan = |requests: Option<u64>, bytes: Option<u64>| PlanSpec {
            gateway: GatewayLimits {
                requests_per_second: requests,
                bytes_per_second: bytes,
                ..GatewayLimits::default()
            },
            ..PlanSpec::default()
        };
        let own = plan(Some(500), Some(0));
        let left = |above: Vec<PlanSpec>| left(&own, Ok::<_, &Problem>(above)).gateway;
        assert_eq!(left(vec![]), own.gateway);
        assert_eq!(left(vec![PlanSpec::default()]), own.gateway, "who says nothing limits nothing");
        assert_eq!(left(vec![plan(Some(0), Some(1000))]), plan(Some(500), Some(1000)).gateway);
        let all = vec![plan(Some(300), None), plan(Some(200), Some(5)), plan(Some(400), Some(9))];
        assert_eq!(left(all), plan(Some(200), Some(5)).gateway);
        // Nobody can say what is above: no more than the own.
        let cycle = Problem::Cycle(vec!["a".into()]);
        let nobody: Result<[PlanSpec; 0], _> = Err(&cycle);
        assert_eq!(super::left(&own, nobody).gateway, own.gateway);
    }

    #[test]
    fn where_nobody_can_say_what_is_above_nothing_is_allowed() {
        let own = PlanSpec { priority_classes: vec!["high".into()], ..PlanSpec::default() };
        let none: Result<[PlanSpec; 0], _> = Ok([]);
        assert_eq!(left(&own, none), own);
        assert!(left(&own, Ok([own.clone(), nothing()])).registries.is_empty());
        let undecided = [Problem::TooDeep("a".into()), Problem::Cycle(vec!["a".into()])];
        for problem in undecided {
            let nobody: Result<[PlanSpec; 0], _> = Err(&problem);
            let left = left(&own, nobody);
            assert!(left.registries.is_empty() && left.storage_classes.is_empty(), "{problem}");
            assert!(left.priority_classes.is_empty(), "{problem}");
        }
        // Who isn't agreed to is below nothing.
        let missing = Problem::NotThere { owner: "ada".into(), parent: "a".into() };
        let nobody: Result<[PlanSpec; 0], _> = Err(&missing);
        assert_eq!(left(&own, nobody), own);
    }

    #[test]
    fn which_doors_a_plan_opens_gets_fewer_on_the_way_down() {
        let names = |names: &str| -> Vec<String> { names.split_whitespace().map(Into::into).collect() };
        let plan = |classes: &str| PlanSpec {
            ingress_classes: names(classes),
            gateway_classes: names(classes),
            gateways: names(classes),
            ..PlanSpec::default()
        };
        for (above, own, wanted) in [
            ("a b", "b c", "b"),
            ("*", "b", "b"),
            ("a", "*", "a"),
            ("*", "*", "*"),
            ("", "*", ""),
            ("a", "", ""),
        ] {
            let left = tighten(&plan(above), &plan(own));
            for left in [left.ingress_classes, left.gateway_classes, left.gateways] {
                assert_eq!(left, names(wanted), "{above} over {own}");
            }
        }
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
        assert!(
            left.ingress_classes.is_empty() && left.gateway_classes.is_empty() && left.gateways.is_empty()
        );
        assert!(left.priority_classes.is_empty());
        assert_eq!(left.pod_security, PodSecurity::Restricted);
    }
}
