//! The gateway itself: its URL, listener, certificate, store and logs.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use http::Uri;
use ipnet::IpNet;
use token_broker_sql::StoreUrl;
use token_broker_store::sealing::KeyRing;
use tower_token_broker::{
    Secret,
    audit::WriterName,
    principal::{Resource, ResourceError},
};
use tracing_subscriber::EnvFilter;

use super::{
    super::{
        document::{Audit, Document, Log, LogForm, Store as StoreSection, Tls},
        key::{Key, Located},
        model::{LogFormat, Store, TlsFiles},
    },
    Checks,
    files::Content,
};
use crate::escaped::escaped;

pub(super) struct Gateway {
    pub(super) public_url: Uri,
    pub(super) listen: SocketAddr,
    pub(super) tls: Option<TlsFiles>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) store: Store,
    pub(super) audit_folder: PathBuf,
    pub(super) audit_writer: String,
    pub(super) log_format: LogFormat,
    pub(super) log_filter: String,
}

impl Checks<'_> {
    pub(super) fn gateway(&mut self, document: &Document) -> Option<Gateway> {
        let public_url = document.public_url.as_located().and_then(|url| self.public_url(url));
        let tls = document.tls.value().map(|tls| self.tls(tls));
        let trusted_proxies: Vec<_> = document
            .trusted_proxies
            .elements()
            .iter()
            .filter_map(|network| self.proxies(network))
            .collect();
        let listen = document.listen.as_located().and_then(|listen| self.listen(listen, document));
        if let (Some(url), Some(at), true) =
            (&public_url, document.public_url.at(), document.tls.is_set())
            && url.scheme_str() == Some("http")
        {
            let problem = "`public_url` is http, but `[tls]` is set";
            self.fail(at, problem, "write https://, or remove `[tls]`");
        }
        let store = document.store.as_located().and_then(|store| self.store(store));
        let audit = document.audit.value().and_then(|audit| self.audit(audit));
        let (log_format, log_filter) =
            document.log.value().map_or((LogFormat::Auto, None), |log| self.log(log));
        let (audit_folder, audit_writer) = audit?;
        Some(Gateway {
            public_url: public_url?,
            listen: listen?,
            // An error of the files has been reported.
            tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
            trusted_proxies,
            store: store?,
            audit_folder,
            audit_writer,
            log_format,
            log_filter: log_filter.unwrap_or_else(|| "info".to_owned()),
        })
    }

    fn public_url(&mut self, url: &Located<String>) -> Option<Uri> {
        let origin = url.value.strip_suffix('/').unwrap_or(&url.value);
        let remedy = "write it like https://broker.example.com";
        // The same check as that of each server's URL.
        let problem = match Resource::parse(&format!("{origin}/name/mcp")) {
            Ok(resource) if resource.path() == "/name/mcp" => match origin.parse() {
                Ok(uri) => return Some(uri),
                Err(_) => "`public_url` is not a URL",
            },
            Ok(_) => "`public_url` must not have a path: each server has its own below it",
            Err(ResourceError::Scheme(_)) => {
                let problem = "`public_url` must be https";
                let remedy = "write https://, and set `[tls]` or a reverse proxy; http is only for \
                              127.0.0.1, [::1] and localhost";
                self.fail(url.at, problem, remedy);
                return None;
            }
            Err(ResourceError::UpperCaseHost(_)) => "the host of `public_url` must be lower case",
            Err(ResourceError::UserInformation(_)) => {
                "`public_url` must begin with its scheme in lower case and its host"
            }
            Err(ResourceError::QueryOrFragment(_)) => "`public_url` has a query or fragment",
            Err(_) => "`public_url` is not an absolute URL",
        };
        self.fail(url.at, problem, remedy);
        None
    }

    fn listen(&mut self, listen: &Located<String>, document: &Document) -> Option<SocketAddr> {
        let Ok(address) = listen.value.parse::<SocketAddr>() else {
            let remedy = "write a numeric address with a port, like 127.0.0.1:8080 or [::1]:8080";
            self.fail(listen.at, "`listen` is not an address with a port", remedy);
            return None;
        };
        let proxies = document.trusted_proxies.elements();
        let is_private = address.ip().to_canonical().is_loopback();
        if !is_private && !document.tls.is_set() && proxies.is_empty() {
            let problem = "`listen` would accept tokens in plain text from other machines";
            let remedy = "set `[tls]`; or name the reverse proxies in `trusted_proxies`; or listen \
                          on 127.0.0.1 or [::1]";
            self.fail(listen.at, problem, remedy);
            return None;
        }
        Some(address)
    }

    fn proxies(&mut self, entry: &Located<String>) -> Option<IpNet> {
        let address = entry.value.parse::<IpAddr>().map(IpNet::from);
        let parsed = address.ok().or_else(|| entry.value.parse().ok());
        if parsed.is_none() {
            let problem = "an entry of `trusted_proxies` is not an address or network";
            self.fail(entry.at, problem, "write each like \"10.0.0.5\" or \"10.1.0.0/24\"");
        }
        parsed
    }

    fn tls(&mut self, tls: &Tls) -> Option<TlsFiles> {
        let certificate = tls.certificate_file.as_located();
        let certificate = certificate.and_then(|file| self.certificates("certificate_file", file));
        let key = tls.key_file.as_located().and_then(|file| self.private_key(file));
        Some(TlsFiles { certificate: certificate?, key: key? })
    }

    fn private_key(&mut self, file: &Located<String>) -> Option<PathBuf> {
        let (path, content) = self.read("key_file", file, Content::Key)?;
        let begin = b"PRIVATE KEY-----";
        if content.windows(begin.len()).any(|part| part == begin) {
            return Some(path);
        }
        let problem = format!("{} has no private key in PEM form", escaped(path.display()));
        self.fail(file.at, problem, "name a file with `-----BEGIN PRIVATE KEY-----`");
        None
    }

    fn store(&mut self, store: &Located<StoreSection>) -> Option<Store> {
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
    fn store_keys(&mut self, store: &StoreSection, at: usize) -> Option<KeyRing> {
        let (text, at) = match (store.key.as_located(), store.key_file.as_located()) {
            (Some(_), Some(file)) => {
                self.fail(file.at, "`key` is set twice", "keep one of the two");
                return None;
            }
            (Some(text), None) => (text.value.0.clone(), text.at),
            (None, Some(file)) => {
                let (_, content) = self.read("key_file", file, Content::Key)?;
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
                self.fail(at, problem, "`token-broker init` creates a key file in an empty folder");
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

    // T324
    fn audit(&mut self, audit: &Audit) -> Option<(PathBuf, String)> {
        let folder = audit.folder.as_located().and_then(|folder| self.folder(folder));
        let writer = match audit.writer.as_located() {
            None => Some(host_name()),
            Some(writer) if WriterName::parse(&writer.value).is_ok() => Some(writer.value.clone()),
            Some(writer) => {
                let remedy = "use 1 to 64 lower-case letters, digits, `-` and `_`, and begin with \
                              a letter or digit";
                self.fail(writer.at, "`writer` cannot be the name of a writer", remedy);
                None
            }
        };
        Some((folder?, writer?))
    }

    fn folder(&mut self, folder: &Located<String>) -> Option<PathBuf> {
        if !self.is_text("`folder`", folder) {
            return None;
        }
        let path = self.path(&folder.value);
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => path.clone(),
        };
        let shown = escaped(path.display());
        let (problem, remedy) = match fs::metadata(&path).or_else(|_| fs::metadata(parent)) {
            Ok(metadata) if !metadata.is_dir() => {
                (format!("{shown} cannot be a folder: a file is there"), "name a folder")
            }
            Ok(metadata) if metadata.permissions().readonly() => {
                (format!("{shown} cannot be written"), "let the gateway's user write it")
            }
            Ok(_) => return Some(path),
            Err(_) => (
                "neither `folder` of `[audit]` nor the folder above it exists".to_owned(),
                "create it, or correct the path",
            ),
        };
        self.fail(folder.at, problem, remedy);
        None
    }

    fn log(&mut self, log: &Log) -> (LogFormat, Option<String>) {
        let format = match log.format.value() {
            None | Some(LogForm::Auto) => LogFormat::Auto,
            Some(LogForm::Text) => LogFormat::Text,
            Some(LogForm::Json) => LogFormat::Json,
        };
        (format, self.filter(&log.filter))
    }

    fn filter(&mut self, filter: &Key<String>) -> Option<String> {
        let text = self.text("filter", filter)?;
        if EnvFilter::try_new(&text).is_ok() {
            return Some(text);
        }
        let remedy = "write it like `info` or `info,token_broker=debug`";
        self.fail(filter.at(), "`filter` is not a filter of log lines", remedy);
        None
    }
}

/// Returns the name of this host as the name of a writer.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"));
    writer_named(&name.unwrap_or_default())
}

fn writer_named(host: &str) -> String {
    let name: String = host
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .take(64)
        .collect();
    let name = name.trim_start_matches('-');
    if WriterName::parse(name).is_ok() { name.to_owned() } else { "gateway".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_writer_name() {
        for (host, writer) in [
            ("Broker-1.example.com\n", "broker-1-example-com"),
            ("", "gateway"),
            ("_x", "x"),
            ("ü", "gateway"),
        ] {
            assert_eq!(writer_named(host), writer, "{host}");
        }
        assert!(WriterName::parse(&writer_named(&"h".repeat(300))).is_ok());
    }
}
