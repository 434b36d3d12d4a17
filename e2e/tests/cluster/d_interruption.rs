//! A cluster of a test's own: interrupted, continued, removed.

use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Cluster, Guard, run};

#[test]
fn an_interrupted_up_is_continued_and_removed() {
    let cluster = Cluster::named("interrupted");
    let _guard = Guard(cluster.clone());
    for pause in [1500, 6000] {
        let up = cluster.command(&["up", "--image", "atoll/cluster"]);
        // A shell starts what runs in its background deaf to Ctrl-C, and whoever
        // runs these tests may be one.
        let mut child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(up.get_program())
            .args(up.get_args())
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
