//! The tokens that clients present.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use tower_token_broker::{Secret, authenticate::jwt::Algorithm};

use super::{
    super::{
        document::{self, Profile as ProfileKey, Tokens as Section, TokensKind},
        key::Located,
        model::{Network, Profile, Tokens},
    },
    Checks,
    files::Content,
    network::{self, NetworkKeys},
};
use crate::escaped::escaped;

impl Checks<'_> {
    /// Returns the tokens, and the hosts that may be reached for them.
    pub(super) fn tokens(&mut self, tokens: &Located<Section>) -> Option<(Tokens, Network)> {
        let section = &tokens.value;
        let hosts = self.network(&NetworkKeys {
            loopback_hosts: &section.loopback_hosts,
            private_hosts: &section.private_hosts,
            plain_http: &section.plain_http,
            trusted_roots: &section.trusted_roots,
        });
        let network = (network::Section::Tokens, &hosts);
        let kind = section.kind.as_located()?;
        let checked = match kind.value {
            TokensKind::Jwt => self.jwt(section, kind.at, network),
            TokensKind::Introspection => self.introspection(section, kind.at, network),
            TokensKind::Trial => self.trial(section, kind.at),
        };
        Some((checked?, hosts))
    }

    fn jwt(
        &mut self,
        section: &Section,
        at: usize,
        network: (network::Section, &Network),
    ) -> Option<Tokens> {
        self.not_for_kind(
            "jwt",
            &[
                ("endpoint", section.endpoint.at()),
                ("client_id", section.client_id.at()),
                ("client_secret", section.client_secret.at()),
                ("client_secret_file", section.client_secret_file.at()),
                ("signing_key_file", section.signing_key_file.at()),
            ],
        );
        let issuer = self.required_issuer(section, at, "jwt");
        let profile = self.profile(section, at);
        let key_set = match section.key_set.as_located() {
            Some(url) => Some(self.destination("key_set", url, network)?),
            None => {
                // The keys are found in the issuer's metadata.
                let issuer = section.issuer.as_located().filter(|_| issuer.is_some());
                issuer.and_then(|issuer| self.destination("issuer", issuer, network))?;
                None
            }
        };
        let (issuer, profile) = (issuer?, profile?);
        let algorithms = self.algorithms(section, &profile);
        Some(Tokens::Jwt { issuer, profile, key_set, algorithms })
    }

    fn profile(&mut self, section: &Section, at: usize) -> Option<Profile> {
        let key = section.profile.value().copied().unwrap_or(ProfileKey::Rfc9068);
        let audience = self.text("audience", &section.audience);
        if key != ProfileKey::Cognito && section.clients.is_set() {
            let problem = "`clients` does not apply to this profile";
            let remedy = "remove it: only the profile `cognito` and introspection have clients";
            self.fail(section.clients.at(), problem, remedy);
        }
        let with_audience: fn(String) -> Profile = match key {
            ProfileKey::Rfc9068 => return Some(Profile::Rfc9068 { audience }),
            ProfileKey::Cognito => return self.cognito(section, at),
            ProfileKey::Entra => Profile::Entra,
            ProfileKey::Okta => Profile::Okta,
            ProfileKey::Auth0 => Profile::Auth0,
            ProfileKey::Keycloak => Profile::Keycloak,
        };
        if !section.audience.is_set() {
            let problem = "this profile requires `audience`";
            let remedy = "add it: the name of the gateway in the provider's tokens (`aud`), such \
                          as the application ID";
            self.fail(section.profile.at().unwrap_or(at), problem, remedy);
        }
        audience.map(with_audience)
    }

    fn cognito(&mut self, section: &Section, at: usize) -> Option<Profile> {
        let clients = self.texts("clients", &section.clients);
        if section.audience.is_set() {
            let problem = "`audience` does not apply to the profile `cognito`";
            self.fail(section.audience.at(), problem, "remove it, and name the app `clients`");
        }
        if clients.is_empty() {
            let problem = "the profile `cognito` requires `clients`";
            let remedy = "add the IDs of the app clients: these tokens have no audience";
            self.fail(section.profile.at().unwrap_or(at), problem, remedy);
            return None;
        }
        Some(Profile::Cognito(clients))
    }

    fn algorithms(&mut self, section: &Section, profile: &Profile) -> Vec<Algorithm> {
        if let (Some(at), []) = (section.algorithms.at(), section.algorithms.elements()) {
            self.fail(at, "`algorithms` is empty", "name at least one, or remove it");
        }
        let of = |located: &Located<document::Algorithm>| match located.value {
            document::Algorithm::Es256 => Algorithm::Es256,
            document::Algorithm::Es384 => Algorithm::Es384,
            document::Algorithm::EdDsa => Algorithm::EdDsa,
            document::Algorithm::Rs256 => Algorithm::Rs256,
            document::Algorithm::Ps256 => Algorithm::Ps256,
        };
        match (section.algorithms.elements(), profile) {
            ([], Profile::Rfc9068 { .. }) => vec![Algorithm::Es256, Algorithm::EdDsa],
            // All of these providers sign with RS256 unless configured otherwise.
            ([], _) => vec![Algorithm::Rs256],
            (named, _) => named.iter().map(of).collect(),
        }
    }

    fn introspection(
        &mut self,
        section: &Section,
        at: usize,
        network: (network::Section, &Network),
    ) -> Option<Tokens> {
        self.not_for_kind(
            "introspection",
            &[
                ("profile", section.profile.at()),
                ("algorithms", section.algorithms.at()),
                ("key_set", section.key_set.at()),
                ("signing_key_file", section.signing_key_file.at()),
            ],
        );
        let kind = "introspection";
        let of = (kind, at);
        let issuer = self.required_issuer(section, at, kind);
        let example = "https://idp.example.com/introspect";
        let endpoint = self.required(of, ("endpoint", &section.endpoint), example);
        let endpoint = endpoint.and_then(|url| self.destination("endpoint", url, network));
        self.required(of, ("client_id", &section.client_id), "token-broker");
        let client_id = self.text("client_id", &section.client_id);
        if !section.client_secret.is_set() && !section.client_secret_file.is_set() {
            self.kind_requires(at, kind, "client_secret_file", "idp.secret");
        }
        let client_secret =
            self.secret("client_secret", &section.client_secret, &section.client_secret_file);
        let audience = self.text("audience", &section.audience);
        let clients = self.texts("clients", &section.clients);
        Some(Tokens::Introspection {
            issuer: issuer?,
            endpoint: endpoint?,
            client_id: client_id?,
            client_secret: client_secret?,
            audience,
            clients,
        })
    }

    fn trial(&mut self, section: &Section, at: usize) -> Option<Tokens> {
        self.not_for_kind(
            "trial",
            &[
                ("issuer", section.issuer.at()),
                ("profile", section.profile.at()),
                ("audience", section.audience.at()),
                ("clients", section.clients.at()),
                ("algorithms", section.algorithms.at()),
                ("key_set", section.key_set.at()),
                ("endpoint", section.endpoint.at()),
                ("client_id", section.client_id.at()),
                ("client_secret", section.client_secret.at()),
                ("client_secret_file", section.client_secret_file.at()),
            ],
        );
        let file = ("signing_key_file", &section.signing_key_file);
        let file = self.required(("trial", at), file, "trial-signing.key")?;
        let (signing_key_file, document) =
            self.read("signing_key_file", file, Content::SigningKey)?;
        if !is_signing_key(&Secret::new(document)) {
            let problem = format!("{} is no ES256 key", escaped(signing_key_file.display()));
            let remedy = "name a PKCS #8 file (DER) of one; `token-broker init` creates one";
            self.fail(file.at, problem, remedy);
            return None;
        }
        Some(Tokens::Trial { signing_key_file })
    }

    fn required_issuer(&mut self, section: &Section, at: usize, kind: &str) -> Option<String> {
        let issuer = ("issuer", &section.issuer);
        let issuer = self.required((kind, at), issuer, "https://idp.example.com")?;
        self.issuer("issuer", issuer)
    }
}

/// Returns whether it is PKCS #8 (DER) of an ES256 key.
#[expect(clippy::disallowed_methods, reason = "reviewed: parsed, and dropped")]
fn is_signing_key(document: &Secret) -> bool {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.expose()).is_ok()
}
