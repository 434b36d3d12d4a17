//! What is to be done so that nothing runs in a workspace, and so that what ran
//! runs again. Pure: what is there goes in, steps come out; they are taken and it is
//! asked again, until there are none.
//!
//! Nothing is scaled, so nothing has to be remembered of that and no autoscaler
//! disagrees: pods wait at a gate, which admission puts before each new one. Pods
//! that something keeps are deleted and come back waiting. A pod that nothing keeps
//! is written down first, as a PodTemplate, and made again from that.

use api::names::SUSPENDED_GATE;
use serde_json::{Value, json};

/// Annotation on a Job or CronJob that was suspended with its workspace, and not by
/// its people.
pub const WITH_WORKSPACE: &str = "atoll.dev/suspended-with-workspace";

/// What is in a workspace's namespace.
#[derive(Clone, Debug, Default)]
pub struct There {
    /// All pods.
    pub pods: Vec<Value>,
    /// The pods that were written down.
    pub templates: Vec<Value>,
    /// Jobs.
    pub jobs: Vec<Value>,
    /// CronJobs.
    pub cron_jobs: Vec<Value>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write a pod down, as this PodTemplate.
    Keep(Value),
    /// Delete the pod of this name and uid.
    Delete(String, String),
    /// Make this pod again.
    Remake(Value),
    /// Delete the PodTemplate of this name.
    Forget(String),
    /// Let the pod of this name pass the gate.
    Pass(String),
    /// Change the Job or CronJob of this name: whether it is a Job, and the patch.
    Change(bool, String, Value),
}

/// What is to be done next.
pub fn steps(suspended: bool, there: &There) -> Vec<Step> {
    let mut steps = Vec::new();
    for (is_job, all) in [(true, &there.jobs), (false, &there.cron_jobs)] {
        steps.extend(all.iter().filter_map(|job| of_job(suspended, is_job, job)));
    }
    for template in &there.templates {
        let name = name(template);
        match there.pods.iter().find(|pod| self::name(pod) == name) {
            None => steps.push(Step::Remake(from_template(template))),
            // The old one, which is still being deleted, keeps the name.
            Some(pod) if is_going(pod) || (suspended && !waits(pod)) => {}
            Some(_) => steps.push(Step::Forget(name.to_owned())),
        }
    }
    for pod in there.pods.iter().filter(|pod| !is_going(pod)) {
        if suspended {
            steps.extend(stop(pod, &there.templates));
        } else if waits(pod) {
            steps.push(Step::Pass(name(pod).to_owned()));
        }
    }
    steps
}

fn stop(pod: &Value, templates: &[Value]) -> Vec<Step> {
    let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if waits(pod) || is_over {
        return Vec::new();
    }
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let keeper = owners.and_then(|owners| owners.iter().find(|owner| owner["controller"] == true));
    let delete = Step::Delete(name(pod).to_owned(), text(&pod["metadata"]["uid"]).to_owned());
    match keeper {
        // A suspended Job takes its pods back itself, without counting them as failed.
        Some(keeper) if keeper["kind"] == "Job" => Vec::new(),
        Some(_) => vec![delete],
        None if templates.iter().any(|template| name(template) == name(pod)) => vec![delete],
        None => vec![Step::Keep(to_template(pod)), delete],
    }
}

fn of_job(suspended: bool, is_job: bool, job: &Value) -> Option<Step> {
    let rests = job["spec"]["suspend"] == true;
    let with_workspace = job["metadata"]["annotations"].get(WITH_WORKSPACE).is_some();
    let over = |condition: &Value| {
        condition["status"] == "True" && matches!(condition["type"].as_str(), Some("Complete" | "Failed"))
    };
    let is_over = job["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(over));
    let patch = match (suspended, rests, with_workspace) {
        (true, false, _) if !is_over => json!({
            "metadata": { "annotations": { WITH_WORKSPACE: "true" } }, "spec": { "suspend": true },
        }),
        (false, _, true) => json!({
            "metadata": { "annotations": { WITH_WORKSPACE: null } }, "spec": { "suspend": false },
        }),
        _ => return None,
    };
    Some(Step::Change(is_job, name(job).to_owned(), patch))
}

/// What is kept of a pod that nothing else keeps.
fn to_template(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    if let Value::Object(spec) = &mut spec {
        // What was decided for this one, and what a new pod can't have.
        for field in ["nodeName", "priority", "preemptionPolicy", "ephemeralContainers", "schedulingGates"] {
            spec.remove(field);
        }
    }
    let kept = |field: &str| pod["metadata"].get(field).cloned().unwrap_or_else(|| json!({}));
    let owners = pod["metadata"].get("ownerReferences").cloned().unwrap_or_else(|| json!([]));
    json!({
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": { "name": name(pod), "labels": { crate::desired::MANAGED_LABEL: "true" }, "ownerReferences": owners },
        "template": { "metadata": { "labels": kept("labels"), "annotations": kept("annotations") }, "spec": spec },
    })
}

fn from_template(template: &Value) -> Value {
    let metadata = &template["template"]["metadata"];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(template),
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
            "ownerReferences": template["metadata"]["ownerReferences"],
        },
        "spec": template["template"]["spec"],
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

fn waits(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().into_iter().flatten().any(|gate| gate["name"] == SUSPENDED_GATE)
}

fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small cluster: what its controllers and its API server would do.
    #[derive(Default)]
    struct World {
        there: There,
        suspended: bool,
        made: u32,
    }

    impl World {
        fn pod(&mut self, name: &str, keeper: Option<&str>) {
            self.made += 1;
            let mut pod = json!({
                "metadata": { "name": name, "uid": format!("u{}", self.made), "labels": { "app": "x" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            });
            if let Some(kind) = keeper {
                pod["metadata"]["ownerReferences"] = json!([{ "kind": kind, "controller": true }]);
            }
            self.make(pod);
        }

        /// As the API server does with admission before it.
        fn make(&mut self, mut pod: Value) {
            if self.suspended {
                pod["spec"]["schedulingGates"] = json!([{ "name": "theirs" }, { "name": SUSPENDED_GATE }]);
            } else {
                pod["spec"]["nodeName"] = "n".into();
                pod["status"] = json!({ "phase": "Running" });
            }
            self.there.pods.push(pod);
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Keep(template) => self.there.templates.push(template),
                Step::Delete(name, _) => {
                    let at = self.there.pods.iter().position(|pod| self::name(pod) == name).unwrap();
                    let gone = self.there.pods.remove(at);
                    let owners = gone["metadata"]["ownerReferences"].as_array();
                    if owners.is_some_and(|owners| !owners.is_empty()) {
                        self.pod(&format!("{name}x"), Some("ReplicaSet"));
                    }
                }
                Step::Remake(pod) => self.make(pod),
                Step::Forget(name) => self.there.templates.retain(|template| self::name(template) != name),
                Step::Pass(name) => {
                    let pod = self.there.pods.iter_mut().find(|pod| self::name(pod) == name).unwrap();
                    pod["spec"]["schedulingGates"].as_array_mut().unwrap().remove(1);
                }
                Step::Change(is_job, name, patch) => {
                    let all = if is_job { &mut self.there.jobs } else { &mut self.there.cron_jobs };
                    let job = all.iter_mut().find(|job| self::name(job) == name).unwrap();
                    job["spec"]["suspend"] = patch["spec"]["suspend"].clone();
                    job["metadata"]["annotations"] = match &patch["metadata"]["annotations"][WITH_WORKSPACE] {
                        Value::Null => json!({}),
                        value => json!({ WITH_WORKSPACE: value }),
                    };
                }
            }
        }

        /// Takes steps until there are none; `stop` ends after that many, as a crash.
        fn settle(&mut self, stop: usize) -> bool {
            let mut taken = 0;
            loop {
                let steps = steps(self.suspended, &self.there);
                if steps.is_empty() {
                    return true;
                }
                for step in steps {
                    if taken == stop {
                        return false;
                    }
                    taken += 1;
                    assert!(taken < 1000, "it never settles");
                    self.take(step);
                }
            }
        }

        fn running(&self) -> Vec<&str> {
            self.there.pods.iter().filter(|pod| !waits(pod)).map(name).collect()
        }
    }

    fn world() -> World {
        let mut world = World::default();
        world.pod("kept", Some("ReplicaSet"));
        world.pod("bare", None);
        world.there.jobs = vec![
            json!({ "metadata": { "name": "runs" }, "spec": {} }),
            json!({ "metadata": { "name": "theirs" }, "spec": { "suspend": true } }),
            json!({ "metadata": { "name": "over" }, "spec": {},
                    "status": { "conditions": [{ "type": "Complete", "status": "True" }] } }),
        ];
        world.there.cron_jobs =
            vec![json!({ "metadata": { "name": "daily" }, "spec": { "suspend": false } })];
        world
    }

    #[test]
    fn nothing_runs_and_then_everything_does_again() {
        let mut world = world();
        world.suspended = true;
        assert!(world.settle(usize::MAX));
        assert_eq!(world.running(), Vec::<&str>::new());
        assert_eq!(world.there.pods.len(), 2);
        assert!(world.there.templates.is_empty());
        let rests = |world: &World| -> Vec<bool> {
            world
                .there
                .jobs
                .iter()
                .chain(&world.there.cron_jobs)
                .map(|job| job["spec"]["suspend"] == true)
                .collect()
        };
        assert_eq!(rests(&world), [true, true, false, true]);
        world.suspended = false;
        assert!(world.settle(usize::MAX));
        assert_eq!(world.running(), ["keptx", "bare"]);
        // What its people had suspended stays so.
        assert_eq!(rests(&world), [false, true, false, false]);
    }

    #[test]
    fn it_is_carried_on_wherever_it_was_interrupted() {
        for first in 0..12 {
            for second in 0..12 {
                let mut world = world();
                world.suspended = true;
                world.settle(first);
                world.suspended = false;
                world.settle(second);
                world.suspended = true;
                assert!(world.settle(usize::MAX));
                assert!(world.running().is_empty(), "{first} {second}");
                world.suspended = false;
                assert!(world.settle(usize::MAX));
                let bare = world.there.pods.iter().filter(|pod| name(pod) == "bare").count();
                assert_eq!((bare, world.there.pods.len()), (1, 2), "{first} {second}");
            }
        }
    }

    #[test]
    fn a_pod_is_kept_as_it_was_asked_for() {
        let pod = json!({
            "metadata": { "name": "bare", "uid": "u", "labels": { "a": "b" } },
            "spec": { "nodeName": "n", "priority": 0, "containers": [{ "name": "c" }] },
            "status": { "phase": "Running" },
        });
        let again = from_template(&to_template(&pod));
        assert_eq!(again["spec"], json!({ "containers": [{ "name": "c" }] }));
        assert_eq!(again["metadata"]["labels"], json!({ "a": "b" }));
        assert!(again["metadata"].get("uid").is_none() && again.get("status").is_none());
    }

    #[test]
    fn a_jobs_pods_are_the_jobs_to_take_back() {
        let mut world = World { suspended: false, ..World::default() };
        world.pod("of-a-job", Some("Job"));
        assert!(steps(true, &world.there).is_empty());
    }
}
