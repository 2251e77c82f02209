//! The store: its URL and its keys.

use token_broker_sql::StoreUrl;
use token_broker_store::sealing::{KeyRing, KeyRingError};
use tower_token_broker::Secret;

use super::{
    super::{document::Store as Section, key::Located, model::Store},
    Checks,
    files::Content,
};

/// Advice about a key that is lost: a new one replaces it only in a new store.
pub(super) const NEW_KEY: &str = "a new key cannot read an existing store. For a new store, \
                                  `token-broker init` in an empty folder creates one";

impl Checks<'_> {
    pub(super) fn store(&mut self, store: &Located<Section>) -> Option<Store> {
        let (section, at) = (&store.value, store.at);
        if !section.url.is_set() && !section.url_file.is_set() {
            let problem = "`url` is missing in `[store]`".to_owned();
            self.missing(
                at,
                &["url", "url_file"],
                problem,
                "add it, such as `url = \"sqlite://token-broker.db\"`",
            );
        }
        let url_at = section.url.at().or(section.url_file.at()).unwrap_or(at);
        let url = self.secret("url", &section.url, &section.url_file);
        let url = url.filter(|url| self.is_store_url(url, url_at));
        let keys = self.store_keys(section, at);
        Some(Store { url: url?, keys: keys? })
    }

    // O283
    fn store_keys(&mut self, store: &Section, at: usize) -> Option<KeyRing> {
        let (text, at) = match (store.key.as_located(), store.key_file.as_located()) {
            (Some(_), Some(file)) => {
                self.fail(file.at, "`key` is set twice", "keep one of the two");
                return None;
            }
            (Some(text), None) => (text.value.0.clone(), text.at),
            (None, Some(file)) => {
                let (_, content) = self.read("key_file", file, Content::StoreKeys)?;
                (Secret::new(content), file.at)
            }
            (None, None) => {
                let problem = "`key_file` is missing in `[store]`".to_owned();
                let remedy = "add it, such as `key_file = \"token-broker.key\"`";
                self.missing(at, &["key_file"], problem, remedy);
                return None;
            }
        };
        #[expect(clippy::disallowed_methods, reason = "reviewed: parsed, and never printed")]
        let keys = KeyRing::parse(text.expose_text().unwrap_or_default());
        match keys {
            Ok(keys) => Some(keys),
            Err(error) => {
                // The error names the line of the key file, and no part of the key.
                let problem = format!("the keys of the store cannot be used: {error}");
                let has_all =
                    matches!(error, KeyRingError::Repeated { .. } | KeyRingError::TooLong);
                let remedy = match has_all {
                    true => "write each key that the store needs once".to_owned(),
                    false => format!("put the copy of the key back: {NEW_KEY}"),
                };
                self.fail(at, problem, remedy);
                None
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "reviewed: parsed, and never printed")]
    fn is_store_url(&mut self, url: &Secret, at: usize) -> bool {
        let Err(error) = StoreUrl::parse(url.expose_text().unwrap_or_default()) else {
            return true;
        };
        let remedy = "write it like sqlite://token-broker.db or postgres://USER@HOST/DATABASE";
        self.fail(at, format!("`url` of `[store]`: {error}"), remedy);
        false
    }
}
