//! A list across namespaces, such as `kubectl get pods -A`, put together from
//! the caller's own ones. Each is read under the caller's name, so RBAC decides
//! on every page; all are read as of one resource version.
//!
//! The pure half is here; `proxy` sends what [`Plan::step`] says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::visible::Query;

/// What one answer is put together from at most, in bytes.
pub const MOST: usize = 32 << 20;

/// Where a list goes on. Forging one gains nothing: the next page is read under
/// the caller's name, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    upstream: String,
    version: String,
}

/// A list under way.
#[derive(Debug)]
pub struct Plan {
    query: Query,
    namespaces: Vec<String>,
    at: usize,
    /// The resource version that the first answer has fixed.
    version: Option<String>,
    /// The API server's own continue token, within the namespace.
    upstream: Option<String>,
    /// How many more the client wants; None: all.
    left: Option<usize>,
    merged: Option<Value>,
}

/// A continue token that isn't ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the continue token is not valid: list from the beginning")]
pub struct BadContinue;

impl Plan {
    /// A list of `query` over `namespaces`.
    ///
    /// # Errors
    /// When its continue token is none of ours.
    pub fn new(mut query: Query, mut namespaces: Vec<String>) -> Result<Self, BadContinue> {
        namespaces.sort_unstable();
        let left = query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
        let resume = query.get("continue").filter(|token| !token.is_empty()).map(decode).transpose()?;
        query.remove("continue");
        let mut plan = Self { query, namespaces, at: 0, version: None, upstream: None, left, merged: None };
        if let Some(resume) = resume {
            plan.at = plan.namespaces.partition_point(|namespace| *namespace < resume.namespace);
            // The namespace itself may be gone; the rest still is to be read.
            let same = plan.namespaces.get(plan.at) == Some(&resume.namespace);
            plan.upstream = Some(resume.upstream).filter(|token| same && !token.is_empty());
            plan.version = Some(resume.version);
        }
        Ok(plan)
    }

    /// The next namespace to read and the query to read it by; None: done.
    pub fn step(&self) -> Option<(&str, Query)> {
        let namespace = self.namespaces.get(self.at).filter(|_| self.left != Some(0))?;
        let mut query = self.query.clone();
        if let Some(left) = self.left {
            query.set("limit", left.to_string());
        }
        if let Some(token) = &self.upstream {
            // It says its version itself.
            query.set("continue", token.as_str());
            query.remove("resourceVersion");
            query.remove("resourceVersionMatch");
        } else if let Some(version) = &self.version {
            query.set("resourceVersion", version.as_str());
            query.set("resourceVersionMatch", "Exact");
        }
        Some((namespace, query))
    }

    /// The namespace may not be read, or doesn't have the kind.
    pub fn skip(&mut self) {
        self.upstream = None;
        self.at += 1;
    }

    /// Takes an answer in; None: it is no list.
    pub fn take(&mut self, mut list: Value) -> Option<()> {
        let key = if list.get("kind")?.as_str()? == "Table" { "rows" } else { "items" };
        let metadata = list.get("metadata")?;
        let version = metadata.get("resourceVersion")?.as_str()?.to_owned();
        let token = metadata.get("continue").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut found = match list.get_mut(key)? {
            Value::Array(found) => std::mem::take(found),
            // Go writes an empty list as null.
            Value::Null => Vec::new(),
            _ => return None,
        };
        self.version.get_or_insert(version);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(found.len());
        }
        let merged = self.merged.get_or_insert(list);
        match merged.get_mut(key)? {
            Value::Array(all) => all.append(&mut found),
            empty => *empty = Value::Array(found),
        }
        if token.is_empty() {
            self.skip();
        } else {
            self.upstream = Some(token);
        }
        Some(())
    }

    /// The whole answer; None: no namespace gave any.
    pub fn finish(mut self) -> Option<Value> {
        let mut merged = self.merged.take()?;
        let metadata = merged.get_mut("metadata")?.as_object_mut()?;
        metadata.remove("continue");
        metadata.remove("remainingItemCount");
        let version = self.version.unwrap_or_default();
        metadata.insert("resourceVersion".to_owned(), version.clone().into());
        if let Some(namespace) = self.namespaces.get(self.at) {
            let upstream = self.upstream.unwrap_or_default();
            let resume = Resume { namespace: namespace.clone(), upstream, version };
            metadata.insert("continue".to_owned(), encode(&resume).into());
        }
        Some(merged)
    }
}

fn encode(resume: &Resume) -> String {
    // Strings always become JSON.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(resume).unwrap_or_default())
}

fn decode(token: &str) -> Result<Resume, BadContinue> {
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadContinue)?;
    serde_json::from_slice(&json).map_err(|_| BadContinue)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Three namespaces with two pods each, at versions that go on; `c` may not be read.
    fn page(query: &str) -> (Vec<String>, Value) {
        let namespaces = ["b", "c", "a", "d"].map(str::to_owned).into();
        let mut plan = Plan::new(Query::parse(query), namespaces).unwrap();
        let mut asked = Vec::new();
        let mut clock = 100;
        while let Some((namespace, query)) = plan.step() {
            let namespace = namespace.to_owned();
            asked.push(format!("{namespace}?{}", query.encode()));
            if namespace == "c" {
                plan.skip();
                continue;
            }
            clock += 1;
            let version = query.get("resourceVersion").map_or(clock.to_string(), str::to_owned);
            let from = usize::from(query.get("continue").is_some());
            let limit = query.get("limit").map_or(2, |limit| limit.parse().unwrap());
            let pods: Vec<_> =
                (1..=2).skip(from).take(limit).map(|n| json!(format!("{namespace}{n}"))).collect();
            let more = if from + pods.len() < 2 { "up" } else { "" };
            plan.take(json!({"kind": "PodList", "metadata": {"resourceVersion": version, "continue": more,
                "remainingItemCount": 7}, "items": pods}))
                .unwrap();
        }
        (asked, plan.finish().unwrap())
    }

    #[test]
    fn all_are_read_as_of_the_first() {
        let (asked, list) = page("labelSelector=x");
        assert_eq!(
            asked,
            [
                "a?labelSelector=x",
                "b?labelSelector=x&resourceVersion=101&resourceVersionMatch=Exact",
                "c?labelSelector=x&resourceVersion=101&resourceVersionMatch=Exact",
                "d?labelSelector=x&resourceVersion=101&resourceVersionMatch=Exact",
            ]
        );
        assert_eq!(
            list,
            json!({"kind": "PodList", "metadata": {"resourceVersion": "101"},
            "items": ["a1", "a2", "b1", "b2", "d1", "d2"]})
        );
    }

    #[test]
    fn pages_of_any_size_give_the_whole() {
        for limit in 1..=7 {
            let mut query = format!("limit={limit}");
            let mut all = Vec::new();
            for _ in 0..10 {
                let (_, list) = page(&query);
                let items = list["items"].as_array().unwrap().clone();
                assert!(items.len() <= limit);
                all.extend(items);
                assert_eq!(list["metadata"]["resourceVersion"], "101");
                match list["metadata"]["continue"].as_str() {
                    Some(token) => query = format!("limit={limit}&continue={token}"),
                    None => break,
                }
            }
            assert_eq!(all, ["a1", "a2", "b1", "b2", "d1", "d2"], "limit {limit}");
        }
    }

    #[test]
    fn tables_empty_lists_and_nothing_at_all() {
        let query = Query::parse("");
        let mut plan = Plan::new(query.clone(), vec!["a".into(), "b".into()]).unwrap();
        plan.take(json!({"kind": "Table", "metadata": {"resourceVersion": "1"}, "rows": null})).unwrap();
        plan.take(json!({"kind": "Table", "metadata": {"resourceVersion": "1"}, "rows": [1]})).unwrap();
        assert!(plan.step().is_none());
        assert_eq!(plan.finish().unwrap()["rows"], json!([1]));
        let mut plan = Plan::new(query.clone(), vec!["a".into()]).unwrap();
        assert_eq!(plan.take(json!({"kind": "Status", "metadata": {}})), None);
        plan.skip();
        assert_eq!(plan.finish(), None);
        assert_eq!(Plan::new(Query::parse("continue=odd!"), Vec::new()).unwrap_err(), BadContinue);
    }

    #[test]
    fn a_namespace_that_went_between_two_pages_is_passed_over() {
        let token = encode(&Resume { namespace: "b".into(), upstream: "up".into(), version: "5".into() });
        let query = Query::parse(&format!("limit=1&continue={token}"));
        let plan = Plan::new(query, vec!["a".into(), "c".into()]).unwrap();
        let (namespace, query) = plan.step().unwrap();
        assert_eq!((namespace, query.get("continue"), query.get("resourceVersion")), ("c", None, Some("5")));
    }
}
