use super::history::backoff;
use super::*;

const NOW: Time = 1_800_000_000;
const DAY: Time = 24 * HOUR;
const FEW: Limits = Limits { workspace: 2, cloud: 3 };

fn key(name: &str) -> Key {
    Key { namespace: "shop".into(), secret: name.into() }
}

fn wanted(workspace: &str, name: &str, hosts: &[&str]) -> Wanted {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Wanted { key: key(name), workspace: workspace.into(), hosts }
}

fn ours(hosts: &[&str], from: Time, to: Time) -> Present {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Present::Ours(Some(Validity { hosts, not_before: from, not_after: to }))
}

fn one(hosts: &[&str], present: Option<Present>, history: &History) -> Planned {
    let present = present.into_iter().map(|present| (key("a"), present)).collect();
    plan(&[wanted("w", "a", hosts)], &present, history, FEW, NOW).certificates.remove(0)
}

fn text(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

#[test]
fn what_is_missing_is_ordered() {
    let planned = one(&["b.example", "A.example.", "a.example"], None, &History::default());
    assert_eq!(planned.decision, Decision::Order);
    assert_eq!(planned.hosts, ["a.example", "b.example"]);
    assert_eq!((planned.served, planned.reason.as_str()), (false, "there is none yet"));
    let unreadable = one(&["a.example"], Some(Present::Ours(None)), &History::default());
    assert_eq!(unreadable.decision, Decision::Order);
}

#[test]
fn somebody_elses_secret_is_never_touched() {
    let planned = one(&["a.example"], Some(Present::Foreign), &History::default());
    assert_eq!(planned.decision, Decision::Never);
    assert!(planned.reason.contains("not made by ACME"), "{}", planned.reason);
}

#[test]
fn a_third_of_the_lifetime_before_its_end_it_is_renewed() {
    let (from, to) = (NOW - 60 * DAY, NOW + 30 * DAY);
    let decide = |from, to| one(&["a.example"], Some(ours(&["a.example"], from, to)), &History::default());
    assert_eq!(decide(from, to).decision, Decision::Order, "exactly then");
    let early = decide(from + 2, to + 2);
    assert_eq!((early.decision, early.served), (Decision::Wait(NOW + 2), true));
    let late = decide(NOW - 90 * DAY, NOW - 1);
    assert_eq!((late.decision, late.served), (Decision::Order, false));
    assert_eq!(late.reason, "it has expired");
    // A day's certificate is renewed after sixteen hours.
    assert_eq!(decide(NOW - 15 * HOUR, NOW + 9 * HOUR).decision, Decision::Wait(NOW + HOUR));
    // One that ends before it begins is not waited for.
    assert_eq!(decide(NOW + DAY, NOW - DAY).decision, Decision::Order);
}

#[test]
fn another_host_makes_another_certificate_and_one_less_does_not() {
    let present = ours(&["a.example", "b.example"], NOW, NOW + 90 * DAY);
    let less = one(&["a.example"], Some(present.clone()), &History::default());
    assert_eq!(less.decision, Decision::Wait(NOW + 60 * DAY));
    let more = one(&["a.example", "c.example"], Some(present), &History::default());
    assert_eq!((more.decision, more.reason.as_str()), (Decision::Order, "it lacks c.example"));
    assert!(!more.served);
}

#[test]
fn names_that_cant_be_proven_are_left_out_with_their_reason() {
    for (host, part) in [
        ("*.a.example", "wildcards"),
        ("localhost", "this machine"),
        ("shop.localhost", "this machine"),
        ("192.0.2.1", "an address"),
        ("2001:db8::1", "an address"),
        ("[2001:db8::1]", "an address"),
        ("intranet", "below a domain"),
        ("a.1", "below a domain"),
        ("a_b.example", "of the DNS"),
        ("-a.example", "of the DNS"),
        ("a..example", "of the DNS"),
        ("\u{fc}.example", "of the DNS"),
        ("", "no name"),
    ] {
        assert!(refusal(host).is_some_and(|reason| reason.contains(part)), "{host}: {:?}", refusal(host));
        let planned = one(&["a.example", host], None, &History::default());
        assert_eq!((planned.decision, planned.hosts), (Decision::Order, text(&["a.example"])), "{host}");
        assert_eq!(planned.left_out.len(), 1, "{host}");
        assert_eq!(one(&[host], None, &History::default()).decision, Decision::Never, "{host}");
    }
    let long = format!("{}.example", "a".repeat(64));
    assert!(refusal(&long).is_some());
    assert!(refusal(&["a".repeat(60).as_str(); 5].join(".")).is_some());
    assert_eq!(refusal("xn--bcher-kva.example"), None);
}

#[test]
fn a_hundred_names_and_not_one_more() {
    let hosts: Vec<String> = (0..101).map(|number| format!("h{number}.example")).collect();
    let all: Vec<&str> = hosts.iter().map(String::as_str).collect();
    assert_eq!(one(&all[..100], None, &History::default()).decision, Decision::Order);
    let planned = one(&all, None, &History::default());
    assert_eq!(planned.decision, Decision::Never);
    assert!(planned.reason.contains("101 names"), "{}", planned.reason);
}

#[test]
fn failures_wait_twice_as_long_each_time() {
    let waits: Vec<Time> = (1..14).map(backoff).collect();
    assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 43200, 43200, 43200]);
    assert_eq!(backoff(u32::MAX), 12 * HOUR);
    let mut history = History::default();
    let hosts = text(&["a.example"]);
    for _ in 0..3 {
        history.begun(&key("a"), "w", &hosts, NOW - 2 * HOUR);
        history.failed(&key("a"), "no address", None, NOW - 100);
    }
    let planned = one(&["a.example"], None, &history);
    assert_eq!((planned.decision, planned.reason.as_str()), (Decision::Wait(NOW - 100 + 240), "no address"));
    history.succeeded(&key("a"), NOW - 61);
    assert_eq!(one(&["a.example"], None, &history).decision, Decision::Order);
}

#[test]
fn an_authority_that_says_when_is_waited_for() {
    let mut history = History::default();
    history.begun(&key("a"), "w", &text(&["a.example"]), NOW - 2 * DAY);
    history.failed(&key("a"), "rate limited", Some(NOW + DAY), NOW - 2 * DAY);
    assert_eq!(one(&["a.example"], None, &history).decision, Decision::Wait(NOW + DAY));
}

#[test]
fn other_hosts_are_tried_soon_and_not_at_once() {
    let mut history = History::default();
    for _ in 0..9 {
        history.begun(&key("a"), "w", &text(&["a.example"]), NOW - 30);
    }
    history.orders.clear();
    assert_eq!(one(&["b.example"], None, &history).decision, Decision::Wait(NOW + 30));
    assert!(
        matches!(one(&["a.example"], None, &history).decision, Decision::Wait(until) if until > NOW + HOUR)
    );
}

#[test]
fn a_process_that_dies_in_the_middle_counts_as_a_failure() {
    let mut history = History::default();
    history.begun(&key("a"), "w", &text(&["a.example"]), NOW - 1);
    let kept = serde_json::to_string(&history).unwrap();
    let history: History = serde_json::from_str(&kept).unwrap();
    assert_eq!(one(&["a.example"], None, &history).decision, Decision::Wait(NOW + 59));
}

#[test]
fn a_workspace_has_so_many_orders_an_hour_and_others_go_on() {
    let all = [
        wanted("w", "a", &["a.example"]),
        wanted("w", "b", &["b.example"]),
        wanted("w", "c", &["c.example"]),
        wanted("v", "d", &["d.example"]),
        wanted("u", "e", &["e.example"]),
    ];
    let mut history = History::default();
    history.orders.push(("w".into(), NOW - 1000));
    history.orders.push(("w".into(), NOW - HOUR));
    let plan = plan(&all, &BTreeMap::new(), &history, FEW, NOW);
    let of = |name: &str| plan.certificates.iter().find(|planned| planned.key == key(name)).unwrap();
    assert_eq!(of("a").decision, Decision::Order);
    assert_eq!(of("b").decision, Decision::Wait(NOW - 1000 + HOUR));
    assert!(of("c").reason.starts_with("its workspace has ordered 2"), "{}", of("c").reason);
    assert_eq!(of("d").decision, Decision::Order);
    assert!(of("e").reason.starts_with("this cloud has ordered 3"), "{}", of("e").reason);
    assert_eq!(plan.next, Some(NOW - 1000 + HOUR));
}

#[test]
fn what_expires_comes_before_what_is_new() {
    let all = [wanted("w", "a", &["a.example"]), wanted("w", "z", &["z.example"])];
    let present = BTreeMap::from([(key("z"), ours(&["z.example"], NOW - 89 * DAY, NOW + DAY))]);
    let limits = Limits { workspace: 1, cloud: 1 };
    let plan = plan(&all, &present, &History::default(), limits, NOW);
    let decided: Vec<_> =
        plan.certificates.iter().map(|planned| (planned.key.secret.as_str(), &planned.decision)).collect();
    assert_eq!(decided, [("z", &Decision::Order), ("a", &Decision::Wait(NOW + HOUR))]);
}

#[test]
fn two_that_name_one_secret_get_one_certificate() {
    let all = [wanted("w", "a", &["a.example"]), wanted("w", "a", &["b.example"])];
    let plan = plan(&all, &BTreeMap::new(), &History::default(), FEW, NOW);
    assert_eq!(plan.certificates.len(), 1);
    assert_eq!(plan.certificates[0].hosts, ["a.example", "b.example"]);
}

#[test]
fn what_nobody_wants_is_forgotten_after_a_day() {
    let mut history = History::default();
    history.begun(&key("a"), "w", &text(&["a.example"]), NOW - 2 * DAY);
    history.begun(&key("b"), "w", &text(&["b.example"]), NOW - HOUR / 2);
    history.tidy(|_| false, NOW);
    assert_eq!(history.attempts.keys().collect::<Vec<_>>(), [&key("b")]);
    assert_eq!(history.orders.len(), 1);
    history.tidy(|_| true, NOW + 2 * DAY);
    assert_eq!(history.attempts.len(), 1, "it is still wanted, and has failed");
    history.succeeded(&key("b"), NOW);
    history.tidy(|_| true, NOW + 2 * HOUR);
    assert!(history.attempts.is_empty());
}
