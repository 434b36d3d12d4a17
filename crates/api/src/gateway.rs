//! What a plan says of the gateway, and how a workspace's namespace tells of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::POLICY_PREFIX;

/// The most that a workspace may take at each gateway; 0 is no limit. What isn't said is
/// as the gateways themselves are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayLimits {
    /// Requests in a second, and twice as many at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub requests_per_second: Option<u64>,
    /// Requests that are under way, WebSockets among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub concurrent_requests: Option<u64>,
    /// Bytes of bodies in a second, both ways together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776u64))]
    pub bytes_per_second: Option<u64>,
}

/// What the annotations are named behind their prefix, in the fields' order.
const NAMES: [&str; 3] = ["gateway-requests", "gateway-concurrent", "gateway-bytes"];

impl GatewayLimits {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What both allow: of each the smaller number. Who says nothing limits nothing.
    pub fn tighter(self, other: Self) -> Self {
        let smaller = |one: Option<u64>, other: Option<u64>| {
            [one, other].into_iter().flatten().min_by_key(|most| (*most == 0, *most))
        };
        Self {
            requests_per_second: smaller(self.requests_per_second, other.requests_per_second),
            concurrent_requests: smaller(self.concurrent_requests, other.concurrent_requests),
            bytes_per_second: smaller(self.bytes_per_second, other.bytes_per_second),
        }
    }

    /// As a namespace tells of them.
    pub fn annotations(&self) -> impl Iterator<Item = (String, String)> {
        let all = [self.requests_per_second, self.concurrent_requests, self.bytes_per_second];
        let told = NAMES.into_iter().zip(all);
        told.filter_map(|(name, most)| Some((format!("{POLICY_PREFIX}{name}"), most?.to_string())))
    }

    /// What a namespace's annotations tell; one that can't be read tells nothing.
    pub fn told(annotations: &BTreeMap<String, String>) -> Self {
        let [requests_per_second, concurrent_requests, bytes_per_second] =
            NAMES.map(|name| annotations.get(&format!("{POLICY_PREFIX}{name}"))?.parse().ok());
        Self { requests_per_second, concurrent_requests, bytes_per_second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: Option<u64>, concurrent: Option<u64>, bytes: Option<u64>) -> GatewayLimits {
        GatewayLimits {
            requests_per_second: requests,
            concurrent_requests: concurrent,
            bytes_per_second: bytes,
        }
    }

    #[test]
    fn what_is_told_is_read() {
        for one in [
            GatewayLimits::default(),
            limits(Some(10), None, Some(0)),
            limits(Some(0), Some(u64::MAX), Some(1 << 40)),
        ] {
            assert_eq!(GatewayLimits::told(&one.annotations().collect()), one);
        }
        let told: BTreeMap<_, _> = limits(Some(10), None, Some(0)).annotations().collect();
        let wanted = [("policy.atoll.dev/gateway-bytes", "0"), ("policy.atoll.dev/gateway-requests", "10")];
        assert!(told.iter().map(|(name, most)| (name.as_str(), most.as_str())).eq(wanted));
        let name = "policy.atoll.dev/gateway-requests".to_owned();
        for bad in ["-1", "many", "", "1.5", "99999999999999999999"] {
            let told = [(name.clone(), bad.to_owned())].into();
            assert_eq!(GatewayLimits::told(&told), GatewayLimits::default(), "{bad}");
        }
    }

    #[test]
    fn the_tighter_of_two_is_the_smaller_and_none_is_the_largest() {
        for (one, other, wanted) in [
            (None, None, None),
            (None, Some(5), Some(5)),
            (None, Some(0), Some(0)),
            (Some(0), Some(5), Some(5)),
            (Some(3), Some(5), Some(3)),
            (Some(0), Some(0), Some(0)),
        ] {
            let all = |most| limits(most, most, most);
            assert_eq!(all(one).tighter(all(other)), all(wanted), "{one:?} {other:?}");
            assert_eq!(all(other).tighter(all(one)), all(wanted), "{other:?} {one:?}");
        }
    }

    #[test]
    fn the_definition_refuses_what_is_no_number_of_them() {
        let definition = serde_json::to_value(schemars::schema_for!(GatewayLimits)).unwrap();
        for (field, most) in [
            ("requestsPerSecond", 10_000_000u64),
            ("concurrentRequests", 10_000_000),
            ("bytesPerSecond", 1 << 40),
        ] {
            let field = &definition["properties"][field];
            assert_eq!(
                (field["minimum"].as_f64(), field["maximum"].as_f64()),
                (Some(0.0), Some(most as f64))
            );
        }
    }
}
