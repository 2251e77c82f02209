//! Key-encryption keys in a file or an environment variable.

use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_token_broker::Secret;
use zeroize::Zeroizing;

use super::{
    KeyId, KeyWrap, KeyWrapError, SealingContext, WeakKey, WrappedKey,
    aead::{KEY, SealingKey},
    key_strength::{refuse_placeholder, refuse_weak},
};

/// Key-encryption keys that this process holds. The first wraps, all of them unwrap. Cheap to
/// clone.
///
/// In a text, each line has one key: 32 random octets in base64url without padding (43 characters).
/// Empty lines and lines that begin with `#` are skipped. To rotate keys: add the new key as the
/// second line and restart all processes, move it to the first line and restart them again, rotate,
/// then remove the old key.
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct KeyRing(Arc<[RingKey]>);

struct RingKey {
    id: KeyId,
    key: SealingKey,
}

impl KeyRing {
    /// Largest number of keys.
    pub const MAX_KEYS: usize = 64;

    /// Longest text, in bytes.
    const MAX_TEXT: usize = 64 * 1024;

    /// Reads the keys from a file. Blocks the thread for the time of a read.
    ///
    /// # Errors
    /// [`KeyRingError`], also if users other than the owner may read or write the file (Unix).
    pub fn read_file(path: &Path) -> Result<Self, KeyRingError> {
        let failed = |error: std::io::Error| KeyRingError::File {
            path: path.into(),
            reason: error.to_string().into(),
        };
        let file = fs::File::open(path).map_err(failed)?;
        // Of the open file, so that no other file can take its place meanwhile.
        refuse_readable_by_others(path, &file.metadata().map_err(failed)?)?;
        let mut text = Zeroizing::new(String::with_capacity(Self::MAX_TEXT));
        let longest = Self::MAX_TEXT as u64 + 1;
        file.take(longest).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Parses the keys from a text, as of an environment variable. Zeroize your own copy.
    ///
    /// # Errors
    /// [`KeyRingError`] names the line, and no part of the key.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        if text.len() > Self::MAX_TEXT {
            return Err(KeyRingError::TooLong);
        }
        let mut keys: Vec<RingKey> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let weak = |reason| KeyRingError::Weak { line: number, reason };
            let octets = decode(line).map_err(weak)?;
            refuse_weak(&octets).map_err(weak)?;
            let key = SealingKey::derive(&octets, "key-encryption key");
            let id = key_id(&key);
            if keys.iter().any(|known| known.id == id) {
                return Err(KeyRingError::Repeated { line: number });
            }
            keys.push(RingKey { id, key });
        }
        if keys.len() > Self::MAX_KEYS {
            return Err(KeyRingError::TooLong);
        }
        if keys.is_empty() {
            return Err(KeyRingError::Empty);
        }
        Ok(Self(keys.into()))
    }

    /// Creates a random key, as a line for a key file without the end of the line. Write it to a
    /// file that only its owner may read.
    ///
    /// # Panics
    /// The system's random number generator fails.
    pub fn generate_line() -> Secret {
        loop {
            let mut octets = Zeroizing::new([0; KEY]);
            rand::fill(&mut *octets)
                .expect("the system's source of randomness does not fail once it is seeded");
            let line = Zeroizing::new(URL_SAFE_NO_PAD.encode(octets.as_slice()));
            // By chance, a random text may contain a word of the list.
            if refuse_placeholder(&line).and_then(|()| refuse_weak(&octets)).is_ok() {
                return Secret::from_text(line.to_string());
            }
        }
    }

    /// Returns the IDs of the keys. The first one wraps.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.0.iter().map(|key| &key.id)
    }
}

impl KeyWrap for KeyRing {
    fn current(&self) -> KeyId {
        self.0.first().expect("a ring has a key").id.clone()
    }

    async fn wrap(&self, key: &Secret, context: &[u8]) -> Result<WrappedKey, KeyWrapError> {
        let current = self.0.first().expect("a ring has a key");
        #[expect(clippy::disallowed_methods, reason = "the data key that is encrypted")]
        let bytes = current.key.seal(&wrapping(context), key.expose());
        Ok(WrappedKey::new(current.id.clone(), bytes))
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<Secret, KeyWrapError> {
        // O281: a key that was removed is an error of the rows that still use it.
        let key = self
            .0
            .iter()
            .find(|key| key.id == wrapped.key_id)
            .ok_or_else(|| KeyWrapError::UnknownKey { key_id: wrapped.key_id.clone() })?;
        key.key.open(&wrapping(context), &wrapped.bytes).ok_or(KeyWrapError::Unreadable)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.key_ids()).finish()
    }
}

fn wrapping(context: &[u8]) -> SealingContext {
    SealingContext::new("wrapped key").part(context)
}

fn key_id(key: &SealingKey) -> KeyId {
    KeyId::new(&URL_SAFE_NO_PAD.encode(key.name()))
}

fn decode(line: &str) -> Result<Zeroizing<[u8; KEY]>, WeakKey> {
    refuse_placeholder(line)?;
    let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(line).map_err(|_| WeakKey::Encoding)?);
    let key: [u8; KEY] =
        octets.as_slice().try_into().map_err(|_| WeakKey::Length { octets: octets.len() })?;
    Ok(Zeroizing::new(key))
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, file: &fs::Metadata) -> Result<(), KeyRingError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::Mode { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn refuse_readable_by_others(_: &Path, _: &fs::Metadata) -> Result<(), KeyRingError> {
    Ok(())
}

/// The reason why a key file, or a text with keys, is refused. It contains no part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The file can't be read.
    #[error("the key file {} can't be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: Box<str>,
    },
    /// Other users may read or write the file.
    #[error(
        "the key file {} has mode {mode:04o}: other users may use it; run: chmod 600 {}",
        path.display(), path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no key.
    #[error("there is no key; {HOW_TO_MAKE}")]
    Empty,
    /// A line is no key, or a key that can be guessed.
    #[error("the key in line {line} is refused: {reason}; {HOW_TO_MAKE}")]
    Weak {
        /// Number of the line, from 1.
        line: usize,
        /// The reason.
        reason: WeakKey,
    },
    /// Two lines have the same key.
    #[error("the key in line {line} is the same as one above; remove the line")]
    Repeated {
        /// Number of the line, from 1.
        line: usize,
    },
    /// More keys or more text than any use needs.
    #[error(
        "more than {} keys, or more than 64 KiB; remove keys that are no longer used",
        KeyRing::MAX_KEYS
    )]
    TooLong,
}

const HOW_TO_MAKE: &str = "make a key with: openssl rand -base64 32 | tr '+/' '-_' | tr -d '='";
