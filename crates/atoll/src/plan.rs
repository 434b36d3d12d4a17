//! `atoll plan`: what workspaces may use, for whoever operates the cloud.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use api::{Plan, PlanSpec, PodSecurity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};

use crate::account::admin;
use crate::arguments::{Common, Most, Output, Plan as Words, PlanChanges, PodSecurity as Standard};
use crate::workspace::said;
use crate::{block_on, packages};

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    packages::become_root()?;
    block_on(async {
        let client = admin(common).await?;
        match command {
            Words::List { output } => list(client, output).await,
            Words::Show { plan, output } => show(client, &plan, output).await,
            Words::Set(changes) => set(client, *changes).await,
            Words::Delete { plan } => {
                find(&client, &plan).await?;
                let plans: Api<Plan> = Api::all(client);
                plans
                    .delete(&plan, &DeleteParams::default())
                    .await
                    .map_err(said)
                    .context("deleting the plan")?;
                println!("Plan {plan} is gone.");
                Ok(())
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A plan that has to be there.
pub async fn find(client: &Client, name: &str) -> anyhow::Result<Plan> {
    let plans: Api<Plan> = Api::all(client.clone());
    let found = plans.get_opt(name).await.context("looking the plan up")?;
    found.with_context(|| format!("there is no plan `{name}`: `atoll plan set {name}` makes one"))
}

async fn list(client: Client, output: Output) -> anyhow::Result<()> {
    let plans: Api<Plan> = Api::all(client);
    let found = plans.list(&ListParams::default()).await.context("listing plans")?.items;
    if output != Output::Table {
        return output.print(&found);
    }
    println!(
        "{:<20} {:<14} {:>8} {:>10} {:>8} {:>12}",
        "PLAN", "POD SECURITY", "CPU", "MEMORY", "PODS", "WORKSPACES"
    );
    for plan in found {
        let hard =
            |name: &str| plan.spec.hard.get(name).map_or("-", |quantity| quantity.0.as_str()).to_owned();
        let workspaces = plan.status.as_ref().map_or(0, |status| status.workspaces);
        println!(
            "{:<20} {:<14} {:>8} {:>10} {:>8} {workspaces:>12}",
            plan.name_any(),
            plan.spec.pod_security.name(),
            hard("limits.cpu"),
            hard("limits.memory"),
            hard("pods"),
        );
    }
    Ok(())
}

async fn show(client: Client, name: &str, output: Output) -> anyhow::Result<()> {
    let plan = find(&client, name).await?;
    if output != Output::Table {
        return output.print(&plan.spec);
    }
    let line = |what: &str, names: &[String]| println!("{what:<24} {}", names.join(", "));
    for (resource, quantity) in &plan.spec.hard {
        println!("{resource:<24} {}", quantity.0);
    }
    println!("{:<24} {}", "pod security", plan.spec.pod_security.name());
    line("registries", &plan.spec.registries);
    line("storage classes", &plan.spec.storage_classes);
    line("ingress classes", &plan.spec.ingress_classes);
    line("gateway classes", &plan.spec.gateway_classes);
    line("gateways", &plan.spec.gateways);
    let gateway = &plan.spec.gateway;
    for (what, most) in [
        ("gateway requests/s", gateway.requests_per_second),
        ("gateway concurrent", gateway.concurrent_requests),
        ("gateway bytes/s", gateway.bytes_per_second),
    ] {
        println!("{what:<24} {}", told(most));
    }
    line("priority classes", &plan.spec.priority_classes);
    line("runtime classes", &plan.spec.runtime_classes);
    line("node labels", &plan.spec.node_labels);
    line("tolerations", &plan.spec.tolerations);
    let defaults = &plan.spec.defaults;
    for (what, class) in [
        ("default storage class", &defaults.storage_class),
        ("default ingress class", &defaults.ingress_class),
        ("default priority class", &defaults.priority_class),
        ("default runtime class", &defaults.runtime_class),
    ] {
        println!("{what:<24} {}", class.as_deref().unwrap_or_default());
    }
    let nodes: Vec<_> =
        plan.spec.node_selector.iter().map(|(label, value)| format!("{label}={value}")).collect();
    line("nodes", &nodes);
    let days = plan.spec.deletion_days.unwrap_or(api::workspace::DELETION_DAYS);
    println!("{:<24} {days} days", "kept when deleted");
    Ok(())
}

/// A limit of the gateway's.
fn told(most: Option<u64>) -> String {
    match most {
        None => "as the gateway is set".into(),
        Some(0) => "no limit".into(),
        Some(most) => most.to_string(),
    }
}

async fn set(client: Client, changes: PlanChanges) -> anyhow::Result<()> {
    let plans: Api<Plan> = Api::all(client);
    let name = changes.plan.clone();
    let known = plans.get_opt(&name).await.context("looking the plan up")?;
    let is_new = known.is_none();
    let mut plan = known.unwrap_or_else(|| Plan::new(&name, PlanSpec::default()));
    change(&mut plan.spec, changes);
    let parameters = PostParams::default();
    if is_new {
        plans.create(&parameters, &plan).await.map_err(said).context("making the plan")?;
    } else {
        plans.replace(&name, &parameters, &plan).await.map_err(said).context("changing the plan")?;
    }
    println!("Plan {name} is {}.", if is_new { "there" } else { "changed" });
    Ok(())
}

/// Limits as they are named; an empty one is taken away.
pub fn change_hard(hard: &mut BTreeMap<String, Quantity>, named: Vec<(String, String)>) {
    for (resource, quantity) in named {
        if quantity.is_empty() {
            hard.remove(&resource);
        } else {
            hard.insert(resource, Quantity(quantity));
        }
    }
}

/// What is named changes, the rest stays.
fn change(spec: &mut PlanSpec, changes: PlanChanges) {
    change_hard(&mut spec.hard, changes.hard);
    match changes.pod_security {
        Some(Standard::Baseline) => spec.pod_security = PodSecurity::Baseline,
        Some(Standard::Restricted) => spec.pod_security = PodSecurity::Restricted,
        None => {}
    }
    for (named, kept) in [
        (changes.default_storage_class, &mut spec.defaults.storage_class),
        (changes.default_ingress_class, &mut spec.defaults.ingress_class),
        (changes.default_priority_class, &mut spec.defaults.priority_class),
        (changes.default_runtime_class, &mut spec.defaults.runtime_class),
    ] {
        if let Some(named) = named {
            *kept = Some(named).filter(|name| !name.is_empty());
        }
    }
    for (named, kept) in [
        (changes.gateway_requests, &mut spec.gateway.requests_per_second),
        (changes.gateway_concurrent, &mut spec.gateway.concurrent_requests),
        (changes.gateway_bytes, &mut spec.gateway.bytes_per_second),
    ] {
        if let Some(Most(named)) = named {
            *kept = named;
        }
    }
    for (label, value) in changes.nodes {
        if value.is_empty() {
            spec.node_selector.remove(&label);
        } else {
            spec.node_selector.insert(label, value);
        }
    }
    spec.deletion_days = changes.deletion_days.or(spec.deletion_days);
    for (named, kept) in [
        (changes.registries, &mut spec.registries),
        (changes.storage_classes, &mut spec.storage_classes),
        (changes.ingress_classes, &mut spec.ingress_classes),
        (changes.gateway_classes, &mut spec.gateway_classes),
        (changes.gateways, &mut spec.gateways),
        (changes.priority_classes, &mut spec.priority_classes),
        (changes.runtime_classes, &mut spec.runtime_classes),
        (changes.node_labels, &mut spec.node_labels),
        (changes.tolerations, &mut spec.tolerations),
    ] {
        if let Some(named) = named {
            *kept = named.into_iter().filter(|name| !name.is_empty()).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn changed(words: &str) -> PlanSpec {
        let words = ["atoll", "plan", "set", "gold"].into_iter().chain(words.split_whitespace());
        let Command::Plan { command: Words::Set(changes) } = Arguments::parse_from(words).command else {
            panic!("another command");
        };
        let hard = [("pods", "9"), ("secrets", "5")].map(|(name, most)| (name.into(), Quantity(most.into())));
        let mut spec = PlanSpec { hard: hard.into(), ..PlanSpec::default() };
        change(&mut spec, *changes);
        spec
    }

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let same = changed("");
        assert_eq!(same.hard.len(), 2);
        let spec = changed(
            "--hard pods=10 --hard secrets= --registries quay.io,docker.io/library --pod-security baseline",
        );
        assert_eq!(spec.hard, [("pods".into(), Quantity("10".into()))].into());
        assert_eq!(spec.registries, ["quay.io", "docker.io/library"]);
        assert_eq!(spec.pod_security, PodSecurity::Baseline);
        assert_eq!(spec.storage_classes, same.storage_classes);
        assert!(changed("--registries=").registries.is_empty());
        assert_eq!(spec.ingress_classes, ["atoll", "nginx"]);
        let doors = changed("--ingress-classes= --gateway-classes=* --gateways a/b,c/d");
        assert!(doors.ingress_classes.is_empty());
        assert_eq!(doors.gateway_classes, ["*"]);
        assert_eq!(doors.gateways, ["a/b", "c/d"]);
        let meant = changed("--default-runtime-class vm --default-storage-class= --node pool=a --node disk=");
        assert_eq!(meant.defaults.runtime_class.as_deref(), Some("vm"));
        assert_eq!(meant.defaults.storage_class, None);
        assert_eq!(meant.node_selector, [("pool".into(), "a".into())].into());
    }

    #[test]
    fn limits_of_the_gateway_are_numbers_or_taken_away() {
        let all = |words: &str| {
            let limits = changed(words).gateway;
            [limits.requests_per_second, limits.concurrent_requests, limits.bytes_per_second]
        };
        assert_eq!(all(""), [None; 3]);
        assert_eq!(
            all("--gateway-requests 100 --gateway-concurrent 0 --gateway-bytes 10Mi"),
            [Some(100), Some(0), Some(10 << 20)]
        );
        assert_eq!(all("--gateway-requests="), [None; 3]);
        let mut spec = changed("--gateway-requests 5 --gateway-bytes 1k");
        let words = ["atoll", "plan", "set", "gold", "--gateway-requests="];
        let Command::Plan { command: Words::Set(changes) } = Arguments::parse_from(words).command else {
            panic!("another command");
        };
        change(&mut spec, *changes);
        assert_eq!((spec.gateway.requests_per_second, spec.gateway.bytes_per_second), (None, Some(1000)));
        for bad in
            ["--gateway-requests=-1", "--gateway-requests=many", "--gateway-bytes=1.5", "--gateway-bytes=2Ti"]
        {
            assert!(Arguments::try_parse_from(["atoll", "plan", "set", "gold", bad]).is_err(), "{bad}");
        }
        assert_eq!(
            [None, Some(0), Some(7)].map(told),
            ["as the gateway is set", "no limit", "7"].map(str::to_owned)
        );
    }
}
