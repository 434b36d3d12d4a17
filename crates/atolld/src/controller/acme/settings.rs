//! What an operator says in the ConfigMap by which ACME is turned on.

use acme::account::Directory;
use acme::order::Proof;
use acme::plan::Limits;
use k8s_openapi::api::core::v1::ConfigMap;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub directory: Directory,
    pub email: Option<String>,
    pub proof: Proof,
    pub limits: Limits,
}

impl Settings {
    /// Or what is wrong, in the words of its keys.
    pub fn read(config: &ConfigMap) -> Result<Self, String> {
        let text = |key: &str| {
            let value = config.data.as_ref()?.get(key)?;
            Some(value.trim()).filter(|value| !value.is_empty())
        };
        let url = text("directory").ok_or("directory is missing: write the address of an ACME directory")?;
        if !url.starts_with("https://") {
            return Err("directory doesn't begin with https://".to_owned());
        }
        if text("agree") != Some("true") {
            return Err("agree is not \"true\": read the authority's terms, and agree to them".to_owned());
        }
        let proof = match text("challenge") {
            None => Proof::Http01,
            Some(text) => Proof::parse(text).ok_or("challenge is neither http-01 nor tls-alpn-01")?,
        };
        let number = |key: &str, usual: usize| match text(key) {
            None => Ok(usual),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| format!("{key} is not a number above 0")),
        };
        let usual = Limits::default();
        Ok(Self {
            directory: Directory { url: url.to_owned(), roots: text("roots").unwrap_or_default().to_owned() },
            email: text("email").map(str::to_owned),
            proof,
            limits: Limits {
                workspace: number("workspaceOrdersPerHour", usual.workspace)?,
                cloud: number("ordersPerHour", usual.cloud)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Result<Settings, String> {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::read(&ConfigMap { data: Some(data), ..ConfigMap::default() })
    }

    #[test]
    fn nothing_is_ordered_without_consent() {
        let url = ("directory", "https://ca.example/dir");
        let settings = read(&[url, ("agree", "true")]).unwrap();
        assert_eq!(
            (settings.proof, settings.email, settings.limits),
            (Proof::Http01, None, Limits::default())
        );
        for agree in [&[url][..], &[url, ("agree", "yes")], &[url, ("agree", "")]] {
            assert!(read(agree).unwrap_err().starts_with("agree is not"), "{agree:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_its_key() {
        let good = [("directory", "https://ca.example/dir"), ("agree", "true")];
        for (key, value) in [
            ("directory", "http://ca.example"),
            ("directory", " "),
            ("challenge", "dns-01"),
            ("ordersPerHour", "0"),
            ("workspaceOrdersPerHour", "many"),
        ] {
            let all: Vec<_> =
                good.iter().copied().filter(|(other, _)| *other != key).chain([(key, value)]).collect();
            assert!(read(&all).unwrap_err().starts_with(key), "{key}");
        }
        let all = [
            good[0],
            good[1],
            ("challenge", "tls-alpn-01"),
            ("email", "a@b.example"),
            ("ordersPerHour", "7"),
        ];
        let settings = read(&all).unwrap();
        assert_eq!((settings.proof, settings.limits.cloud), (Proof::TlsAlpn01, 7));
        assert_eq!(settings.email.as_deref(), Some("a@b.example"));
    }
}
