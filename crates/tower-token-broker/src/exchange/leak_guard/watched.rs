//! The credentials that one response must not echo.

use std::{slice, sync::Arc};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use super::search::{SecretForms, mask};

/// The credentials that were used for a response, which must not echo them. Clones share one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<Few>>);

/// Usually one credential; a handler may use several for one response.
#[derive(Clone, Debug, Default)]
pub(super) enum Few {
    #[default]
    None,
    One(Arc<SecretForms>),
    Several(Vec<Arc<SecretForms>>),
}

impl Few {
    pub(super) fn as_slice(&self) -> &[Arc<SecretForms>] {
        match self {
            Self::None => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Several(all) => all,
        }
    }
}

impl Watched {
    pub(crate) fn add(&self, forms: Arc<SecretForms>) {
        let mut few = self.0.lock();
        let known = few.as_slice();
        if known.iter().any(|known| Arc::ptr_eq(known, &forms)) {
            return;
        }
        *few = match known {
            [] => Few::One(forms),
            known => Few::Several(known.iter().cloned().chain([forms]).collect()),
        };
    }

    pub(super) fn now(&self) -> Few {
        self.0.lock().clone()
    }

    /// Masks echoes in headers or trailers; returns their number.
    pub(crate) fn mask_fields(&self, fields: &mut HeaderMap) -> u64 {
        let few = self.now();
        let mut masked = 0;
        for (name, value) in fields.iter_mut() {
            if few.as_slice().iter().all(|forms| forms.find(value.as_bytes(), 0).is_none()) {
                continue;
            }
            let mut bytes = BytesMut::from(value.as_bytes());
            masked += mask(few.as_slice(), &mut bytes);
            if name.as_str().ends_with("-bin") {
                // Binary metadata stays valid base64, so that a client can read the rest of it.
                bytes.iter_mut().filter(|byte| **byte == b'*').for_each(|byte| *byte = b'A');
            }
            // A masked byte is `*`, so the value stays valid.
            *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("*"));
        }
        masked
    }
}
