//! URL of the page where a user connects an account.

use std::fmt;

use tower_token_broker::principal::Principal;

/// Function that returns the connect page of a caller, if the operator set one.
#[derive(Default)]
pub(crate) struct ConnectUrl(Option<Of>);

type Of = Box<dyn Fn(&Principal) -> Box<str> + Send + Sync>;

impl ConnectUrl {
    pub(crate) fn new(of: impl Fn(&Principal) -> Box<str> + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(of)))
    }

    pub(crate) fn of(&self, caller: &Principal) -> Option<Box<str>> {
        self.0.as_ref().map(|of| of(caller))
    }
}

impl fmt::Debug for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectUrl").field(&self.0.is_some()).finish()
    }
}
