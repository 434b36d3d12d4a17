//! What attacks share: the people, and taking a protection away.

use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Cluster, Person, Said, eventually};

/// How long the API server may take to notice that a protection has gone or come.
const NOTICED: Duration = Duration::from_secs(30);

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
            Self { cluster, owner, manager, developer, viewer, victim, namespace }
        })
    }

    pub fn leave(&self) {
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
             containers:\n  - name: c\n    image: busybox:1.35\n    command: [sleep, '3600']\n    {container}\n",
            self.namespace
        )
    }
}

/// What protects.
#[derive(Clone, Copy, Debug)]
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

fn scale(world: &World, role: &str, replicas: u8) {
    let (replicas, deployment) = (format!("--replicas={replicas}"), format!("deployment/{role}"));
    let words = ["scale", "-n", "atoll-system", &deployment, &replicas];
    world.cluster.kubectl(&words).ok();
    let words = ["rollout", "status", "-n", "atoll-system", &deployment, "--timeout=60s"];
    world.cluster.kubectl(&words).ok();
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

fn refused(said: &Said, reason: &str) -> Result<(), String> {
    let complaint = format!("{} {}", said.err, said.out);
    if said.code != Some(0) && complaint.contains(reason) { Ok(()) } else { Err(format!("{said:?}")) }
}

/// An attack is refused for this reason, succeeds without what protects, and is
/// refused again with it.
pub fn check(world: &World, reason: &str, protections: &[Protection<'_>], attempt: impl Fn() -> Said) {
    let first = attempt();
    if let Err(problem) = refused(&first, reason) {
        panic!("it should be refused because `{reason}`: {problem}");
    }
    {
        let taken = Taken(world, protections);
        for protection in protections {
            protection.take(world);
        }
        eventually(&format!("it succeeds without {protections:?}"), NOTICED, || {
            let said = attempt();
            if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
        });
        drop(taken);
    }
    // One of several may be back before the others are.
    if protections.len() > 1 {
        std::thread::sleep(Duration::from_secs(3));
    }
    eventually(&format!("it is refused again with {protections:?}"), NOTICED, || refused(&attempt(), reason));
}
