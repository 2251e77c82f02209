//! The gateway itself: its URL, listener, certificate, store and logs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use http::Uri;
use ipnet::IpNet;
use tower_token_broker::principal::{Resource, ResourceError};
use tracing_subscriber::EnvFilter;

use super::{
    super::{
        document::{Document, Log, LogForm, Tls},
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
        let (path, content) = self.read("key_file", file, Content::TlsKey)?;
        let begin = b"PRIVATE KEY-----";
        if content.windows(begin.len()).any(|part| part == begin) {
            return Some(path);
        }
        let problem = format!("{} has no private key in PEM form", escaped(path.display()));
        self.fail(file.at, problem, "name a file with `-----BEGIN PRIVATE KEY-----`");
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
