//! Which endpoints of a Service are used.

use super::*;

/// A slice of Service `web`, with endpoints as they are written.
fn of(name: &str, endpoints: &str) -> String {
    format!(
        "---\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: a, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: '', port: 80}}]\nendpoints: [{endpoints}]\n"
    )
}

fn used(zone: Option<&str>, slices: &[String]) -> String {
    let table = Arc::new(Table::default());
    let scope = Scope { node_zone: zone.map(str::to_owned), ..Scope::default() };
    let mut world = World { index: Index::new(scope, table.clone()), table };
    world.apply(
        &(ingress("a", "i", 1, "a.example", &["Prefix / web:80"], "") + &service("a", "web", "{port: 80}")),
    );
    for slice in slices {
        world.apply(slice);
    }
    world.ask("GET http://a.example/").replace("a/web:80 ", "").replace("10.0.0.", "").replace(":80", "")
}

#[test]
fn endpoints_on_their_way_out_are_the_last_resort() {
    let check =
        |endpoints: &str, wanted: &str| assert_eq!(used(None, &[of("s", endpoints)]), wanted, "{endpoints}");
    let ready = "{addresses: [10.0.0.1]}";
    let waiting = "{addresses: [10.0.0.2], conditions: {ready: false, serving: false}}";
    let leaving = "{addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}";
    let gone = "{addresses: [10.0.0.4], conditions: {ready: false, serving: false, terminating: true}}";
    check(&[ready, waiting, leaving, gone].join(","), "[1]");
    check(&[waiting, leaving, gone].join(","), "[3]");
    check(&[waiting, gone].join(","), "[]");
    // Over all slices, not in each.
    assert_eq!(used(None, &[of("s", ready), of("t", leaving)]), "[1]");
}

#[test]
fn endpoints_of_the_own_zone_come_first_where_all_say_their_zones() {
    let hinted = |address: u8, zone: &str| {
        format!("{{addresses: [10.0.0.{address}], hints: {{forZones: [{{name: {zone}}}]}}}}")
    };
    let (one, two) = (hinted(1, "x"), hinted(2, "y"));
    let both = [of("s", &one), of("t", &two)];
    assert_eq!(used(Some("x"), &both), "[1]");
    assert_eq!(used(Some("y"), &both), "[2]");
    assert_eq!(used(None, &both), "[1 2]");
    assert_eq!(used(Some("z"), &both), "[1 2]", "nothing is meant for it");
    let plain = of("u", "{addresses: [10.0.0.3]}");
    assert_eq!(used(Some("x"), &[of("s", &one), plain]), "[1 3]", "one doesn't say");
    let leaving = "{addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}";
    assert_eq!(used(Some("x"), &[of("s", &[leaving, &two].join(","))]), "[2]");
}
