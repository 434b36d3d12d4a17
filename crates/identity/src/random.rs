//! Random bytes and the texts made of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::error::Error;

pub(crate) fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// `N` random bytes in base64 for URLs.
pub(crate) fn text<const N: usize>() -> Result<String, Error> {
    Ok(URL_SAFE_NO_PAD.encode(*bytes::<N>()?))
}
