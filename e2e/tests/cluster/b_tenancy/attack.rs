//! What attacks share: the people, and taking a protection away.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Cluster, Person, Said, eventually, within};

/// How long the API server may take to notice that a protection has gone or come.
const NOTICED: Duration = Duration::from_secs(60);

/// A workspace with one of each role, and a neighbour.
pub struct World {
    pub cluster: &'static Cluster,
    /// Owns the workspace `lab`.
    pub owner: Person,
    pub manager: Person,
    pub developer: Person,
    pub viewer: Person,
    /// Owns the workspace `vault`, and is nothing in `lab`.
    pub victim: Person,
    /// The namespace of `lab`.
    pub namespace: String,
}

impl World {
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = Cluster::shared();
            let owner = Person::new(cluster, "mallory", "lab");
            let victim = Person::new(cluster, "victor", "vault");
            let [manager, developer, viewer] = [("max", "manager"), ("dev", "developer"), ("vic", "viewer")]
                .map(|(name, role)| {
                    let person = Person::alone(cluster, name);
                    let words = ["workspace", "member", "add", "lab", name, "--role", role];
                    cluster.atoll(&words).ok();
                    person
                });
            let namespace = owner.namespace.clone();
            for person in [&manager, &developer, &viewer] {
                eventually("the member's rights", NOTICED, || {
                    let words = ["auth", "can-i", "list", "pods", "-n", &namespace];
                    let said = person.kubectl(&words);
                    if said.out.starts_with("yes") { Ok(()) } else { Err(format!("{said:?}")) }
                });
            }
            // Quota has no room for them either, which is not what the attacks are about.
            room_for_other_services(cluster, 1);
            Self { cluster, owner, manager, developer, viewer, victim, namespace }
        })
    }

    pub fn leave(&self) {
        room_for_other_services(self.cluster, 0);
        for person in [&self.manager, &self.developer, &self.viewer, &self.owner, &self.victim] {
            person.leave();
        }
    }

    /// kubectl as somebody whom front wouldn't let in under this name.
    pub fn kubectl_as(&self, user: &str, words: &[&str]) -> Said {
        self.cluster.kubectl(&[&["--as", user][..], words].concat())
    }

    /// A pod of the workspace: the rest of its spec and of its container, in YAML.
    pub fn pod(&self, spec: &str, container: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: attack, namespace: {}}}\nspec:\n  {spec}\n  \
             terminationGracePeriodSeconds: 0\n  \
             containers:\n  - name: c\n    image: busybox:1.35\n    command: [sleep, '3600']\n    {container}\n",
            self.namespace
        )
    }
}

/// How many Services of the types NodePort and LoadBalancer the plan has room for.
fn room_for_other_services(cluster: &Cluster, count: u8) {
    let patch = format!(
        r#"{{"spec":{{"hard":{{"services.nodeports":"{count}","services.loadbalancers":"{count}"}}}}}}"#
    );
    cluster.kubectl(&["patch", "plan", "standard", "--type=merge", "-p", &patch]).ok();
}

/// What protects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protection<'a> {
    /// An admission policy, by name.
    Policy(&'a str),
    /// Pod Security in the workspace `lab`.
    PodSecurity,
    /// The webhook that looks up what is named.
    Lookups,
    /// That somebody doesn't have these rights: user, verbs, resources.
    NoRight(&'a str, &'a str, &'a str),
}

impl Protection<'_> {
    fn take(&self, world: &World) {
        match self {
            Self::Policy(name) => enforce(world, name, "Audit"),
            Self::PodSecurity => {
                scale(world, "controller", 0);
                pod_security(world, "privileged");
            }
            Self::Lookups => {
                // It would register itself again.
                scale(world, "admission", 0);
                let words = ["patch", "validatingwebhookconfiguration", "atoll", "--type=merge", "-p"];
                world.cluster.kubectl(&[&words[..], &[r#"{"webhooks":[]}"#]].concat()).ok();
            }
            Self::NoRight(user, verbs, resources) => grant(world, user, verbs, resources),
        }
    }

    fn give_back(&self, world: &World) {
        match self {
            Self::Policy(name) => enforce(world, name, "Deny"),
            Self::PodSecurity => {
                pod_security(world, "baseline");
                scale(world, "controller", 1);
            }
            Self::Lookups => scale(world, "admission", 2),
            Self::NoRight(user, ..) => revoke(world, user),
        }
    }
}

fn enforce(world: &World, policy: &str, action: &str) {
    let patch = format!(r#"{{"spec":{{"validationActions":["{action}"]}}}}"#);
    let words = ["patch", "validatingadmissionpolicybinding", policy, "--type=merge", "-p", &patch];
    world.cluster.kubectl(&words).ok();
}

/// As the controller, which would put it back.
fn pod_security(world: &World, level: &str) {
    let label = format!("pod-security.kubernetes.io/enforce={level}");
    let controller = "system:serviceaccount:atoll-system:controller";
    let words = ["label", "--overwrite", "namespace", &world.namespace, &label];
    let force = "--field-manager=atoll-tenancy";
    world.kubectl_as(controller, &[&words[..], &[force]].concat()).ok();
}

fn scale(world: &World, role: &str, count: u8) {
    let (replicas, deployment) = (format!("--replicas={count}"), format!("deployment/{role}"));
    let words = ["scale", "-n", "atoll-system", &deployment, &replicas];
    world.cluster.kubectl(&words).ok();
    let words = ["rollout", "status", "-n", "atoll-system", &deployment, "--timeout=60s"];
    world.cluster.kubectl(&words).ok();
    // One that is ending still puts right what it sees.
    let label = format!("app={role}");
    eventually(&format!("{role} is there, or gone"), NOTICED, || {
        let words = ["get", "pods", "-n", "atoll-system", "-l", &label, "-o", "name"];
        let pods = world.cluster.kubectl(&words).ok();
        if pods.lines().count() == usize::from(count) { Ok(()) } else { Err(pods) }
    });
}

/// With rights that somebody gave by mistake: the attack is to be refused still.
pub fn even_with(user: &str, verbs: &str, resources: &str, work: impl FnOnce(&World)) {
    let world = World::shared();
    grant(world, user, verbs, resources);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(world)));
    revoke(world, user);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until what refuses is another thing than a missing right.
pub fn with_the_right(attempt: impl Fn() -> Said) {
    eventually("the right is there", NOTICED, || {
        let said = attempt();
        if said.err.contains("cannot ") { Err(format!("{said:?}")) } else { Ok(()) }
    });
}

/// Gives a user rights in every namespace, beside those of their role.
fn grant(world: &World, user: &str, verbs: &str, resources: &str) {
    let name = format!("attack-{}", user.replace(':', "-"));
    let verbs: Vec<String> = verbs.split(',').map(|verb| format!("--verb={verb}")).collect();
    let mut words = vec!["create", "clusterrole", &name];
    words.extend(verbs.iter().map(String::as_str));
    let resources = format!("--resource={resources}");
    words.push(&resources);
    world.cluster.kubectl(&words).ok();
    let (role, user) = (format!("--clusterrole={name}"), format!("--user={user}"));
    world.cluster.kubectl(&["create", "clusterrolebinding", &name, &role, &user]).ok();
}

fn revoke(world: &World, user: &str) {
    let name = format!("attack-{}", user.replace(':', "-"));
    world.cluster.kubectl(&["delete", "clusterrolebinding,clusterrole", &name, "--ignore-not-found"]).ok();
}

/// Gives everything back when a test is over, however it ended.
struct Taken<'a>(&'a World, &'a [Protection<'a>]);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for protection in self.1 {
            protection.give_back(self.0);
        }
    }
}

/// What somebody tries, the reason for which it is refused, and what sees to that.
pub struct Attack<'a> {
    pub attempt: Box<dyn Fn() -> Said + 'a>,
    pub reason: &'a str,
    pub protections: Vec<Protection<'a>>,
}

impl Attack<'_> {
    fn is_refused(&self) -> Result<(), String> {
        let said = (self.attempt)();
        let complaint = format!("{} {}", said.err, said.out);
        if said.code != Some(0) && complaint.contains(self.reason) {
            Ok(())
        } else {
            Err(format!("it should be refused because `{}`: {said:?}", self.reason))
        }
    }

    fn succeeds(&self) -> Result<(), String> {
        let said = (self.attempt)();
        if said.code == Some(0) {
            Ok(())
        } else {
            Err(format!("it should succeed without {:?}: {said:?}", self.protections))
        }
    }
}

/// Each attack is refused for its reason, succeeds without what protects, and is
/// refused again with it. What protects against several is taken away once.
fn try_all(world: &World, attacks: &[Attack<'_>]) -> Vec<Result<(), String>> {
    let mut outcomes: Vec<_> = attacks.iter().map(Attack::is_refused).collect();
    let mut tried: Vec<&[Protection<'_>]> = Vec::new();
    for first in attacks {
        if tried.contains(&first.protections.as_slice()) {
            continue;
        }
        tried.push(&first.protections);
        let _taken = Taken(world, &first.protections);
        for protection in &first.protections {
            protection.take(world);
        }
        for (attack, outcome) in attacks.iter().zip(&mut outcomes) {
            if outcome.is_ok() && attack.protections == first.protections {
                *outcome = within(NOTICED, || attack.succeeds());
            }
        }
    }
    // One of several protections may be back before the others are.
    if attacks.iter().any(|attack| attack.protections.len() > 1) {
        std::thread::sleep(Duration::from_secs(3));
    }
    for (attack, outcome) in attacks.iter().zip(&mut outcomes) {
        if outcome.is_ok() {
            *outcome = within(NOTICED, || attack.is_refused()).map_err(|last| format!("once more: {last}"));
        }
    }
    outcomes
}

/// One attack by itself.
pub fn check(world: &World, reason: &str, protections: &[Protection<'_>], attempt: impl Fn() -> Said) {
    let attack = Attack { attempt: Box::new(attempt), reason, protections: protections.to_vec() };
    for outcome in try_all(world, &[attack]) {
        outcome.unwrap();
    }
}

type Outcomes = BTreeMap<&'static str, Result<(), String>>;

/// Attacks that are tried together, each of them told as a test of its own: taking
/// away and giving back is most of their time.
pub struct Campaign(OnceLock<Outcomes>);

impl Campaign {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// How one of them went; the first that asks has them all tried.
    pub fn tell(&self, name: &str, attacks: fn() -> Vec<(&'static str, Attack<'static>)>) {
        let outcomes = self.0.get_or_init(|| {
            let (names, attacks): (Vec<_>, Vec<_>) = attacks().into_iter().unzip();
            names.into_iter().zip(try_all(World::shared(), &attacks)).collect()
        });
        outcomes[name].clone().unwrap();
    }
}

/// Makes a test of each attack of a [`Campaign`].
macro_rules! campaign {
    ($($(#[$doc:meta])* $name:ident => $attack:expr;)*) => {
        static CAMPAIGN: $crate::b_tenancy::attack::Campaign = $crate::b_tenancy::attack::Campaign::new();

        fn attacks() -> Vec<(&'static str, $crate::b_tenancy::attack::Attack<'static>)> {
            vec![$((stringify!($name), $attack)),*]
        }

        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                CAMPAIGN.tell(stringify!($name), attacks);
            }
        )*
    };
}
pub(super) use campaign;
