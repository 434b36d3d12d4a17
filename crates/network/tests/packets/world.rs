//! A node in namespaces of its own: pods on point-to-point links as CNI's ptp
//! plugin makes them, a service, and an internet of one host. All of it goes
//! with the thread that made it.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use network::{Config, DesiredState, NodeState, Owner, PodState, Protocol};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use serde_json::{Value, json};

/// How long is waited for what should not arrive.
pub const BRIEFLY: Duration = Duration::from_millis(300);
/// How long is waited for what should: the machine may be busy.
pub const PATIENTLY: Duration = Duration::from_secs(5);

/// A network namespace that is open.
pub struct Namespace {
    name: &'static str,
    file: File,
}

impl Namespace {
    /// A new one.
    pub fn new(name: &'static str) -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: run these tests as root");
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        let namespace = Self { name, file };
        namespace.command("ip link set lo up");
        namespace
    }

    /// Runs something in it. What it opens stays there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|_| panic!("in {}", self.name))
        })
    }

    pub fn command(&self, words: &str) -> String {
        self.enter(|| command(words, ""))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

fn command(words: &str, input: &str) -> String {
    let mut words = words.split_whitespace();
    let mut child = Command::new(words.next().unwrap())
        .args(words.clone())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Who it is to the cluster.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub namespace: &'static str,
    pub number: u8,
}

pub const RED: Kind = Kind { name: "red", namespace: "red-abcdef", number: 11 };
pub const RED_TWO: Kind = Kind { name: "red-two", namespace: "red-abcdef", number: 12 };
pub const BLUE: Kind = Kind { name: "blue", namespace: "blue-ghijkl", number: 13 };
pub const DNS: Kind = Kind { name: "dns", namespace: "kube-system", number: 14 };
/// On a link, but unknown to the API server and to the plugin.
pub const STRAY: Kind = Kind { name: "stray", namespace: "none", number: 15 };

/// A pod.
pub struct Pod {
    pub kind: Kind,
    pub namespace: Namespace,
    pub interface: String,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

impl Pod {
    pub fn uid(&self) -> String {
        format!("uid-of-{}", self.kind.name)
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.v4, port)
    }

    pub fn at6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.v6, port)
    }
}

/// The node, and around it the world.
pub struct World {
    pub red: Pod,
    pub red_two: Pod,
    pub blue: Pod,
    pub dns: Pod,
    pub stray: Pod,
    pub internet: Namespace,
    pub host: Namespace,
    pub config: Config,
    _folder: tempfile::TempDir,
}

pub const INTERNET: &str = "198.51.100.2";
pub const INTERNET6: &str = "2001:db8::2";
pub const NODE: &str = "198.51.100.1";
pub const NODE6: &str = "2001:db8::1";
pub const GATEWAY: &str = "10.244.0.1";
pub const METADATA: &str = "169.254.169.254";
pub const API_SERVICE: &str = "10.96.0.1";
pub const DNS_SERVICE: &str = "10.96.0.10";
pub const BLUE_SERVICE: &str = "10.96.0.20";
pub const RED_SERVICE: &str = "10.96.0.21";

/// What kube-proxy would have written.
const SERVICES: &str = "table ip services {
    chain prerouting { type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.1 tcp dport 443 dnat to 198.51.100.1:6443
        ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.0.14:53
        ip daddr 10.96.0.20 udp dport 80 dnat to 10.244.0.13:8080
        ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.0.13:8080
        ip daddr 10.96.0.21 tcp dport 80 dnat to 10.244.0.12:8080
        ip daddr 198.51.100.1 tcp dport 30080 dnat to 10.244.0.13:8080
    }
}";

/// The kernel half, which `cargo xtask ebpf` builds.
pub fn program() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ebpf/network.o");
    let path = std::env::var_os("ATOLL_NETWORK_PROGRAM").map_or(usual, PathBuf::from);
    let path = path.canonicalize();
    path.expect("target/ebpf/network.o is missing: build it by `cargo xtask ebpf`")
}

/// Runs a test in a new world.
pub fn in_a_world(test: impl FnOnce(&World) + Send) {
    thread::scope(|scope| {
        let result = scope
            .spawn(|| {
                // bpffs is mounted where nobody else sees it.
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
                    .expect("namespaces: run these tests as root");
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .unwrap();
                test(&World::new());
            })
            .join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Namespace { name: "host", file: File::open("/proc/thread-self/ns/net").unwrap() };
        host.command("ip link set lo up");
        for (setting, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // It would stop what the programs are to stop.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/{setting}"), value).unwrap();
        }
        let internet = Namespace::new("internet");
        host.command(&format!("ip link add up0 type veth peer name eth0 netns {}", internet.path()));
        host.command(&format!("ip addr add {NODE}/24 dev up0"));
        host.command(&format!("ip addr add {NODE6}/64 dev up0 nodad"));
        host.command("ip link set up0 up");
        host.command(&format!("ip addr add {METADATA}/32 dev lo"));
        internet.command(&format!("ip addr add {INTERNET}/24 dev eth0"));
        internet.command(&format!("ip addr add {INTERNET6}/64 dev eth0 nodad"));
        internet.command("ip link set eth0 up");
        internet.command(&format!("ip route add default via {NODE}"));
        internet.command(&format!("ip route add default via {NODE6}"));
        host.enter(|| command("nft -f -", SERVICES));
        let [red, red_two, blue, dns, stray] = [RED, RED_TWO, BLUE, DNS, STRAY].map(|kind| pod(&host, kind));
        let config = Config { bpffs: folder.path().join("bpf"), program: program() };
        Self { red, red_two, blue, dns, stray, internet, host, config, _folder: folder }
    }

    /// The pods that the container runtime makes known.
    pub fn pods(&self) -> [&Pod; 4] {
        [&self.red, &self.red_two, &self.blue, &self.dns]
    }

    /// What the agent knows from the API server.
    pub fn state(&self) -> DesiredState {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let workspace = |name: &str| (name.to_owned(), Owner::Workspace(name.to_owned()));
        DesiredState {
            namespaces: [
                workspace(RED.namespace),
                workspace(BLUE.namespace),
                (DNS.namespace.to_owned(), Owner::System),
            ]
            .into(),
            pods: self
                .pods()
                .map(|pod| PodState {
                    namespace: pod.kind.namespace.into(),
                    addresses: vec![pod.v4, pod.v6],
                    open: vec![(Protocol::Udp, 53), (Protocol::Tcp, 443)],
                    granted: Vec::new(),
                })
                .into(),
            nodes: vec![NodeState {
                addresses: vec![NODE.parse().unwrap(), NODE6.parse().unwrap()],
                pod_ranges: nets(&["10.244.0.0/24", "fd00:244::/64"]),
            }],
            pod_ranges: nets(&["10.244.0.0/16", "fd00:244::/48"]),
            service_ranges: nets(&["10.96.0.0/12", "fd00:96::/112"]),
            reserved: nets(&["10.96.0.1/32"]),
        }
    }

    /// Calls the plugin as a container runtime does.
    pub fn cni(&self, verb: &str, pod: &Pod, change: impl FnOnce(&mut Value)) -> Result<Value, Value> {
        let mut network = json!({
            "cniVersion": "1.0.0",
            "name": "atoll",
            "type": "atoll-cni",
            "bpffs": self.config.bpffs,
            "program": self.config.program,
            "prevResult": {
                "cniVersion": "1.0.0",
                "interfaces": [
                    { "name": pod.interface, "mac": "" },
                    { "name": "eth0", "mac": "", "sandbox": "/run/netns/x" },
                ],
                "ips": [
                    { "address": format!("{}/24", pod.v4), "gateway": GATEWAY, "interface": 1 },
                    { "address": format!("{}/64", pod.v6), "interface": 1 },
                ],
                "dns": { "nameservers": ["10.96.0.10"] },
            },
        });
        change(&mut network);
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            pod.kind.namespace,
            pod.kind.name,
            pod.uid()
        );
        let mut child = Command::new(env!("CARGO_BIN_EXE_atoll-cni"))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("sandbox-of-{}", pod.kind.name))
            .env("CNI_NETNS", "/run/netns/x")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(network.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let answer = match output.stdout.as_slice() {
            [] => Value::Null,
            text => serde_json::from_slice(text).unwrap(),
        };
        if output.status.success() { Ok(answer) } else { Err(answer) }
    }

    pub fn add(&self, pod: &Pod) {
        self.cni("ADD", pod, |_| ()).unwrap();
    }
}

fn pod(host: &Namespace, kind: Kind) -> Pod {
    let namespace = Namespace::new(kind.name);
    let interface = format!("veth{}", kind.name);
    let (v4, v6) = (format!("10.244.0.{}", kind.number), format!("fd00:244::{}", kind.number));
    let inside = namespace.path();
    host.command(&format!("ip link add {interface} type veth peer name eth0 netns {inside}"));
    host.command(&format!("ip addr add {GATEWAY}/32 dev {interface}"));
    host.command(&format!("ip addr add fd00:244::1/128 dev {interface} nodad"));
    host.command(&format!("ip link set {interface} up"));
    host.command(&format!("ip route add {v4}/32 dev {interface}"));
    host.command(&format!("ip route add {v6}/128 dev {interface}"));
    namespace.command(&format!("ip addr add {v4}/32 dev eth0"));
    namespace.command(&format!("ip addr add {v6}/128 dev eth0 nodad"));
    namespace.command("ip link set eth0 up");
    for gateway in [GATEWAY, "fd00:244::1"] {
        namespace.command(&format!("ip route add {gateway} dev eth0"));
        namespace.command(&format!("ip route add default via {gateway}"));
    }
    Pod { kind, namespace, interface, v4: v4.parse().unwrap(), v6: v6.parse().unwrap() }
}

/// How somebody tries to reach somebody.
#[derive(Clone, Copy, PartialEq)]
pub enum How {
    Tcp,
    Udp,
    /// UDP that nobody answers: it is enough that it arrives.
    OneWay,
    /// So large that it goes in fragments.
    LargeUdp,
    /// From an address that isn't the sender's; an answer can't come.
    Spoofed,
}

/// One way from one namespace to another.
pub struct Way<'a> {
    pub name: &'static str,
    pub how: How,
    pub from: &'a Namespace,
    /// The address and port it is sent from, if not the usual.
    pub source: Option<SocketAddr>,
    /// Where it is sent.
    pub target: SocketAddr,
    /// Where it should arrive.
    pub at: (&'a Namespace, SocketAddr),
}

impl Way<'_> {
    /// Whether what is sent arrives, and what is answered comes back.
    pub fn is_open(&self, patience: Duration) -> bool {
        match self.how {
            How::Tcp => self.tcp(patience),
            How::Udp => self.udp(64, true, patience),
            How::OneWay => self.udp(64, false, patience),
            How::LargeUdp => self.udp(4000, true, patience),
            How::Spoofed => self.udp(64, false, patience),
        }
    }

    fn source(&self) -> SocketAddr {
        let any = if self.target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.source.unwrap_or_else(|| any.parse().unwrap())
    }

    fn udp(&self, size: usize, answers: bool, patience: Duration) -> bool {
        let server = self.at.0.enter(|| UdpSocket::bind(self.at.1).unwrap());
        let client = self.from.enter(|| UdpSocket::bind(self.source()).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(patience)).unwrap();
        }
        let mut buffer = vec![7; size];
        if client.send_to(&buffer, self.target).is_err() {
            return false;
        }
        let Ok((_, sender)) = server.recv_from(&mut buffer) else { return false };
        if !answers {
            return self.source.is_none_or(|source| source.ip() == sender.ip());
        }
        server.send_to(&buffer, sender).is_ok()
            && client.recv_from(&mut buffer).is_ok_and(|(_, from)| from == self.target)
    }

    fn tcp(&self, patience: Duration) -> bool {
        let server = self.at.0.enter(|| TcpListener::bind(self.at.1).unwrap());
        let (source, target) = (self.source(), self.target);
        let client: OwnedFd = self.from.enter(|| {
            let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let client = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
            setsockopt(&client, sockopt::ReuseAddr, &true).unwrap();
            bind(client.as_raw_fd(), &SockaddrStorage::from(source)).unwrap();
            // It goes on; whether it went well shows below.
            let _ = connect(client.as_raw_fd(), &SockaddrStorage::from(target));
            client
        });
        let client = TcpStream::from(client);
        let began = Instant::now();
        while client.peer_addr().is_err() {
            if began.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        server.accept().is_ok()
    }
}
