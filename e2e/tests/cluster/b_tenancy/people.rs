//! Taking, giving and keeping roles that aren't one's own.

use super::attack::Protection::{Lookups, NoRight, Policy};
use super::attack::{World, check, even_with, with_the_right};

fn member(namespace: &str, account: &str, role: &str) -> String {
    format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Member, metadata: {{name: {account}, namespace: {namespace}}}, \
         spec: {{account: {account}, role: {role}}}}}"
    )
}

const CANT_GIVE: &str = "who may not appoint the role manager can't give it";
const CANT_TAKE: &str = "who may not appoint the role manager can't take it";

#[test]
fn appoint_managers_as_a_manager() {
    let world = World::shared();
    let manifest = member(&world.namespace, "victor", "manager");
    world.owner.tries(&manifest).ok();
    check(world, CANT_GIVE, &[Policy("atoll-members")], || world.manager.tries(&manifest));
    // What is theirs to give they can.
    world.manager.tries(&member(&world.namespace, "victor", "developer")).ok();
}

#[test]
fn appoint_members_as_a_developer() {
    let world = World::shared();
    let manifest = member(&world.namespace, "victor", "viewer");
    let right = NoRight("atoll:dev", "create", "members.atoll.dev");
    check(world, "cannot create resource \"members\"", &[right, Policy("atoll-members")], || {
        world.developer.tries(&manifest)
    });
}

#[test]
fn be_a_second_owner() {
    let world = World::shared();
    let said = world.owner.tries(&member(&world.namespace, "victor", "owner"));
    assert!(said.err.contains("a workspace has one owner"), "{said:?}");
}

#[test]
fn remove_a_manager_as_a_developer() {
    let world = World::shared();
    let words = ["delete", "member", "max", "-n", &world.namespace, "--dry-run=server"];
    check(world, CANT_TAKE, &[Policy("atoll-members")], || world.developer.kubectl(&words));
    // Everybody may leave.
    let words = ["delete", "member", "dev", "-n", &world.namespace, "--dry-run=server"];
    world.developer.kubectl(&words).ok();
}

#[test]
fn make_oneself_more_than_one_is() {
    let world = World::shared();
    let patch = r#"{"spec":{"role":"manager"}}"#;
    let words =
        ["patch", "member", "dev", "-n", &world.namespace, "--type=merge", "--dry-run=server", "-p", patch];
    check(world, CANT_GIVE, &[Policy("atoll-members")], || world.manager.kubectl(&words));
}

#[test]
fn make_a_manager_less_than_they_are() {
    let world = World::shared();
    let patch = r#"{"spec":{"role":"viewer"}}"#;
    let words =
        ["patch", "member", "max", "-n", &world.namespace, "--type=merge", "--dry-run=server", "-p", patch];
    check(world, CANT_TAKE, &[Policy("atoll-members")], || world.manager.kubectl(&words));
}

fn change(who: &e2e::Person, patch: &str) -> e2e::Said {
    who.kubectl(&["patch", "workspace", "lab", "--type=merge", "--dry-run=server", "-p", patch])
}

#[test]
fn take_the_workspace_as_its_manager() {
    let world = World::shared();
    let patch = r#"{"spec":{"owner":"max"}}"#;
    check(world, "a workspace is changed by its owner", &[Policy("atoll-workspaces")], || {
        change(&world.manager, patch)
    });
}

#[test]
fn give_the_workspace_and_its_bill_to_who_does_not_agree() {
    let world = World::shared();
    let patch = r#"{"spec":{"owner":"victor"}}"#;
    check(world, "a workspace is handed over by", &[Policy("atoll-workspaces")], || {
        change(&world.owner, patch)
    });
}

#[test]
fn change_a_neighbours_workspace() {
    let world = World::shared();
    let words = [
        "patch",
        "workspace",
        "vault",
        "--type=merge",
        "--dry-run=server",
        "-p",
        r#"{"spec":{"displayName":"x"}}"#,
    ];
    // Front says what it says of one that isn't there.
    let said = world.owner.kubectl(&words);
    let nowhere = world.owner.kubectl(&[&["patch", "workspace", "nowhere"][..], &words[3..]].concat());
    assert!(said.err.contains("NotFound") && nowhere.err.replace("nowhere", "vault") == said.err, "{said:?}");
    // Without front, the policy refuses.
    let words = [&words[..], &["--as-group=atoll:accounts"]].concat();
    even_with("atoll:mallory", "get", "workspaces.atoll.dev", |world| {
        with_the_right(|| world.kubectl_as("atoll:mallory", &words));
        check(world, "a workspace is changed by its owner", &[Policy("atoll-workspaces")], || {
            world.kubectl_as("atoll:mallory", &words)
        });
    });
}

#[test]
fn resume_a_suspended_workspace() {
    let world = World::shared();
    let reason = "spec.suspended: whether a workspace is suspended";
    check(world, reason, &[Policy("atoll-workspaces")], || {
        change(&world.owner, r#"{"spec":{"suspended":true}}"#)
    });
}

fn workspace(name: &str, labels: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Workspace, metadata: {{name: {name}, labels: {{{labels}}}}}, \
         spec: {{{spec}}}}}"
    )
}

#[test]
fn make_a_workspace_and_another_pay_for_it() {
    let world = World::shared();
    world.owner.tries(&workspace("mine", "", "owner: mallory")).ok();
    let manifest = workspace("mine", "", "owner: victor");
    let reason = "spec.owner: a workspace is made by who is to own it";
    check(world, reason, &[Policy("atoll-workspaces")], || world.owner.tries(&manifest));
}

#[test]
fn choose_a_plan_for_a_new_workspace() {
    let world = World::shared();
    let manifest = workspace("mine", "", "owner: mallory, plan: standard");
    let reason = "spec.plan: which plan a workspace has";
    check(world, reason, &[Policy("atoll-workspaces")], || world.owner.tries(&manifest));
}

#[test]
fn make_a_workspace_that_is_shown_to_a_neighbour() {
    let world = World::shared();
    let manifest = workspace("mine", "atoll.dev/workspace: vault", "owner: mallory");
    let reason = "metadata: labels of atoll.dev and finalizers are set by Atoll";
    check(world, reason, &[Policy("atoll-workspaces")], || world.owner.tries(&manifest));
}

#[test]
fn make_more_workspaces_than_they_may_own() {
    let world = World::shared();
    world.cluster.atoll(&["account", "limit", "mallory", "1"]).ok();
    let outcome = std::panic::catch_unwind(|| {
        let manifest = workspace("mine", "", "owner: mallory");
        check(world, "and may own 1: delete one", &[Lookups], || world.owner.tries(&manifest));
    });
    world.cluster.atoll(&["account", "limit", "mallory", "10"]).ok();
    outcome.unwrap();
}

#[test]
fn make_a_workspace_of_nobody() {
    let world = World::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workspace.yaml");
    std::fs::write(&file, workspace("mine", "", "owner: nobody-at-all")).unwrap();
    let words = ["create", "--dry-run=server", "-f", file.to_str().unwrap()];
    let reason = "spec.owner: there is no account `nobody-at-all`";
    check(world, reason, &[Lookups], || world.cluster.kubectl(&words));
}

#[test]
fn make_a_workspace_whose_name_makes_no_namespace() {
    let world = World::shared();
    let names = ["a".repeat(57), "a.b".into(), "'2'".into()];
    for name in &names[1..] {
        let said = world.owner.tries(&workspace(name, "", "owner: mallory"));
        assert!(said.err.contains("metadata.name: a workspace's name has at most 56"), "{said:?}");
    }
    let manifest = workspace(&names[0], "", "owner: mallory");
    let reason = "metadata.name: a workspace's name has at most 56";
    check(world, reason, &[Policy("atoll-names")], || world.owner.tries(&manifest));
}

fn invitation(role: &str, days: u32) -> String {
    let words = ["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("+{days} days")];
    let expires = e2e::run(std::process::Command::new("date").args(words)).ok();
    format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Invitation, metadata: {{name: attack, namespace: {}}}, spec: \
         {{role: {role}, expires: '{}', tokenHash: {}}}}}",
        World::shared().namespace,
        expires.trim(),
        "a".repeat(64)
    )
}

#[test]
fn invite_an_owner_as_a_manager() {
    let world = World::shared();
    world.owner.tries(&invitation("owner", 1)).ok();
    check(world, "who may not appoint the role owner can't give it", &[Policy("atoll-members")], || {
        world.manager.tries(&invitation("owner", 1))
    });
}

#[test]
fn invite_for_ever() {
    let world = World::shared();
    world.manager.tries(&invitation("viewer", 29)).ok();
    check(world, "an invitation is good for at most thirty days", &[Policy("atoll-members")], || {
        world.manager.tries(&invitation("viewer", 31))
    });
}

#[test]
fn accept_for_somebody_else() {
    let world = World::shared();
    let manifest = format!(
        "{{apiVersion: atoll.dev/v1alpha1, kind: Acceptance, metadata: {{name: {}}}, spec: {{account: victor}}}}",
        "a".repeat(64)
    );
    check(world, "nobody accepts an invitation for somebody else", &[Policy("atoll-acceptances")], || {
        world.owner.tries(&manifest)
    });
}

#[test]
fn find_acceptances_of_others() {
    let world = World::shared();
    let right = NoRight("atoll:mallory", "list", "acceptances.atoll.dev");
    check(world, "cannot list resource \"acceptances\"", &[right], || {
        world.owner.kubectl(&["get", "acceptances"])
    });
}

#[test]
fn take_a_plan_away_that_is_in_use() {
    let world = World::shared();
    let words = ["delete", "plan", "standard", "--dry-run=server"];
    check(world, "the plan standard is in use by", &[Policy("atoll-in-use")], || {
        world.cluster.kubectl(&words)
    });
    let words = ["delete", "account", "mallory", "--dry-run=server"];
    check(world, "mallory owns 1 workspaces", &[Policy("atoll-in-use")], || world.cluster.kubectl(&words));
}
