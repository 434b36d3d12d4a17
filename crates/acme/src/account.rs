//! An account with an authority.

use instant_acme::{AccountCredentials, NewAccount};
use secrecy::{ExposeSecret, SecretString};

use crate::Error;
use crate::client::{Https, RetryAfter, refused};

/// Where an authority is, and whom it is believed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// `https://`, as RFC 8555, section 7.1.1 has it.
    pub url: String,
    /// Certificates in PEM of authorities to believe besides the public ones.
    pub roots: String,
}

/// What an account is held by: a private key with its address, as JSON. It is not
/// printed.
#[derive(Debug, Clone)]
pub struct Credentials(SecretString);

impl Credentials {
    pub fn new(json: String) -> Self {
        Self(json.into())
    }

    /// To be kept where nobody else reads.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The directory that they are for.
    pub fn directory(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(self.expose()).ok()?;
        Some(value.get("directory")?.as_str()?.to_owned())
    }
}

/// An account that orders.
#[derive(Clone)]
pub struct Account {
    pub(crate) inner: instant_acme::Account,
    pub(crate) retry_after: RetryAfter,
}

impl Account {
    /// A new one. Whoever calls this has agreed to the authority's terms.
    pub async fn register(directory: &Directory, email: Option<&str>) -> Result<(Self, Credentials), Error> {
        let retry_after = RetryAfter::default();
        let client = Box::new(Https::new(&directory.roots, retry_after.clone())?);
        let contact = email.map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (inner, credentials) = instant_acme::Account::builder_with_http(client)
            .create(&new, directory.url.clone(), None)
            .await
            .map_err(|error| refused(error, &retry_after))?;
        let json =
            serde_json::to_string(&credentials).map_err(|error| Error::Credentials(error.to_string()))?;
        Ok((Self { inner, retry_after }, Credentials::new(json)))
    }

    /// One that was registered before.
    pub async fn restore(directory: &Directory, credentials: &Credentials) -> Result<Self, Error> {
        let retry_after = RetryAfter::default();
        let client = Box::new(Https::new(&directory.roots, retry_after.clone())?);
        // The parser's error may quote what it has read.
        let credentials: AccountCredentials = serde_json::from_str(credentials.expose())
            .map_err(|_| Error::Credentials("they are not what an account is kept as".to_owned()))?;
        let inner = instant_acme::Account::builder_with_http(client)
            .from_credentials(credentials)
            .await
            .map_err(|error| refused(error, &retry_after))?;
        Ok(Self { inner, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let credentials =
            Credentials::new(r#"{"directory":"https://ca.example/dir","key":"k3y"}"#.to_owned());
        assert!(!format!("{credentials:?}").contains("k3y"));
        assert_eq!(credentials.directory().as_deref(), Some("https://ca.example/dir"));
        assert_eq!(Credentials::new("nonsense".to_owned()).directory(), None);
    }

    #[tokio::test]
    async fn what_cant_be_read_is_said_without_it() {
        let directory = Directory { url: "https://127.0.0.1:1/dir".into(), roots: String::new() };
        let error = Account::restore(&directory, &Credentials::new("{\"k3y\"".into())).await.err().unwrap();
        assert!(error.to_string().starts_with("the account's credentials can't be read"), "{error}");
        assert!(!error.to_string().contains("k3y"));
        let roots = Directory { roots: "no PEM".into(), ..directory.clone() };
        let error = Account::register(&roots, None).await.err().unwrap();
        assert!(matches!(error, Error::Roots(_)), "{error}");
        let error = Account::register(&directory, None).await.err().unwrap();
        assert!(matches!(error, Error::Unreachable(_)), "{error}");
        let clear = Directory { url: "http://127.0.0.1:1/dir".into(), ..directory };
        assert!(matches!(Account::register(&clear, None).await, Err(Error::Unreachable(_))));
    }
}
