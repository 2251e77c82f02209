//! Random texts of 256 bits.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_token_broker::Secret;
use zeroize::Zeroizing;

/// The system provides no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRandomNumbers;

/// Returns 256 random bits in base64url: a code, a client secret.
pub(crate) fn secret() -> Result<Secret, NoRandomNumbers> {
    let mut octets = Zeroizing::new([0; 32]);
    rand::fill(&mut *octets).map_err(|_| NoRandomNumbers)?;
    Ok(Secret::from_text(URL_SAFE_NO_PAD.encode(octets.as_slice())))
}

/// Returns 256 random bits.
pub(crate) fn key() -> Result<Secret, NoRandomNumbers> {
    let mut octets = vec![0; 32];
    rand::fill(&mut octets).map_err(|_| NoRandomNumbers)?;
    Ok(Secret::new(octets))
}

/// Returns 128 random bits in base64url: an ID, which is no secret.
pub(crate) fn id() -> Result<String, NoRandomNumbers> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(|_| NoRandomNumbers)?;
    Ok(URL_SAFE_NO_PAD.encode(octets))
}
