//! The protected resources of a broker, and the service for their metadata.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, header, uri::Authority};
use parking_lot::Mutex;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    principal::Resource,
    resource_metadata::{Document, not_found},
};

/// The resources whose stacks were built, by the path of their metadata.
#[derive(Default)]
pub(super) struct Resources {
    documents: Arc<ArcSwap<Documents>>,
    writing: Mutex<()>,
}

type Documents = BTreeMap<Box<str>, Vec<Document>>;

/// The same resource was built before with other metadata.
pub(super) struct OtherMetadata;

impl Resources {
    /// Adds a resource. The same one may be added twice with equal metadata.
    pub(super) fn add(&self, document: Document) -> Result<(), OtherMetadata> {
        let _writing = self.writing.lock();
        let mut documents = Documents::clone(&self.documents.load());
        let at_path = documents.entry(document.path().into()).or_default();
        match at_path.iter().find(|known| known.resource() == document.resource()) {
            Some(known) if *known == document => return Ok(()),
            Some(_) => return Err(OtherMetadata),
            None => at_path.push(document),
        }
        self.documents.store(Arc::new(documents));
        Ok(())
    }

    /// Replaces the document of a resource, or adds it.
    pub(super) fn replace(&self, document: Document) {
        let _writing = self.writing.lock();
        let mut documents = Documents::clone(&self.documents.load());
        let at_path = documents.entry(document.path().into()).or_default();
        at_path.retain(|known| known.resource() != document.resource());
        at_path.push(document);
        self.documents.store(Arc::new(documents));
    }

    /// Removes the document of a resource, and returns whether there was one.
    pub(super) fn remove(&self, resource: &Resource) -> bool {
        let _writing = self.writing.lock();
        let mut documents = Documents::clone(&self.documents.load());
        let mut was_known = false;
        documents.retain(|_, at_path| {
            let before = at_path.len();
            at_path.retain(|known| known.resource() != resource);
            was_known |= at_path.len() < before;
            !at_path.is_empty()
        });
        self.documents.store(Arc::new(documents));
        was_known
    }

    pub(super) fn contains(&self, resource: &Resource) -> bool {
        let documents = self.documents.load();
        documents.values().flatten().any(|document| document.resource() == resource)
    }

    pub(super) fn metadata(&self) -> Metadata {
        Metadata { documents: Arc::clone(&self.documents) }
    }
}

/// The service that responds to `GET` for the metadata of a broker's resources (RFC 9728 §3), and
/// with 404 for every other path. Created by [`Broker::metadata`](super::Broker::metadata). Cheap
/// to clone.
///
/// The documents depend only on the stacks. Where two resources of different hosts have the same
/// path, the host of the request selects one; nothing else of a request is used.
// A019.
#[derive(Clone)]
pub struct Metadata {
    documents: Arc<ArcSwap<Documents>>,
}

impl Metadata {
    fn answer<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let documents = self.documents.load();
        let path = request.uri().path();
        let at_path = documents.get(path).map(Vec::as_slice).unwrap_or_default();
        let found = match at_path {
            [only] => Some(only),
            several => several.iter().find(|document| is_for_host_of(request, document)),
        };
        found.map_or_else(not_found, |document| document.answer(request.method()))
    }
}

fn is_for_host_of<B>(request: &Request<B>, document: &Document) -> bool {
    let target = request.uri().authority().map(Authority::as_str);
    let field = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = target.or(field).unwrap_or_default();
    document.resource().authority().eq_ignore_ascii_case(host)
}

impl<B> Service<Request<B>> for Metadata {
    // The body is always the bytes of a document, never a stream.
    type Response = Response<ResponseBody<String>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request).map(ResponseBody::bytes)))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.documents.load().keys()).finish()
    }
}
