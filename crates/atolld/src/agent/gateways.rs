//! What the gateways of this node carry for workspaces, by what they tell.
//!
//! A gateway counts since its process began, so nothing is lost while nobody asks it. What
//! it carried between the last look and its end is not seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use api::usage::{GatewayCounts, GatewayUsage, Meter};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use metering::{Recorder, Sample, file};
use tokio::net::TcpStream;

use super::cluster::{Cluster, is_over};
use super::usage::{is_on, payer};

/// Where a gateway tells it.
const PORT: u16 = 9090;
const PATH: &str = "/usage";
/// How long one may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest answer, of many thousand namespaces.
const LONGEST: usize = 64 << 20;

/// What gateways have carried so far.
pub struct Gateways {
    recorder: Recorder,
    file: PathBuf,
    /// What each gateway told last, by its pod.
    told: BTreeMap<String, GatewayUsage>,
}

impl Gateways {
    /// Goes on from what was written down.
    pub fn load(file: PathBuf, epoch: impl Fn() -> String) -> anyhow::Result<Self> {
        let recorder = file::load(&file, epoch)?;
        Ok(Self { recorder, file, told: BTreeMap::new() })
    }

    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    pub fn save(&self) -> anyhow::Result<()> {
        Ok(file::save(&self.file, &self.recorder)?)
    }

    /// Makes the facts of a minute that is over, and writes them down before they are
    /// sent. Processes that ended are done with.
    pub fn close(&mut self, minute: u64) -> anyhow::Result<()> {
        let current: Vec<&str> = self.told.values().map(|usage| usage.epoch.as_str()).collect();
        for uid in self.recorder.running() {
            if !current.iter().any(|epoch| uid.contains(epoch)) {
                self.recorder.end(&uid, 0);
            }
        }
        self.recorder.close(minute);
        self.save()
    }

    /// Asks every gateway of the node. One that doesn't answer is asked again at the next
    /// look.
    pub async fn look(&mut self, cluster: &Cluster, node: &str, time: u64) {
        let pods = cluster.pods.state();
        let gateways: Vec<_> =
            pods.iter().filter(|pod| is_gateway(pod) && is_on(pod, node) && !is_over(pod)).collect();
        self.told.retain(|name, _| gateways.iter().any(|pod| pod.name_any() == *name));
        for pod in gateways {
            let Some(address) = address(pod) else { continue };
            match tokio::time::timeout(ANSWER, ask(address)).await {
                Ok(Ok(usage)) => {
                    self.hear(pod.name_any(), usage, time, |namespace| payer(cluster, namespace));
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, error = format!("{error:#}"), "a gateway said nothing");
                }
                Err(_) => tracing::debug!(%address, "a gateway did not answer"),
            }
        }
    }

    fn hear(
        &mut self,
        gateway: String,
        usage: GatewayUsage,
        time: u64,
        payer: impl Fn(&str) -> Option<String>,
    ) {
        let before = self.told.get(&gateway).filter(|before| before.epoch == usage.epoch);
        for (namespace, counts) in &usage.namespaces {
            if before.and_then(|before| before.namespaces.get(namespace)) == Some(counts) {
                continue;
            }
            let Some(payer) = payer(namespace) else { continue };
            let carried = metering::Pod::gateway(&usage.epoch, namespace, &payer);
            self.recorder.see(&carried, &Sample { counters: meters(counts), memory_bytes: None }, time);
        }
        self.told.insert(gateway, usage);
    }
}

fn meters(counts: &GatewayCounts) -> BTreeMap<Meter, u64> {
    BTreeMap::from([
        (Meter::GatewayRequests, counts.requests),
        (Meter::GatewaySentBytes, counts.sent_bytes),
        (Meter::GatewayReceivedBytes, counts.received_bytes),
    ])
}

fn is_gateway(pod: &Pod) -> bool {
    pod.namespace().as_deref() == Some(api::names::SYSTEM_NAMESPACE)
        && pod.labels().get("app").is_some_and(|app| app == "gateway")
}

fn address(pod: &Pod) -> Option<SocketAddr> {
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some((address, PORT).into())
}

async fn ask(address: SocketAddr) -> anyhow::Result<GatewayUsage> {
    let stream = TcpStream::connect(address).await.context("reaching it")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(PATH).header(http::header::HOST, "gateway").body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        anyhow::ensure!(answer.status().is_success(), "it said {}", answer.status());
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error)).context("reading its answer")?;
        serde_json::from_slice(&body.to_bytes()).context("understanding its answer")
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => {
            ended?;
            anyhow::bail!("the connection ended")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(epoch: &str, namespaces: &[(&str, u64)]) -> GatewayUsage {
        let counts = |requests| GatewayCounts { requests, sent_bytes: requests * 10, received_bytes: 0 };
        let namespaces = namespaces.iter().map(|(name, requests)| (name.to_string(), counts(*requests)));
        GatewayUsage { epoch: epoch.into(), namespaces: namespaces.collect() }
    }

    /// What a minute's facts say, and that they are taken.
    fn facts(gateways: &mut Gateways, minute: u64) -> Vec<String> {
        gateways.close(minute).unwrap();
        let Some((batch, last)) = gateways.recorder.batch("c", "n", 100) else { return Vec::new() };
        gateways.recorder.taken(last);
        let text = |fact: &api::usage::UsageFact| {
            format!("{} {} {} {} {}", fact.object, fact.name, fact.payer, fact.meter.name(), fact.reading)
        };
        batch.facts.iter().map(text).collect()
    }

    #[test]
    fn each_process_counts_from_its_beginning_and_nothing_is_counted_twice() {
        let folder = std::env::temp_dir().join(format!("atoll-gateways-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let load = || Gateways::load(folder.join("gateways.json"), || "life".into()).unwrap();
        let payer = |namespace: &str| (namespace == "shop-a").then(|| "ada".to_owned());
        let mut gateways = load();
        gateways.hear("g".into(), usage("one", &[("shop-a", 3), ("kube-system", 9)]), 1000, payer);
        gateways.hear("g".into(), usage("one", &[("shop-a", 5), ("kube-system", 9)]), 3000, payer);
        let line = |epoch: &str, meter: &str, reading: u64| {
            format!("gateway/{epoch}/shop-a gateway ada gateway_{meter} {reading}")
        };
        assert_eq!(facts(&mut gateways, 0), [line("one", "requests", 5), line("one", "sent_bytes", 50)]);
        assert!(facts(&mut gateways, 1).is_empty());

        // Another agent goes on, and the gateway has served meanwhile.
        let mut gateways = load();
        gateways.hear("g".into(), usage("one", &[("shop-a", 6)]), 130_000, payer);
        assert_eq!(facts(&mut gateways, 2), [line("one", "requests", 6), line("one", "sent_bytes", 60)]);

        // Another process of the gateway begins at nothing.
        gateways.hear("g".into(), usage("two", &[("shop-a", 2)]), 190_000, payer);
        assert_eq!(facts(&mut gateways, 3), [line("two", "requests", 2), line("two", "sent_bytes", 20)]);
        assert_eq!(gateways.recorder.running(), ["gateway/two/shop-a"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
