//! A cluster of a test's own: interrupted, continued, removed.

use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Cluster, Guard, run};

#[test]
fn an_interrupted_up_is_continued_and_removed() {
    let cluster = Cluster::named("interrupted");
    let _guard = Guard(cluster.clone());
    for pause in [1500, 6000] {
        let mut child = cluster
            .command(&["up", "--image", "atoll/cluster"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        run(Command::new("kill").args(["-INT", &child.id().to_string()])).ok();
        assert!(!child.wait().unwrap().success());
    }
    cluster.atoll(&["up"]).ok();
    assert_eq!(cluster.status()["ready"], true);
    cluster.atoll(&["down"]).ok();
    assert!(!cluster.directory().exists());
}
