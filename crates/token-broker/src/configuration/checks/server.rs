//! The protected servers.

use tower_token_broker::{exchange::Upstream, principal::Resource};

use super::{
    super::{
        document::{Document, Server as Section},
        key::Located,
        model::{Network, Server},
    },
    Checks,
    names::Names,
    network::{self, NetworkKeys},
};

impl Checks<'_> {
    pub(super) fn servers(&mut self, document: &Document) -> Vec<Server> {
        let mut names = Names::default();
        let servers = document.server.elements().iter();
        servers.filter_map(|server| self.server(&server.value, document, &mut names)).collect()
    }

    fn server(
        &mut self,
        section: &Section,
        document: &Document,
        names: &mut Names,
    ) -> Option<Server> {
        let name = section.name.as_located().and_then(|name| self.name(name, names));
        let title = self.text("title", &section.title);
        let former = section.previous_names.elements().iter();
        let previous_names = former.filter_map(|former| self.name(former, names)).collect();
        let network = self.network(&NetworkKeys {
            loopback_hosts: &section.loopback_hosts,
            private_hosts: &section.private_hosts,
            plain_http: &section.plain_http,
            trusted_roots: &section.trusted_roots,
        });
        let upstream = section.upstream.as_located();
        let upstream = upstream.and_then(|url| self.upstream(name.as_deref(), url, &network));
        let credential = section.credential.as_located().and_then(|credential| {
            self.credential(credential, document, upstream.as_ref().map(|(_, to)| to), &network)
        });
        let (allow, deny) = (self.rules(&section.allow), self.denials(&section.deny));
        self.rule_ids(section);
        let (name, (uri, _)) = (name?, upstream?);
        // An invalid public URL has been reported.
        let origin = document.public_url.value()?;
        let origin = origin.strip_suffix('/').unwrap_or(origin);
        let resource = Resource::parse(&format!("{origin}/{name}/mcp")).ok()?;
        if section.upstream.value().is_some_and(|url| resource.is_named_by(url)) {
            let problem = "`upstream` is the URL of this server at the gateway itself";
            self.fail(section.upstream.at(), problem, "write the URL of the real server");
        }
        Some(Server {
            name,
            title,
            previous_names,
            resource,
            upstream: uri,
            network,
            credential: credential?,
            allow,
            deny,
        })
    }

    fn upstream(
        &mut self,
        name: Option<&str>,
        url: &Located<String>,
        network: &Network,
    ) -> Option<(http::Uri, Upstream)> {
        // The guard states what would allow the URL; the layers have rules of their own.
        let uri = self.destination("upstream", url, (network::Section::Server, network))?;
        if let Ok(upstream) = Upstream::parse(name.unwrap_or("server"), &url.value) {
            return Some((uri, upstream));
        }
        let problem = "`upstream` is not an absolute URL";
        self.fail(url.at, problem, "write it like https://mcp.example.com/mcp");
        None
    }
}
