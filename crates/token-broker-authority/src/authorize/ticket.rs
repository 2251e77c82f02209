//! The consent form's sealed value: one request, shown to one user in one session.

use std::time::Duration;

use serde_json::json;
use token_broker_store::authority::FamilyId;
use tower_token_broker::{
    Secret,
    clock::{Clock, Timestamp},
    json::{Limits, Value},
    principal::{Resource, Scopes},
    sealing::SealingKeys,
};
use zeroize::Zeroizing;

use super::{Pending, SignedIn};
use crate::random::{self, NoRandomNumbers};

/// A request that was shown on a consent page, with what the page offered.
///
/// It has the code that is issued if the user allows access. The code can be stored once, so the
/// form is decided once, and no table of forms is needed.
pub(super) struct Ticket {
    pub(super) pending: Pending,
    /// The servers on the page, with the scopes at each: what can be allowed at most.
    // D503
    pub(super) offered: Vec<(Resource, Scopes)>,
    pub(super) code: Secret,
    pub(super) family: FamilyId,
}

/// The purpose of a sealed ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The form of a consent page, which is not decided yet.
    Form,
    /// A request that the user has allowed, for the one server that the ticket offers. Only the
    /// form makes one.
    Allowed,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "consent form",
            Self::Allowed => "allowed request",
        }
    }
}

impl Ticket {
    /// Time for which the form of a page can be sent.
    pub(super) const LIFETIME: Duration = Duration::from_secs(15 * 60);

    /// Longest sealed value, in bytes. A form with it is short enough to be read.
    const MAX_BYTES: usize = 48 * 1024;

    pub(super) fn new(
        pending: Pending,
        offered: Vec<(Resource, Scopes)>,
    ) -> Result<Self, NoRandomNumbers> {
        let family = FamilyId::new(&random::id()?);
        Ok(Self { pending, offered, code: random::secret()?, family })
    }

    /// Seals the ticket; `None` if the form would be too long.
    // D098, D502: bound to the session and the user to whom it was shown.
    pub(super) fn seal(
        &self,
        keys: &SealingKeys,
        clock: &Clock,
        user: &SignedIn,
        purpose: Purpose,
    ) -> Option<String> {
        let offered: Vec<_> = self
            .offered
            .iter()
            .map(|(resource, scopes)| {
                json!({"resource": resource.as_str(), "scopes": scopes.to_string()})
            })
            .collect();
        let mut content = self.pending.to_json();
        if let Some(members) = content.as_object_mut() {
            #[expect(clippy::disallowed_methods, reason = "sealed at once")]
            let code = self.code.expose_text().unwrap_or_default();
            members.insert("code".into(), code.into());
            members.insert("family".into(), self.family.as_str().into());
            members.insert("offered".into(), offered.into());
            members.insert("at".into(), clock.now().unix_seconds().into());
        }
        let content = Zeroizing::new(content.to_string());
        let sealed = keys.seal_state(purpose.as_str(), &bound_to(user), content.as_bytes());
        Some(sealed).filter(|sealed| sealed.len() <= Self::MAX_BYTES)
    }

    pub(super) fn open(
        sealed: &str,
        keys: &SealingKeys,
        clock: &Clock,
        user: &SignedIn,
        purpose: Purpose,
    ) -> Option<Self> {
        if sealed.len() > Self::MAX_BYTES {
            return None;
        }
        let opened = keys.open_state(purpose.as_str(), &bound_to(user), sealed)?;
        #[expect(clippy::disallowed_methods, reason = "read once; the code is a secret again")]
        let value = Value::parse(opened.expose(), &Limits::default()).ok()?;
        let shown_at = Timestamp::from_unix_seconds(value.get("at")?.as_u64()?);
        if clock.now() >= shown_at.plus(Self::LIFETIME) {
            return None;
        }
        let code = value.get("code")?.as_str()?.into_owned();
        let family = FamilyId::new(&value.get("family")?.as_str()?);
        let offered: Option<Vec<_>> = value.get("offered")?.elements()?.map(read_offer).collect();
        let pending = Pending::read(value, "".into())?;
        Some(Self { pending, offered: offered?, code: Secret::from_text(code), family })
    }
}

fn read_offer(offer: Value<'_>) -> Option<(Resource, Scopes)> {
    let text = |name| offer.get(name).and_then(Value::as_str);
    let resource = Resource::parse(&text("resource")?).ok()?;
    Some((resource, Scopes::parse(&text("scopes")?).ok()?))
}

fn bound_to(user: &SignedIn) -> [&str; 3] {
    [&user.session, user.user.issuer(), user.user.subject()]
}
