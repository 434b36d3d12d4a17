//! Reads of an arriving object only what somebody here wants to know. Who manages
//! which field is often the larger part of it, and for a hundred thousand objects
//! that is most of the time of a cold start.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, IngressSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::{Deserialize, Deserializer};

use crate::gateway_api::{
    BackendTLSPolicy, BackendTLSPolicySpec, GRPCRoute, GRPCRouteSpec, Gateway, GatewayClass,
    GatewayClassSpec, GatewaySpec, HTTPRoute, HTTPRouteSpec, ReferenceGrant, ReferenceGrantSpec, TLSRoute,
    TLSRouteSpec,
};
use crate::object::Object;

/// An object of a kind as it was watched, trimmed already.
#[derive(Debug, Clone)]
pub struct Lean<K> {
    /// The name, and the version by which a watch goes on.
    meta: ObjectMeta,
    pub object: Object,
    kind: PhantomData<fn() -> K>,
}

/// A kind of which only a part is read.
pub trait Parts: Sized {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl<'de, K: Parts + Resource + Into<Object>> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = K::read(deserializer)?;
        let meta = read.meta();
        let meta = ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            resource_version: meta.resource_version.clone(),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object: read.into(), kind: PhantomData })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Lean<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        let Meta { name, namespace, resource_version, creation_timestamp, generation, labels, annotations } =
            meta;
        Self {
            name,
            namespace,
            resource_version,
            creation_timestamp,
            generation,
            labels,
            annotations,
            ..Self::default()
        }
    }
}

macro_rules! parts {
    ($kind:ty { $($field:ident: $type:ty),* }) => {
        impl Parts for $kind {
            // Of a Service it is every field.
            #[allow(clippy::needless_update)]
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize, Default)]
                #[serde(default)]
                struct Read {
                    metadata: Meta,
                    $($field: $type),*
                }
                let read = Read::deserialize(deserializer)?;
                Ok(Self { metadata: read.metadata.into(), $($field: read.$field,)* ..Self::default() })
            }
        }
    };
    ($kind:ty, $spec:ty) => {
        impl Parts for $kind {
            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                struct Read {
                    #[serde(default)]
                    metadata: Meta,
                    spec: $spec,
                }
                let read = Read::deserialize(deserializer)?;
                Ok(Self { metadata: read.metadata.into(), spec: read.spec })
            }
        }
    };
}

parts!(Ingress { spec: Option<IngressSpec> });
parts!(Namespace {});
parts!(Service { spec: Option<ServiceSpec>, status: Option<ServiceStatus> });
parts!(Secret { data: Option<BTreeMap<String, ByteString>> });
parts!(ConfigMap { data: Option<BTreeMap<String, String>> });
parts!(HTTPRoute, HTTPRouteSpec);
parts!(GRPCRoute, GRPCRouteSpec);
parts!(TLSRoute, TLSRouteSpec);
parts!(Gateway, GatewaySpec);
parts!(GatewayClass, GatewayClassSpec);
parts!(ReferenceGrant, ReferenceGrantSpec);
parts!(BackendTLSPolicy, BackendTLSPolicySpec);

impl Parts for EndpointSlice {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Read {
            metadata: Meta,
            /// An empty list comes as null.
            endpoints: Option<Vec<Endpoint>>,
            ports: Option<Vec<EndpointPort>>,
        }
        let Read { metadata, endpoints, ports } = Read::deserialize(deserializer)?;
        let endpoints = endpoints.unwrap_or_default();
        Ok(Self { metadata: metadata.into(), endpoints, ports, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_anything_in_it_is_read() {
        let meta = json!({"name": "b", "namespace": "a", "resourceVersion": "7", "managedFields": [{"fieldsV1": 1}]});
        let slice = json!({"metadata": meta, "addressType": "IPv4", "endpoints": null, "ports": null});
        let lean: Lean<EndpointSlice> = serde_json::from_value(slice).unwrap();
        assert_eq!(lean.meta().resource_version.as_deref(), Some("7"));
        assert_eq!(lean.object.id().to_string(), "a/b");
        let secret = json!({"metadata": meta, "type": "kubernetes.io/tls"});
        assert!(serde_json::from_value::<Lean<Secret>>(secret).is_ok());
        let route = json!({"metadata": meta});
        assert!(serde_json::from_value::<Lean<HTTPRoute>>(route).is_err());
    }

    #[test]
    fn the_addresses_of_a_gateway_are_read() {
        let service = json!({
            "metadata": {
                "name": "b",
                "namespace": api::names::SYSTEM_NAMESPACE,
                "annotations": {api::names::GATEWAY_ANNOTATION: "a/gw"},
                "labels": {"c": "d"},
            },
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], "loadBalancerIP": "10.0.0.1"},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}},
        });
        let lean: Lean<Service> = serde_json::from_value(service.clone()).unwrap();
        let whole: Object = serde_json::from_value::<Service>(service).unwrap().into();
        assert_eq!(lean.object, whole);
        let Object::Service(service) = whole else { panic!("{whole:?}") };
        assert_eq!(service.entrance.unwrap().addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    }
}
