//! The few fields of each watched object that routing needs.
//!
//! What arrives from the API server is trimmed to these at once: 20,000 whole
//! Ingresses are ten times the memory, and the snapshot holds what is here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use api::GatewayLimits;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::few::Few;
use crate::gateway_api;
pub use crate::id::Id;
use crate::pem::Pem;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Ingress,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    Gateway,
    GatewayClass,
    ReferenceGrant,
    BackendTlsPolicy,
    Namespace,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
    /// A Secret with users, or an authority, which is watched only where it is wanted.
    Users,
}

impl Kind {
    /// Those that are watched as a whole.
    pub const ALL: [Self; 13] = [
        Self::Ingress,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::Gateway,
        Self::GatewayClass,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::ConfigMap,
    ];

    /// The kinds of routes.
    pub const ROUTES: [Self; 3] = [Self::HttpRoute, Self::GrpcRoute, Self::TlsRoute];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Users => "Users",
        }
    }

    /// Those by which something is found, once what they name is there.
    pub fn refers(self) -> bool {
        matches!(self, Self::Ingress | Self::HttpRoute | Self::GrpcRoute | Self::TlsRoute)
    }

    /// Whether the kind may be missing from a cluster altogether.
    pub fn optional(self) -> bool {
        matches!(
            self,
            Self::HttpRoute
                | Self::GrpcRoute
                | Self::TlsRoute
                | Self::Gateway
                | Self::GatewayClass
                | Self::ReferenceGrant
                | Self::BackendTlsPolicy
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is large and rare in one is in a box: each object takes as much as the
/// largest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    Ingress(Ingress),
    HttpRoute(HttpRoute),
    GrpcRoute(HttpRoute),
    TlsRoute(HttpRoute),
    Gateway(Gateway),
    GatewayClass(GatewayClass),
    ReferenceGrant(ReferenceGrant),
    BackendTlsPolicy(BackendTlsPolicy),
    Namespace(Namespace),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Secret(Secret),
    ConfigMap(ConfigMap),
    Users(Users),
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ingress(_) => Kind::Ingress,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::Gateway(_) => Kind::Gateway,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::BackendTlsPolicy(_) => Kind::BackendTlsPolicy,
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::Users(_) => Kind::Users,
        }
    }

    pub fn id(&self) -> &Id {
        match self {
            Self::Ingress(object) => &object.id,
            Self::HttpRoute(object) => &object.id,
            Self::GrpcRoute(object) => &object.id,
            Self::TlsRoute(object) => &object.id,
            Self::Gateway(object) => &object.id,
            Self::GatewayClass(object) => &object.id,
            Self::ReferenceGrant(object) => &object.id,
            Self::BackendTlsPolicy(object) => &object.id,
            Self::Namespace(object) => &object.id,
            Self::Service(object) => &object.id,
            Self::EndpointSlice(object) => &object.id,
            Self::Secret(object) => &object.id,
            Self::ConfigMap(object) => &object.id,
            Self::Users(object) => &object.id,
        }
    }

    /// A route of any kind: a call and a TLS connection are looked up as
    /// requests are.
    pub fn route(&self) -> Option<&HttpRoute> {
        match self {
            Self::HttpRoute(route) | Self::GrpcRoute(route) | Self::TlsRoute(route) => Some(route),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ingress {
    pub id: Id,
    pub created: i64,
    pub class: Option<String>,
    /// The `nginx.ingress.kubernetes.io/` ones, without that prefix, and ours.
    pub annotations: Few<String, String>,
    pub default_backend: Option<Box<ServiceRef>>,
    pub rules: Vec<IngressRule>,
    pub tls: Vec<IngressTls>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngressRule {
    /// Empty: every host.
    pub host: String,
    pub paths: Vec<IngressPath>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngressPath {
    pub path: String,
    pub path_type: PathType,
    /// None: the backend is not a Service, which we don't serve.
    pub backend: Option<ServiceRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathType {
    Exact,
    Prefix,
    ImplementationSpecific,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngressTls {
    pub hosts: Vec<String>,
    pub secret: Option<String>,
}

/// A Service of the same namespace, and one of its ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRef {
    pub name: String,
    pub port: PortRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortRef {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRoute {
    pub id: Id,
    pub created: i64,
    pub generation: i64,
    /// What its annotation says of compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    pub spec: Box<gateway_api::HTTPRouteSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    pub id: Id,
    pub created: i64,
    pub generation: i64,
    pub spec: Box<gateway_api::GatewaySpec>,
    /// Whether its listeners' missing certificates are to be had by ACME.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acme: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayClass {
    pub id: Id,
    pub generation: i64,
    pub controller: String,
    /// Settings of another vendor's, which we don't know.
    pub parameters: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceGrant {
    pub id: Id,
    pub spec: Box<gateway_api::ReferenceGrantSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendTlsPolicy {
    pub id: Id,
    pub created: i64,
    pub generation: i64,
    pub spec: Box<gateway_api::BackendTLSPolicySpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its own namespace is empty.
    pub id: Id,
    pub labels: BTreeMap<String, String>,
    /// What its workspace's plan says of the gateway; None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<GatewayLimits>>,
}

/// The certificates of an authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigMap {
    pub id: Id,
    /// `ca.crt`.
    pub authority: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: Id,
    pub ports: Vec<ServicePort>,
    /// For a Gateway's own Service: the Gateway, and where it is reached.
    pub entrance: Option<Box<Entrance>>,
}

/// What the Service that leads to a Gateway says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entrance {
    pub gateway: Id,
    pub addresses: Vec<IpAddr>,
    /// By the port that clients see: the port of our pods.
    pub targets: Vec<(u16, u16)>,
    /// The address that was asked for.
    pub asked: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// But for the one that names the Gateway.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
}

/// How a backend's port is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    Http1,
    /// HTTP/2 in clear text, without asking first.
    H2c,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    pub id: Id,
    pub service: String,
    /// By the name of the service's port; `targetPort` is resolved here already.
    pub ports: Vec<(String, u16)>,
    /// The ones that are ready and not on their way out.
    pub addresses: Vec<IpAddr>,
    /// The zones that each of them is meant for; empty: none says, or not all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<Vec<String>>,
    /// Those on their way out that still serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<IpAddr>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    pub id: Id,
    pub certificate: Pem,
    pub key: Pem,
    /// Whether ACME has made it, and may renew it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acme: bool,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A Secret by which people log in.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Users {
    pub id: Id,
    /// None: there is no such Secret, or it is larger than one with users is.
    pub data: Option<BTreeMap<String, Vec<u8>>>,
}

impl Users {
    pub fn new(id: Id, secret: Option<core::Secret>) -> Self {
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        let data = data.map(|data| data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect());
        let fits =
            |data: &BTreeMap<String, Vec<u8>>| data.values().map(Vec::len).sum::<usize>() <= MOST_USERS;
        Self { id, data: data.filter(fits) }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Bytes of a Secret with users.
const MOST_USERS: usize = 128 << 10;
const ANNOTATIONS: &str = "nginx.ingress.kubernetes.io/";
/// The way to name a class before `spec.ingressClassName` was.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
}

/// Whether a route says that its answers are compressed.
fn compress(meta: &ObjectMeta) -> Option<bool> {
    annotation::flag(meta.annotations.as_ref()?.get(api::names::COMPRESSION_ANNOTATION)?.trim())
}

/// Whether an Ingress asks for certificates, in one of the usual ways.
fn wants_acme(annotation: &str, value: &str) -> bool {
    match annotation {
        "kubernetes.io/tls-acme" => value == "true",
        "cert-manager.io/cluster-issuer" => value == api::names::ACME_ISSUER,
        _ => false,
    }
}

fn generation(meta: &ObjectMeta) -> i64 {
    meta.generation.unwrap_or_default()
}

fn service_ref(backend: networking::IngressBackend) -> Option<ServiceRef> {
    let service = backend.service?;
    let port = service.port?;
    let port = match (port.name, port.number) {
        (Some(name), _) if !name.is_empty() => PortRef::Name(name),
        (_, Some(number)) => PortRef::Number(u16::try_from(number).ok()?),
        _ => return None,
    };
    Some(ServiceRef { name: service.name, port })
}

impl From<networking::Ingress> for Object {
    fn from(ingress: networking::Ingress) -> Self {
        let id = Id::of(&ingress.metadata);
        let created = created(&ingress.metadata);
        let spec = ingress.spec.unwrap_or_default();
        let mut class = spec.ingress_class_name;
        let mut annotations = Few::default();
        for (name, value) in ingress.metadata.annotations.unwrap_or_default() {
            if let Some(name) = name.strip_prefix(ANNOTATIONS) {
                annotations.insert(name.to_owned(), value);
            } else if name == api::names::COMPRESSION_ANNOTATION {
                annotations.insert(name, value);
            } else if wants_acme(&name, &value) {
                annotations.insert(api::names::ACME_ANNOTATION.to_owned(), "true".to_owned());
            } else if name == CLASS_ANNOTATION && class.is_none() {
                class = Some(value);
            }
        }
        let rules = spec.rules.unwrap_or_default().into_iter().map(|rule| IngressRule {
            host: rule.host.unwrap_or_default(),
            paths: rule
                .http
                .map(|http| http.paths)
                .unwrap_or_default()
                .into_iter()
                .map(|path| IngressPath {
                    path: path.path.unwrap_or_default(),
                    path_type: match path.path_type.as_str() {
                        "Exact" => PathType::Exact,
                        "Prefix" => PathType::Prefix,
                        _ => PathType::ImplementationSpecific,
                    },
                    backend: service_ref(path.backend),
                })
                .collect(),
        });
        let tls = spec
            .tls
            .unwrap_or_default()
            .into_iter()
            .map(|tls| IngressTls { hosts: tls.hosts.unwrap_or_default(), secret: tls.secret_name });
        Self::Ingress(Ingress {
            id,
            created,
            class,
            annotations,
            default_backend: spec.default_backend.and_then(service_ref).map(Box::new),
            rules: rules.collect(),
            tls: tls.collect(),
        })
    }
}

impl From<gateway_api::HTTPRoute> for Object {
    fn from(route: gateway_api::HTTPRoute) -> Self {
        Self::HttpRoute(HttpRoute {
            id: Id::of(&route.metadata),
            created: created(&route.metadata),
            generation: generation(&route.metadata),
            compress: compress(&route.metadata),
            spec: Box::new(route.spec),
        })
    }
}

impl From<gateway_api::GRPCRoute> for Object {
    fn from(route: gateway_api::GRPCRoute) -> Self {
        Self::GrpcRoute(HttpRoute {
            id: Id::of(&route.metadata),
            created: created(&route.metadata),
            generation: generation(&route.metadata),
            compress: None,
            spec: Box::new(route.spec.into()),
        })
    }
}

impl From<gateway_api::TLSRoute> for Object {
    fn from(route: gateway_api::TLSRoute) -> Self {
        Self::TlsRoute(HttpRoute {
            id: Id::of(&route.metadata),
            created: created(&route.metadata),
            generation: generation(&route.metadata),
            compress: None,
            spec: Box::new(route.spec.into()),
        })
    }
}

impl From<gateway_api::ReferenceGrant> for Object {
    fn from(grant: gateway_api::ReferenceGrant) -> Self {
        Self::ReferenceGrant(ReferenceGrant { id: Id::of(&grant.metadata), spec: Box::new(grant.spec) })
    }
}

impl From<gateway_api::BackendTLSPolicy> for Object {
    fn from(policy: gateway_api::BackendTLSPolicy) -> Self {
        Self::BackendTlsPolicy(BackendTlsPolicy {
            id: Id::of(&policy.metadata),
            created: created(&policy.metadata),
            generation: generation(&policy.metadata),
            spec: Box::new(policy.spec),
        })
    }
}

impl From<core::Namespace> for Object {
    fn from(namespace: core::Namespace) -> Self {
        let limits = namespace.metadata.annotations.as_ref().map(GatewayLimits::told);
        Self::Namespace(Namespace {
            id: Id::of(&namespace.metadata),
            labels: namespace.metadata.labels.unwrap_or_default(),
            limits: limits.filter(|limits| !limits.is_empty()).map(Box::new),
        })
    }
}

impl From<core::ConfigMap> for Object {
    fn from(map: core::ConfigMap) -> Self {
        let authority = map.data.and_then(|mut data| data.remove("ca.crt"));
        Self::ConfigMap(ConfigMap { id: Id::of(&map.metadata), authority })
    }
}

impl From<gateway_api::Gateway> for Object {
    fn from(gateway: gateway_api::Gateway) -> Self {
        Self::Gateway(Gateway {
            id: Id::of(&gateway.metadata),
            created: created(&gateway.metadata),
            generation: generation(&gateway.metadata),
            acme: gateway
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(api::names::ACME_ANNOTATION))
                .is_some_and(|value| value == "true"),
            spec: Box::new(gateway.spec),
        })
    }
}

impl From<gateway_api::GatewayClass> for Object {
    fn from(class: gateway_api::GatewayClass) -> Self {
        Self::GatewayClass(GatewayClass {
            id: Id::of(&class.metadata),
            generation: generation(&class.metadata),
            controller: class.spec.controller_name,
            parameters: class.spec.parameters_ref.is_some(),
        })
    }
}

impl From<core::Service> for Object {
    fn from(service: core::Service) -> Self {
        let entrance = entrance(&service).map(Box::new);
        let spec = service.spec.unwrap_or_default();
        // An ExternalName is a name anywhere in the world: never a backend.
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ports = spec.ports.unwrap_or_default().into_iter().filter(|_| !external);
        Self::Service(Service {
            id: Id::of(&service.metadata),
            ports: ports
                .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
                .filter_map(|port| {
                    Some(ServicePort {
                        name: port.name.unwrap_or_default(),
                        number: u16::try_from(port.port).ok()?,
                        protocol: match port.app_protocol.as_deref() {
                            Some("kubernetes.io/h2c") => Protocol::H2c,
                            _ => Protocol::Http1,
                        },
                    })
                })
                .collect(),
            entrance,
        })
    }
}

/// Only what the system's own Services say of Gateways counts: tenants may label
/// theirs as they like.
fn entrance(service: &core::Service) -> Option<Entrance> {
    let meta = &service.metadata;
    let gateway = meta
        .annotations
        .as_ref()
        .filter(|_| meta.namespace.as_deref() == Some(api::names::SYSTEM_NAMESPACE))?
        .get(api::names::GATEWAY_ANNOTATION)?;
    let (namespace, name) = gateway.split_once('/')?;
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let addresses = balancer.into_iter().flatten().filter_map(|point| point.ip.as_ref()?.parse().ok());
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let targets = ports.into_iter().flatten().filter_map(|port| {
        let IntOrString::Int(target) = port.target_port.as_ref()? else { return None };
        Some((u16::try_from(port.port).ok()?, u16::try_from(*target).ok()?))
    });
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(api::names::GATEWAY_ANNOTATION);
    Some(Entrance {
        gateway: Id::new(namespace, name),
        addresses: addresses.collect(),
        targets: targets.collect(),
        asked: service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.clone()),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations,
    })
}

impl From<discovery::EndpointSlice> for Object {
    fn from(slice: discovery::EndpointSlice) -> Self {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL)).cloned();
        let ports = slice
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(|port| Some((port.name.unwrap_or_default(), u16::try_from(port.port?).ok()?)));
        let (mut addresses, mut zones, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        for endpoint in slice.endpoints {
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let of = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            if conditions.terminating.unwrap_or(false) {
                // A pod that ends is never ready, but finishes what it is asked.
                if conditions.serving.unwrap_or(ready) {
                    leaving.extend(of);
                }
            } else if ready {
                let hinted = endpoint.hints.and_then(|hints| hints.for_zones).unwrap_or_default();
                let hinted: Vec<String> = hinted.into_iter().map(|zone| zone.name).collect();
                let before = addresses.len();
                addresses.extend(of);
                zones.resize(zones.len() + addresses.len() - before, hinted);
            }
        }
        if zones.iter().any(Vec::is_empty) {
            zones.clear();
        }
        Self::EndpointSlice(EndpointSlice {
            id: Id::of(&slice.metadata),
            service: service.unwrap_or_default(),
            ports: ports.collect(),
            addresses,
            zones,
            leaving,
        })
    }
}

impl From<core::Secret> for Object {
    fn from(secret: core::Secret) -> Self {
        let mut data = secret.data.unwrap_or_default();
        let mut take = |key| data.remove(key).map(|bytes| bytes.0).unwrap_or_default();
        Self::Secret(Secret {
            id: Id::of(&secret.metadata),
            certificate: take("tls.crt").into(),
            key: take("tls.key").into(),
            acme: secret.metadata.labels.unwrap_or_default().contains_key(api::names::ACME_LABEL),
        })
    }
}
