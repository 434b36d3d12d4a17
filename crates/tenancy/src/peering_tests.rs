use api::peering::Port;

use super::*;

fn place(owner: &str, name: &str) -> Place {
    Place { owner: owner.into(), namespace: Some(format!("{name}-x")), rests: false }
}

/// A peering with these ports open.
fn spec(with: &str, ports: &[u16]) -> PeeringSpec {
    let ports: Vec<Port> =
        ports.iter().map(|port| Port { port: *port, protocol: Default::default() }).collect();
    let allow = if ports.is_empty() { Vec::new() } else { vec![Allowed { ports, ..Allowed::default() }] };
    PeeringSpec { with: with.into(), allow }
}

/// ada's shop, bob's bank, and eve's den.
fn world() -> Peerings {
    let mut all = Peerings::default();
    for (owner, name) in [("ada", "shop"), ("bob", "bank"), ("eve", "den")] {
        all.set_place(name, place(owner, name));
    }
    all
}

fn open(_: &str) -> bool {
    false
}

/// The namespaces with which a workspace may talk, with `!` where it may reach something.
fn peers(all: &Peerings, name: &str) -> String {
    let peers = all.peers(name, open);
    let told = peers.iter().map(|peer| format!("{}{}", peer.namespace, if peer.is_open { "!" } else { "" }));
    told.collect::<Vec<_>>().join(" ")
}

fn names(concerned: &BTreeSet<String>) -> String {
    concerned.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn agreed() -> Peerings {
    let mut all = world();
    all.set("shop-x", "p", spec("bob/bank", &[]));
    all.set("bank-x", "p", spec("ada/shop", &[443]));
    all
}

#[test]
fn it_takes_both_sides() {
    let mut all = world();
    assert_eq!(names(&all.set("shop-x", "p", spec("bob/bank", &[]))), "bank shop");
    assert_eq!(peers(&all, "shop"), "");
    assert_eq!(peers(&all, "bank"), "");
    // Not by somebody else, and not by their name alone.
    all.set("den-x", "p", spec("ada/shop", &[443]));
    all.set("den-x", "q", spec("bob/bank", &[443]));
    all.set("bank-x", "p", spec("shop", &[443]));
    assert_eq!((peers(&all, "shop"), peers(&all, "bank"), peers(&all, "den")), Default::default());
    assert_eq!(names(&all.set("bank-x", "p", spec("ada/shop", &[443]))), "bank shop");
    assert_eq!(peers(&all, "shop"), "bank-x!");
    assert_eq!(peers(&all, "bank"), "shop-x");
    assert_eq!(peers(&all, "den"), "");
    // Only what the bank allows is opened, and by the bank.
    assert_eq!(annotation(&all.peers("shop", open)), None);
    let told = annotation(&all.peers("bank", open)).unwrap();
    assert_eq!(api::peering::opened(&told)[0].from, "shop-x");
    assert_eq!(api::peering::opened(&told)[0].allow, spec("", &[443]).allow);
}

#[test]
fn it_ends_with_either_side() {
    let check = |what: &str, end: fn(&mut Peerings) -> BTreeSet<String>| {
        let mut all = agreed();
        assert_eq!(names(&end(&mut all)), "bank shop", "{what}");
        assert_eq!((peers(&all, "shop"), peers(&all, "bank")), Default::default(), "{what}");
    };
    check("removed", |all| all.remove("bank-x", "p"));
    check("removed on the other side", |all| all.remove("shop-x", "p"));
    check("with somebody else now", |all| {
        all.set("bank-x", "p", spec("eve/den", &[443])).into_iter().filter(|name| name != "den").collect()
    });
    check("at rest", |all| all.set_place("bank", Place { rests: true, ..place("bob", "bank") }));
    check("at rest on the other side", |all| {
        all.set_place("shop", Place { rests: true, ..place("ada", "shop") })
    });
    check("handed over", |all| all.set_place("bank", place("eve", "bank")));
    check("gone", |all| all.remove_place("bank"));
    check("gone and made anew by somebody else", |all| {
        all.remove_place("bank");
        let new = Place { namespace: Some("bank-y".into()), ..place("eve", "bank") };
        all.set_place("bank", new)
    });
}

#[test]
fn who_is_shut_talks_to_nobody() {
    let all = agreed();
    for shut in ["shop", "bank"] {
        assert!(all.peers("shop", |name| name == shut).is_empty());
        assert!(all.peers("bank", |name| name == shut).is_empty());
    }
    assert_eq!(all.state("bank-x", "p", |name| name == "bank"), Some(State::Rests));
}

#[test]
fn nobody_learns_who_is_there() {
    let told = |change: fn(&mut Peerings)| {
        let mut all = world();
        all.set("shop-x", "p", spec("bob/bank", &[]));
        change(&mut all);
        all.state("shop-x", "p", open).unwrap().told().1
    };
    let plain = told(|_| ());
    assert!(plain.starts_with("it waits for the other side: bob/bank has to make a peering with ada/shop"));
    for (what, change) in [
        ("nobody has it", (|all| drop(all.remove_place("bank"))) as fn(&mut Peerings)),
        ("it is somebody else's", |all| drop(all.set_place("bank", place("eve", "bank")))),
        ("it has no namespace", |all| {
            drop(all.set_place("bank", Place { namespace: None, ..place("bob", "bank") }));
        }),
        ("it agrees with another", |all| drop(all.set("bank-x", "p", spec("eve/den", &[])))),
        ("it agrees and rests", |all| {
            all.set("bank-x", "p", spec("ada/shop", &[]));
            all.set_place("bank", Place { rests: true, ..place("bob", "bank") });
        }),
    ] {
        assert_eq!(told(change), plain, "{what}");
    }
}

#[test]
fn a_peering_says_how_it_is() {
    let mut all = agreed();
    assert_eq!(all.state("shop-x", "p", open), Some(State::InForce("bank-x".into())));
    all.set("shop-x", "own", spec("shop", &[1]));
    all.set("shop-x", "also-own", spec("ada/shop", &[1]));
    for name in ["own", "also-own"] {
        assert_eq!(all.state("shop-x", name, open), Some(State::Itself));
    }
    assert_eq!(peers(&all, "shop"), "bank-x!");
    all.set_place("shop", Place { rests: true, ..place("ada", "shop") });
    assert_eq!(all.state("shop-x", "p", open), Some(State::Rests));
    assert_eq!(all.state("shop-x", "none", open), None);
}

#[test]
fn two_peerings_with_one_add_up() {
    let mut all = agreed();
    all.set("bank-x", "more", spec("ada/shop", &[80]));
    let peers = all.peers("bank", open);
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].allow.len(), 2);
}

#[test]
fn nobody_opens_more_than_there_is_room_for() {
    let mut all = agreed();
    let long = "x".repeat(ROOM / 2);
    let labels = BTreeMap::from([("a".to_owned(), long)]);
    let selector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
        match_labels: Some(labels),
        ..Default::default()
    };
    let large = Allowed { pod_selector: Some(selector), ports: Vec::new() };
    for name in ["q", "r"] {
        let allow = vec![
            large.clone(),
            Allowed { ports: spec("", &[1]).allow[0].ports.clone(), ..Allowed::default() },
        ];
        all.set("bank-x", name, PeeringSpec { with: "ada/shop".into(), allow });
    }
    assert_eq!(all.state("bank-x", "p", open), Some(State::InForce("shop-x".into())));
    assert!(annotation(&all.peers("bank", open)).unwrap().len() < ROOM + 100);
    all.set("bank-x", "z", spec("ada/shop", &[9]));
    assert_eq!(all.state("bank-x", "z", open), Some(State::NoRoom));
}
