//! Reaching around the gateway, and taking other people's traffic.

use super::attack::Protection::{NoRight, Policy};
use super::attack::{Attack, World, campaign, check, even_with, with_the_right};

/// Something of the workspace that a policy refuses.
fn object(manifest: &str, reason: &'static str, policy: &'static str) -> Attack<'static> {
    let world = World::shared();
    let manifest = manifest.replace("NS", &world.namespace);
    Attack {
        attempt: Box::new(move || world.developer.tries(&manifest)),
        reason,
        protections: vec![Policy(policy)],
    }
}

fn service(spec: &str, reason: &'static str) -> Attack<'static> {
    let manifest = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: attack, namespace: NS}}, spec: {{ports: [{{port: 80}}], {spec}}}}}"
    );
    object(&manifest, reason, "atoll-services")
}

/// CVE-2020-8554, by the other field.
#[test]
fn take_the_traffic_of_an_address_by_status() {
    let world = World::shared();
    let namespace = &world.namespace;
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: runs, namespace: NS}, spec: {ports: [{port: 80}]}}";
    world.developer.apply(&service.replace("NS", namespace));
    let patch = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"10.96.0.80"}]}}}"#;
    let words = ["patch", "service", "runs", "-n", namespace, "--subresource=status", "--dry-run=server"];
    let words = [&words[..], &["--type=merge", "-p", patch]].concat();
    // A role has no right to it; who has one is refused all the same.
    let reason = "cannot patch resource \"services/status\"";
    let right = NoRight("atoll:dev", "get,patch", "services/status");
    // Kubernetes itself wants an address only where the type is LoadBalancer.
    let attempt = || {
        let said = world.developer.kubectl(&words);
        let own = said.err.contains("may only be used when");
        e2e::Said { code: if own { Some(0) } else { said.code }, ..said }
    };
    check(world, reason, &[right, Policy("atoll-services")], attempt);
    world.developer.kubectl(&["delete", "service", "-n", namespace, "runs"]).ok();
}

#[test]
fn lead_a_service_to_a_neighbour_by_endpoints() {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: v1, kind: Endpoints, metadata: {{name: attack, namespace: {}}}, \
         subsets: [{{addresses: [{{ip: 10.244.0.9}}], ports: [{{port: 80}}]}}]}}",
        world.namespace
    );
    let right = NoRight("atoll:dev", "create", "endpoints");
    check(world, "cannot create resource \"endpoints\"", &[right, Policy("atoll-endpoints")], || {
        world.developer.tries(&manifest)
    });
}

#[test]
fn lead_a_service_to_a_neighbour_by_slices() {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: attack, namespace: {}}}, \
         addressType: IPv4, endpoints: [{{addresses: [10.244.0.9]}}], ports: [{{port: 80}}]}}",
        world.namespace
    );
    let right = NoRight("atoll:dev", "create", "endpointslices.discovery.k8s.io");
    check(world, "cannot create resource \"endpointslices\"", &[right, Policy("atoll-endpoints")], || {
        world.developer.tries(&manifest)
    });
    // The right alone is not enough.
    even_with("atoll:dev", "create", "endpointslices.discovery.k8s.io", |world| {
        let reason = "where a Service leads is for Kubernetes to say";
        with_the_right(|| world.developer.tries(&manifest));
        check(world, reason, &[Policy("atoll-endpoints")], || world.developer.tries(&manifest));
    });
}

fn ingress(spec: &str, reason: &'static str) -> Attack<'static> {
    let metadata = "metadata: {name: attack, namespace: NS}";
    let manifest =
        format!("{{apiVersion: networking.k8s.io/v1, kind: Ingress, {metadata}, spec: {{{spec}}}}}");
    object(&manifest, reason, "atoll-hosts")
}

fn route(spec: &str, reason: &'static str) -> Attack<'static> {
    let metadata = "metadata: {name: attack, namespace: NS}";
    let manifest = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, {metadata}, spec: {{{spec}}}}}"
    );
    object(&manifest, reason, "atoll-hosts")
}

/// Something by which the workspace would be reached.
fn door(kind: &str, metadata: &str, spec: &str, reason: &'static str) -> Attack<'static> {
    let manifest = format!(
        "{{apiVersion: {kind}, metadata: {{name: attack, namespace: NS{metadata}}}, spec: {{{spec}}}}}"
    );
    object(&manifest, reason, "atoll-doors")
}

#[test]
fn make_a_gateway_of_a_class_that_the_plan_does_not_allow() {
    let world = World::shared();
    let gateway = |class: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: attack, namespace: {}}}, \
             spec: {{gatewayClassName: {class}, listeners: [{{name: h, port: 80, protocol: HTTP}}]}}}}",
            world.namespace
        )
    };
    even_with("atoll:dev", "create", "gateways.gateway.networking.k8s.io", |world| {
        with_the_right(|| world.developer.tries(&gateway("atoll")));
        world.developer.tries(&gateway("atoll")).ok();
        let reason = "spec.gatewayClassName: name one that the plan allows, of atoll, and not other";
        check(world, reason, &[Policy("atoll-doors")], || world.developer.tries(&gateway("other")));
    });
}

const BACKEND: &str =
    "http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}";

campaign! {
    open_a_port_on_every_node => service("type: NodePort", "a Service of type NodePort is not offered");
    take_an_address_of_the_pool => service("type: LoadBalancer", "a Service of type LoadBalancer is not offered");
    be_a_name_of_another_service => {
        let spec = "type: ExternalName, externalName: front.atoll-system.svc.cluster.local";
        service(spec, "a Service of type ExternalName is not offered")
    };
    /// CVE-2020-8554.
    take_the_traffic_of_an_address => service("externalIPs: [10.96.0.80]", "spec.externalIPs would take other people's traffic");
    take_all_hosts_below_a_domain => ingress(&format!("rules: [{{host: '*.atollapps.localhost', {BACKEND}}}]"), "a wildcard host");
    take_all_hosts_below_a_domain_by_a_route => route("hostnames: ['*.atollapps.localhost']", "a wildcard host");
    take_every_host => ingress(&format!("rules: [{{{BACKEND}}}]"), "a rule without a host");
    take_every_host_that_has_no_other => ingress("defaultBackend: {service: {name: a, port: {number: 80}}}", "spec.defaultBackend");
    take_every_host_by_a_route => route("parentRefs: []", "a route without a host");
    take_an_ingress_class_that_the_plan_does_not_allow => {
        door("networking.k8s.io/v1, kind: Ingress", "", &format!("ingressClassName: other, rules: [{{host: a.example, {BACKEND}}}]"), "spec.ingressClassName: name one that the plan allows, of atoll, nginx, and not \"other\"")
    };
    take_an_ingress_class_by_annotation => {
        door("networking.k8s.io/v1, kind: Ingress", ", annotations: {kubernetes.io/ingress.class: other}", &format!("rules: [{{host: a.example, {BACKEND}}}]"), "and not \"other\"")
    };
    attach_to_a_neighbours_gateway => {
        let refs = format!("hostnames: [a.example], parentRefs: [{{name: door, namespace: {}}}]", World::shared().victim.namespace);
        door("gateway.networking.k8s.io/v1, kind: HTTPRoute", "", &refs, "spec.parentRefs: the plan doesn't allow the Gateway vault-")
    };
    attach_to_what_is_no_gateway => {
        let refs = "hostnames: [a.example], parentRefs: [{name: front, kind: Service, group: '', port: 80}]";
        door("gateway.networking.k8s.io/v1, kind: HTTPRoute", "", refs, "spec.parentRefs: a route attaches to Gateways alone")
    };
    be_the_desktop => ingress(&format!("rules: [{{host: atoll.localhost, {BACKEND}}}]"), "belong to the desktop");
    be_the_kubernetes_api_by_a_route => route("hostnames: [api.atoll.localhost]", "belong to the desktop");
}
