//! The public address of the pages.

use http::Uri;

/// The public address of the pages, and what they call the broker. Cheap enough to clone once per
/// process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "does nothing unless it is used"]
pub struct Site {
    origin: Box<str>,
    base_path: Box<str>,
    is_https: bool,
    title: Box<str>,
    servers: Vec<(Box<str>, Box<str>)>,
    link_command: Option<Box<str>>,
}

impl Site {
    /// Creates the site at this URL: `https`, or `http` on a loopback host.
    ///
    /// # Errors
    /// [`SiteError`] names the rule that the URL breaks.
    pub fn new(public_url: &str) -> Result<Self, SiteError> {
        let wrong = || SiteError::Url { url: public_url.into() };
        let url: Uri = public_url.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(wrong());
        };
        if authority.as_str().contains('@') || url.query().is_some() || public_url.contains('#') {
            return Err(wrong());
        }
        let is_https = scheme == "https";
        let host = authority.host().to_ascii_lowercase();
        let is_loopback = matches!(&*host, "localhost" | "[::1]") || is_loopback_v4(&host);
        let is_allowed = is_https || (scheme == "http" && is_loopback);
        if !is_allowed {
            return Err(SiteError::NotHttps { url: public_url.into() });
        }
        let default_port = if is_https { 443 } else { 80 };
        // RFC 6454 §6.2: an origin has no default port.
        let port = match authority.port_u16().filter(|port| *port != default_port) {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        Ok(Self {
            origin: format!("{scheme}://{host}{port}").into(),
            base_path: url.path().trim_end_matches('/').into(),
            is_https,
            title: "token-broker".into(),
            servers: Vec::new(),
            link_command: None,
        })
    }

    /// Sets what the pages call the broker. Default: `token-broker`.
    pub fn title(mut self, title: &str) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a server to those that a user without connections is shown: its name, and its URL for
    /// clients.
    pub fn server(mut self, name: &str, url: &str) -> Self {
        self.servers.push((name.into(), url.into()));
        self
    }

    /// Sets the command that makes a new one-time link for the first account. The page of a used
    /// link names it.
    pub fn link_command(mut self, command: &str) -> Self {
        self.link_command = Some(command.into());
        self
    }

    /// Returns the origin, as a browser sends it in `Origin` (RFC 6454 §6.2).
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns whether browsers reach the pages over https.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base_path)
    }

    /// Returns the path of a request below the site's path, or `None` for another path.
    pub(crate) fn path_of<'u>(&self, uri: &'u Uri) -> Option<&'u str> {
        uri.path().strip_prefix(&*self.base_path)
    }

    pub(crate) fn name(&self) -> &str {
        &self.title
    }

    pub(crate) fn host(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, host)| host)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.servers.iter().map(|(name, url)| (&**name, &**url))
    }

    pub(crate) fn command_for_links(&self) -> Option<&str> {
        self.link_command.as_deref()
    }
}

fn is_loopback_v4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// The reasons why a URL is not the address of the pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// Not a URL, or one with user information, a query or a fragment.
    #[error(
        "public URL {url:?} is not a URL of scheme, host and optional port and path; use for \
         example https://broker.example.com"
    )]
    Url {
        /// The text.
        url: Box<str>,
    },
    /// Neither https nor a loopback host.
    #[error("public URL {url:?} is not https; plain http is only for 127.0.0.1, [::1], localhost")]
    NotHttps {
        /// The text.
        url: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_as_a_browser_sends_it() {
        for (url, origin) in [
            ("https://broker.example.com", "https://broker.example.com"),
            ("https://Broker.Example.com:443/", "https://broker.example.com"),
            ("https://broker.example.com:8443", "https://broker.example.com:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://localhost:80", "http://localhost"),
        ] {
            assert_eq!(Site::new(url).map(|site| site.origin().to_owned()).as_deref(), Ok(origin));
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for url in [
            "http://broker.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
        ] {
            assert_eq!(Site::new(url), Err(SiteError::NotHttps { url: url.into() }));
        }
        for url in ["", "broker", "/", "https://a@b", "https://b?q", "https://b#f"] {
            assert_eq!(Site::new(url), Err(SiteError::Url { url: url.into() }), "{url}");
        }
    }

    #[test]
    fn paths_are_below_the_path_of_the_url() {
        let site = Site::new("https://example.com/broker/").unwrap();
        assert_eq!(site.path("/sign-in"), "/broker/sign-in");
        assert_eq!(site.path_of(&Uri::from_static("/broker/sign-in?a")), Some("/sign-in"));
        assert_eq!(site.path_of(&Uri::from_static("/sign-in")), None);
    }
}
