//! `atoll peering`: with whom a workspace's pods may talk.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use api::peering::{Allowed, Port, PortProtocol};
use api::{Peering, PeeringSpec};
use clap::Subcommand;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};

use crate::arguments::{Common, InWorkspace, Output, name_and_value};
use crate::workspace::{namespace_of, said};
use crate::{block_on, login};

#[derive(Subcommand)]
pub enum Words {
    /// Let a workspace's pods talk with another one's, once that agrees
    Create {
        /// The other workspace: NAME, or OWNER/NAME for one of another owner
        with: String,
        #[command(flatten)]
        place: InWorkspace,
        /// A port of your pods that the other one may reach, such as 5432 or 53/UDP
        #[arg(long = "port", value_name = "PORT", value_parser = port, value_delimiter = ',')]
        ports: Vec<Port>,
        /// Of which pods, by label; without it, of all
        #[arg(long = "pods", value_name = "LABEL=VALUE", value_parser = name_and_value, value_delimiter = ',')]
        pods: Vec<(String, String)>,
        /// Every port
        #[arg(long, conflicts_with = "ports")]
        all_ports: bool,
    },
    /// List a workspace's peerings
    List {
        #[command(flatten)]
        place: InWorkspace,
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// End a peering, at once
    Delete {
        /// The name `list` shows
        peering: String,
        #[command(flatten)]
        place: InWorkspace,
    },
}

pub fn run(common: &Common, command: Words) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            Words::Create { with, place, ports, pods, all_ports } => {
                let spec = PeeringSpec { with, allow: allowed(ports, pods, all_ports)? };
                create(common, &place, spec).await
            }
            Words::List { place, output } => list(common, &place, output).await,
            Words::Delete { peering, place } => delete(common, &place, &peering).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn port(text: &str) -> Result<Port, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => PortProtocol::Tcp,
        "UDP" => PortProtocol::Udp,
        _ => return Err(format!("`{protocol}` is neither TCP nor UDP")),
    };
    match number.parse() {
        Ok(port) if port > 0 => Ok(Port { port, protocol }),
        _ => Err(format!("`{number}` is no port: name one from 1 to 65535")),
    }
}

/// What the words allow: nothing, if they name neither ports nor all of them.
fn allowed(ports: Vec<Port>, pods: Vec<(String, String)>, all: bool) -> anyhow::Result<Vec<Allowed>> {
    if ports.is_empty() && !all {
        if !pods.is_empty() {
            bail!("--pods says of which pods: say by --port or --all-ports what of them may be reached");
        }
        return Ok(Vec::new());
    }
    let labels: BTreeMap<String, String> = pods.into_iter().collect();
    let pod_selector = (!labels.is_empty())
        .then(|| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() });
    Ok(vec![Allowed { pod_selector, ports }])
}

/// A peering's name, from whom it is with.
fn name_of(with: &str) -> String {
    with.replace('/', ".")
}

async fn peerings(common: &Common, place: &InWorkspace) -> anyhow::Result<Api<Peering>> {
    let (client, _) = login::client(common, place.account.as_deref()).await?;
    let (_, namespace) = namespace_of(&client, &place.workspace).await?;
    Ok(Api::namespaced(client, &namespace))
}

async fn create(common: &Common, place: &InWorkspace, spec: PeeringSpec) -> anyhow::Result<()> {
    let peerings = peerings(common, place).await?;
    let name = name_of(&spec.with);
    let with = spec.with.clone();
    match peerings.create(&PostParams::default(), &Peering::new(&name, spec)).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            bail!("there is a peering `{name}`: `atoll peering delete {name}` takes it away")
        }
        Err(error) => return Err(said(error)).context("making the peering"),
    }
    println!("Peering {name} is made; it is in force once {with} has one with {}.", place.workspace);
    Ok(())
}

async fn list(common: &Common, place: &InWorkspace, output: Output) -> anyhow::Result<()> {
    let peerings = peerings(common, place).await?;
    let found = peerings.list(&ListParams::default()).await.map_err(said).context("listing peerings")?;
    if output != Output::Table {
        return output.print(&found.items);
    }
    println!("{:<24} {:<24} {:<9} {:<28} ALLOWS", "PEERING", "WITH", "IN FORCE", "NAMESPACE");
    for one in found {
        let status = one.status.clone().unwrap_or_default();
        let in_force = if status.namespace.is_some() { "yes" } else { "no" };
        let namespace = status.namespace.unwrap_or_default();
        println!(
            "{:<24} {:<24} {in_force:<9} {namespace:<28} {}",
            one.name_any(),
            one.spec.with,
            allows(&one.spec.allow)
        );
    }
    Ok(())
}

/// What is allowed, in a few words.
fn allows(allow: &[Allowed]) -> String {
    let ports = allow.iter().map(|allowed| {
        let ports = allowed.ports.iter().map(|port| match port.protocol {
            PortProtocol::Tcp => port.port.to_string(),
            PortProtocol::Udp => format!("{}/UDP", port.port),
        });
        let ports = ports.collect::<Vec<_>>().join(",");
        let ports = if ports.is_empty() { "all".to_owned() } else { ports };
        if allowed.pod_selector.is_some() { format!("{ports} of some pods") } else { ports }
    });
    let all = ports.collect::<Vec<_>>().join("; ");
    if all.is_empty() { "answers".to_owned() } else { all }
}

async fn delete(common: &Common, place: &InWorkspace, name: &str) -> anyhow::Result<()> {
    match peerings(common, place).await?.delete(name, &DeleteParams::default()).await {
        Ok(_) => println!("Peering {name} is gone."),
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            bail!("there is no peering `{name}`: `atoll peering list` shows them")
        }
        Err(error) => return Err(said(error)).context("deleting the peering"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_number_and_a_protocol() {
        assert_eq!(port("443"), Ok(Port { port: 443, protocol: PortProtocol::Tcp }));
        assert_eq!(port("53/udp"), Ok(Port { port: 53, protocol: PortProtocol::Udp }));
        for bad in ["", "0", "65536", "http", "80/SCTP", "80-90"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_named_is_not_allowed() {
        let port = Port { port: 80, protocol: PortProtocol::Tcp };
        let pods = vec![("app".to_owned(), "web".to_owned())];
        assert!(allowed(Vec::new(), Vec::new(), false).unwrap().is_empty());
        assert!(allowed(Vec::new(), pods.clone(), false).is_err());
        assert_eq!(allows(&allowed(vec![port], pods, false).unwrap()), "80 of some pods");
        assert_eq!(allows(&allowed(Vec::new(), Vec::new(), true).unwrap()), "all");
        assert_eq!(allows(&[]), "answers");
    }
}
