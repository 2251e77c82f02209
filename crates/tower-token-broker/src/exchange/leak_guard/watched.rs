//! The credentials that one response must not contain.

use std::{slice, sync::Arc};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use super::{
    alphabet::Alphabet,
    mask::{Masked, mask},
    registry::Registry,
    search::{Own, Search},
    tails::SecretTails,
};
use crate::{audit::Trail, clock::Timestamp, header_rules, principal::User};

/// Most different credentials that one response may use.
const MOST: usize = 32;

/// The credentials that one response must not contain: those that were used for it, and those of
/// all users. Clones share one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    registry: Option<Arc<Registry>>,
    /// Hash of the user whose response it is.
    user: u64,
    used: Mutex<Used>,
}

/// The credentials that were used for a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    all: Few,
    alphabet: Alphabet,
}

/// Usually one credential; a handler may use several for one response.
#[derive(Clone, Debug, Default)]
enum Few {
    #[default]
    None,
    One(Own),
    Several(Arc<[Own]>),
}

impl Used {
    fn as_slice(&self) -> &[Own] {
        match &self.all {
            Few::None => &[],
            Few::One(one) => slice::from_ref(one),
            Few::Several(all) => all,
        }
    }
}

/// One response used more different credentials than the guard searches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyCredentials;

impl Watched {
    /// Creates the list for a response to this user.
    pub(crate) fn new(registry: &Arc<Registry>, user: &User) -> Self {
        let user = registry.owner(user);
        let registry = Some(Arc::clone(registry));
        Self(Arc::new(Parts { registry, user, used: Mutex::default() }))
    }

    /// Adds a credential that is about to be used. The same secret twice is searched for once, so
    /// the list does not grow with the number of uses.
    pub(crate) fn add(
        &self,
        tails: &Arc<SecretTails>,
        expires_at: Option<Timestamp>,
    ) -> Result<(), TooManyCredentials> {
        if let Some(registry) = &self.0.registry {
            registry.register(tails, expires_at, self.0.user);
        }
        let mut used = self.0.used.lock();
        let known = used.as_slice();
        if known.iter().any(|own| Arc::ptr_eq(&own.tails, tails) || own.tails.is_same(tails)) {
            return Ok(());
        }
        // I443: a bound, and no credential that is not searched for.
        if known.len() == MOST {
            return Err(TooManyCredentials);
        }
        let own = Own { tails: Arc::clone(tails) };
        let mut alphabet = used.alphabet.clone();
        tails.tails().iter().for_each(|tail| alphabet.extend(tail));
        let all = match known {
            [] => Few::One(own),
            known => Few::Several(known.iter().cloned().chain([own]).collect()),
        };
        *used = Used { all, alphabet };
        Ok(())
    }

    /// Returns the credentials that were used so far.
    pub(super) fn used(&self) -> Used {
        self.0.used.lock().clone()
    }

    pub(super) fn search<'a>(&'a self, used: &'a Used) -> Search<'a> {
        let registry = self.0.registry.as_ref();
        let view = registry.and_then(|registry| match used.as_slice() {
            [own] => registry.view(&own.tails),
            _ => registry.view_of_all(),
        });
        Search::new(used.as_slice(), view, &used.alphabet)
    }

    /// Returns the hash of the user whose response it is.
    pub(super) fn user(&self) -> u64 {
        self.0.user
    }

    /// Masks credentials in headers or trailers, and reports them. A field whose name contains one
    /// is removed.
    pub(crate) fn mask_fields(&self, fields: &mut HeaderMap, trail: &Trail) {
        let used = self.used();
        let search = self.search(&used);
        let mut masked = Masked::default();
        // I444: names are in lower case, as HTTP/2 requires.
        let mut names: Vec<HeaderName> = Vec::new();
        for name in fields.keys() {
            let bytes = name.as_str().as_bytes();
            let hits = search.hits(bytes, self.0.user);
            if hits.is_empty() && !has_lower_case(&used, bytes) {
                continue;
            }
            let found = mask(&mut bytes.to_vec(), &hits);
            masked.add(Masked { times: found.times.max(1), ..found });
            names.push(name.clone());
        }
        for name in names {
            fields.remove(name);
        }
        for (name, value) in fields.iter_mut() {
            // R485: a masked length would make the response unreadable.
            if header_rules::is_framing(name, value) {
                continue;
            }
            let hits = search.hits(value.as_bytes(), self.0.user);
            if hits.is_empty() {
                continue;
            }
            let mut bytes = BytesMut::from(value.as_bytes());
            masked.add(mask(&mut bytes, &hits));
            if name.as_str().ends_with("-bin") {
                // Binary metadata stays valid base64, so that a client can read the rest of it.
                bytes.iter_mut().filter(|byte| **byte == b'*').for_each(|byte| *byte = b'A');
            }
            // A masked byte is `*`, so the value stays valid.
            *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("*"));
        }
        masked.report(trail);
    }
}

/// Returns whether a name contains a secret of the response in lower case.
fn has_lower_case(used: &Used, name: &[u8]) -> bool {
    let tails = used.as_slice().iter().flat_map(|own| own.tails.tails());
    tails
        .filter(|tail| tail.len() <= name.len())
        .any(|tail| name.windows(tail.len()).any(|window| window.eq_ignore_ascii_case(tail)))
}
