//! Workspaces below workspaces: who is there, who may put what where, and what stays.

use std::time::Duration;

use super::attack::Protection::{Lookups, Policy};
use super::attack::{Attack, World, campaign, check};
use e2e::{Cluster, Person, Said, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// What the cluster says that a user may do in a namespace.
fn may(cluster: &Cluster, account: &str, verb: &str, resource: &str, namespace: &str) -> bool {
    let user = format!("atoll:{account}");
    let words =
        ["auth", "can-i", verb, resource, "-n", namespace, "--as", &user, "--as-group=atoll:accounts"];
    cluster.kubectl(&words).out.starts_with("yes")
}

fn until(what: &str, wanted: bool, check: impl Fn() -> bool) {
    eventually(what, LIMIT, || if check() == wanted { Ok(()) } else { Err(format!("{}", !wanted)) });
}

fn namespace(cluster: &Cluster, workspace: &str) -> String {
    cluster.kubectl(&["get", "workspace", workspace, "-o", "jsonpath={.status.namespace}"]).ok()
}

fn create(cluster: &Cluster, workspace: &str, owner: &str, parent: &str) {
    cluster.atoll(&["workspace", "create", workspace, "--owner", owner, "--parent", parent]).ok();
}

fn set_parent(who: &Person, workspace: &str, parent: &str) -> Said {
    let patch = format!(r#"{{"spec":{{"parent":{parent}}}}}"#);
    who.kubectl(&["patch", "workspace", workspace, "--type=merge", "--dry-run=server", "-p", &patch])
}

#[test]
fn who_is_a_member_above_is_one_below() {
    let cluster = Cluster::shared();
    let (kai, lea) = (Person::new(cluster, "kai", "kai-root"), Person::alone(cluster, "lea"));
    create(cluster, "kai-team", "kai", "kai-root");
    create(cluster, "kai-leaf", "kai", "kai-team");
    let leaf = namespace(cluster, "kai-leaf");
    // A viewer below by herself, a developer by what is above: the stronger counts.
    cluster.atoll(&["workspace", "member", "add", "kai-leaf", "lea", "--role", "viewer"]).ok();
    until("lea sees the leaf", true, || may(cluster, "lea", "list", "pods", &leaf));
    assert!(!may(cluster, "lea", "create", "pods", &leaf));
    cluster.atoll(&["workspace", "member", "add", "kai-root", "lea", "--role", "developer"]).ok();
    until("lea works in the leaf", true, || may(cluster, "lea", "create", "pods", &leaf));
    eventually("lea is shown all three", LIMIT, || {
        let tree = lea.atoll(&["workspace", "tree"]).ok();
        let names: Vec<&str> = tree
            .lines()
            .filter_map(|line| line.split(" developer of kai").next())
            .map(str::trim_end)
            .collect();
        if names == ["kai-root", "  kai-team", "    kai-leaf"] { Ok(()) } else { Err(tree) }
    });
    lea.kubectl(&["get", "namespace", &leaf]).ok();
    let list = lea.atoll(&["workspace", "list"]).ok();
    assert!(list.lines().any(|line| line.starts_with("kai-leaf") && line.contains("kai-team")), "{list}");
    let members = kai.atoll(&["member", "list", "-w", "kai-team"]).ok();
    assert!(
        members.lines().any(|line| line.starts_with("lea ") && line.contains("(from above)")),
        "{members}"
    );
    // She can't be kept out below by being made less there.
    let words =
        ["patch", "rolebinding", "atoll:developer", "-n", &leaf, "--type=merge", "-p", r#"{"subjects":[]}"#];
    let said = kai.kubectl(&words);
    // Two policies say no; the API server tells of either.
    let reasons = ["is kept by Atoll as the workspace says", "the roles of members are given by"];
    assert!(reasons.iter().any(|reason| said.err.contains(reason)), "{said:?}");
    // A move takes away what came from above, and nothing else.
    kai.atoll(&["workspace", "move", "kai-team", "--root"]).ok();
    until("lea has what she has below", false, || may(cluster, "lea", "create", "pods", &leaf));
    assert!(may(cluster, "lea", "list", "pods", &leaf));
    until("lea isn't shown the team", false, || lea.atoll(&["workspace", "tree"]).ok().contains("kai-team"));
    kai.atoll(&["workspace", "move", "kai-team", "--parent", "kai-root"]).ok();
    until("lea works in the leaf again", true, || may(cluster, "lea", "create", "pods", &leaf));
    cluster.atoll(&["workspace", "member", "remove", "kai-root", "lea"]).ok();
    until("revoked above, revoked below", false, || may(cluster, "lea", "create", "pods", &leaf));
    // A subtree goes as one.
    let said = cluster.atoll(&["workspace", "delete", "--now", "kai-root"]);
    assert!(said.err.contains("`kai-team` is below `kai-root`"), "{said:?}");
    cluster.atoll(&["workspace", "delete", "--now", "kai-team", "--subtree"]).ok();
    let left = cluster.kubectl(&["get", "workspaces", "-o", "name"]).ok();
    assert!(left.contains("kai-root") && !left.contains("kai-team") && !left.contains("kai-leaf"), "{left}");
    kai.leave();
    lea.leave();
}

#[test]
fn a_plan_above_holds_below() {
    let cluster = Cluster::shared();
    let mia = Person::new(cluster, "mia", "mia-root");
    create(cluster, "mia-leaf", "mia", "mia-root");
    let leaf = namespace(cluster, "mia-leaf");
    let words = ["plan", "set", "narrow", "--registries", "docker.io/library", "--storage-classes", "local"];
    cluster.atoll(&words).ok();
    let tells = |wanted: &str| {
        eventually(wanted, LIMIT, || {
            let path = "jsonpath={.metadata.annotations.policy\\.atoll\\.dev/registries}";
            let said = cluster.kubectl(&["get", "namespace", &leaf, "-o", path]).ok();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    tells("*");
    cluster.atoll(&["workspace", "plan", "mia-root", "narrow"]).ok();
    tells("docker.io/library");
    let path = "jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
    assert_eq!(cluster.kubectl(&["get", "namespace", &leaf, "-o", path]).ok(), "restricted");
    cluster.atoll(&["workspace", "plan", "mia-root", "standard"]).ok();
    tells("*");
    cluster.atoll(&["workspace", "delete", "--now", "mia-leaf"]).ok();
    mia.leave();
    cluster.atoll(&["plan", "delete", "narrow"]).ok();
}

/// What is refused because of what is looked up.
fn looked_up(reason: &'static str, attempt: fn(&World) -> Said) -> Attack<'static> {
    Attack { attempt: Box::new(move || attempt(World::shared())), reason, protections: vec![Lookups] }
}

campaign! {
    be_below_a_neighbour_who_did_not_agree => looked_up("has not accepted `mallory/lab` below it", |world| {
        set_parent(&world.owner, "lab", r#""victor/vault""#)
    });
    name_a_member_who_does_not_exist => looked_up("spec.account: there is no account `nobody`", |world| {
        world.owner.tries(&format!(
            "{{apiVersion: atoll.dev/v1alpha1, kind: Member, metadata: {{name: nobody, namespace: {}}}, \
             spec: {{account: nobody, role: viewer}}}}",
            world.namespace
        ))
    });
}

#[test]
fn learn_by_a_parent_what_a_neighbour_has() {
    let world = World::shared();
    // Of one that isn't there the same is said.
    let there = set_parent(&world.owner, "lab", r#""victor/vault""#).err;
    let nowhere = set_parent(&world.owner, "lab", r#""victor/nowhere""#).err;
    assert_eq!(there, nowhere.replace("nowhere", "vault"));
    // Nor by naming it as one's own, which isn't there.
    let said = set_parent(&world.owner, "lab", r#""vault""#);
    assert!(said.err.contains("mallory has no workspace `vault`"), "{said:?}");
    let said = set_parent(&world.owner, "lab", r#""Vault/""#);
    assert!(said.err.contains("spec.parent"), "{said:?}");
}

#[test]
fn be_above_a_neighbour_who_did_not_agree() {
    let world = World::shared();
    // Accepting who doesn't ask gives nothing.
    world.owner.atoll(&["workspace", "accept", "lab", "victor/vault"]).ok();
    let vault = world.victim.namespace.as_str();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!may(world.cluster, "mallory", "list", "pods", vault));
    world.owner.atoll(&["workspace", "release", "lab", "victor/vault"]).ok();
    let patch = r#"{"spec":{"parent":"mallory/lab"}}"#;
    let words = ["patch", "workspace", "vault", "--type=merge", "--dry-run=server", "-p", patch];
    let said = world.owner.kubectl(&words);
    assert!(said.err.contains("NotFound"), "{said:?}");
}

#[test]
fn make_a_circle() {
    let world = World::shared();
    create(world.cluster, "lab-two", "mallory", "lab");
    let outcome = std::panic::catch_unwind(|| {
        check(world, "(lab below lab-two below lab)", &[Lookups], || {
            set_parent(&world.owner, "lab", r#""lab-two""#)
        });
        let said = set_parent(&world.owner, "lab", r#""lab""#);
        assert!(said.err.contains("(lab below lab)"), "{said:?}");
    });
    world.cluster.atoll(&["workspace", "delete", "--now", "lab-two"]).ok();
    outcome.unwrap();
}

/// So many workspaces of mallory's, each below the one before, or below none.
fn chain(world: &World, first: &str, count: usize, linked: bool) -> String {
    let workspace = |level: usize| {
        let above = level.checked_sub(1).filter(|_| linked);
        let above = above.map(|above| format!(", parent: {first}{above}")).unwrap_or_default();
        format!(
            "{{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {{name: {first}{level}}}, \
             spec: {{owner: mallory{above}}}}}"
        )
    };
    let all = (0..count).map(workspace).collect::<Vec<_>>().join("\n---\n");
    let file = world.owner.file(&format!("{first}.yaml"), &all);
    world.cluster.kubectl(&["apply", "-f", &file]).ok();
    file
}

/// What is too far down would have nothing above it that holds.
#[test]
fn sink_a_subtree_out_of_reach_of_what_is_above_it() {
    let world = World::shared();
    world.cluster.atoll(&["account", "limit", "mallory", "300"]).ok();
    chain(world, "lab-high", 66, true);
    chain(world, "lab-low", 66, true);
    let outcome = std::panic::catch_unwind(|| {
        check(world, "spec.parent: what is below would have 131 levels above it", &[Lookups], || {
            set_parent(&world.owner, "lab-low0", r#""lab-high65""#)
        });
        set_parent(&world.owner, "lab-low0", r#""lab-high62""#).ok();
    });
    // One that has others below it isn't deleted.
    for first in ["lab-high", "lab-low"] {
        let file = chain(world, first, 66, false);
        eventually("the workspaces can go", LIMIT, || {
            let said = world.cluster.kubectl(&["delete", "--ignore-not-found", "--wait=false", "-f", &file]);
            if said.code == Some(0) { Ok(()) } else { Err(said.err) }
        });
    }
    outcome.unwrap();
}

#[test]
fn take_a_parent_from_its_children() {
    let world = World::shared();
    create(world.cluster, "lab-low", "mallory", "lab");
    let outcome = std::panic::catch_unwind(|| {
        let words = ["delete", "workspace", "lab", "--dry-run=server"];
        eventually("the child is counted", LIMIT, || {
            let said = world.owner.kubectl(&words);
            if said.code == Some(0) { Err("it isn't".into()) } else { Ok(()) }
        });
        check(world, "the workspace lab has 1 below it", &[Policy("atoll-in-use")], || {
            world.owner.kubectl(&words)
        });
    });
    world.cluster.atoll(&["workspace", "delete", "--now", "lab-low"]).ok();
    outcome.unwrap();
}

#[test]
fn leave_anothers_parent_without_being_let_go() {
    let world = World::shared();
    let cluster = world.cluster;
    let pam = Person::new(cluster, "pam", "pam-root");
    pam.atoll(&["workspace", "accept", "pam-root", "mallory/lab"]).ok();
    world.owner.atoll(&["workspace", "move", "lab", "--parent", "pam/pam-root"]).ok();
    until("pam manages the lab", true, || {
        may(cluster, "pam", "create", "members.atoll.dev", &world.namespace)
    });
    assert!(!may(cluster, "pam", "appoint-owner", "members.atoll.dev", &world.namespace));
    // Its own owner is nothing above.
    assert!(!may(cluster, "mallory", "list", "pods", &pam.namespace));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(world, "spec.parent: `pam/pam-root` is above this workspace", &[Lookups], || {
            set_parent(&world.owner, "lab", "null")
        });
    }));
    pam.atoll(&["workspace", "release", "pam-root", "mallory/lab"]).ok();
    until("pam is nothing in the lab", false, || may(cluster, "pam", "list", "pods", &world.namespace));
    let path = "jsonpath={.status.conditions[?(@.type=='Parent')].reason}";
    eventually("the lab says so", LIMIT, || {
        let said = cluster.kubectl(&["get", "workspace", "lab", "-o", path]).ok();
        if said == "NotAccepted" { Ok(()) } else { Err(said) }
    });
    world.owner.atoll(&["workspace", "move", "lab", "--root"]).ok();
    pam.leave();
    outcome.unwrap();
}

#[test]
fn what_others_own_stays_when_a_subtree_goes() {
    let cluster = Cluster::shared();
    let mut ria = Person::new(cluster, "ria", "ria-root");
    let sam = Person::new(cluster, "sam", "sam-shop");
    ria.atoll(&["workspace", "accept", "ria-root", "sam/sam-shop"]).ok();
    sam.atoll(&["workspace", "move", "sam-shop", "--parent", "ria/ria-root"]).ok();
    until("ria manages sam's", true, || may(cluster, "ria", "list", "pods", &sam.namespace));
    let said = cluster.atoll(&["workspace", "delete", "--now", "ria-root", "--subtree"]).ok();
    assert!(said.contains("sam/sam-shop stays"), "{said}");
    until("ria is nothing there", false, || may(cluster, "ria", "list", "pods", &sam.namespace));
    sam.kubectl(&["get", "pods", "-n", &sam.namespace]).ok();
    // One of that name that somebody else makes is not the same.
    let tia = Person::new(cluster, "tia", "ria-root");
    tia.atoll(&["workspace", "accept", "ria-root", "sam/sam-shop"]).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!may(cluster, "tia", "list", "pods", &sam.namespace));
    sam.atoll(&["workspace", "move", "sam-shop", "--root"]).ok();
    ria.workspace.clear();
    for person in [&ria, &sam, &tia] {
        person.leave();
    }
}
