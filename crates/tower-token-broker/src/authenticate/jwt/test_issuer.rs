//! An issuer for tests: RSA and EC keys of its own, and the site that it serves.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeySize, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tower_service::Service;

pub(in crate::authenticate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::authenticate) fn with(mut object: Json, name: &str, value: Json) -> Json {
    object[name] = value;
    object
}

pub(in crate::authenticate) fn without(mut object: Json, name: &str) -> Json {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// An RSA key of 2048 bits.
pub(in crate::authenticate) struct Rsa(RsaKeyPair);

pub(in crate::authenticate) static RSA: LazyLock<Rsa> = LazyLock::new(Rsa::generate);
pub(in crate::authenticate) static OTHER_RSA: LazyLock<Rsa> = LazyLock::new(Rsa::generate);

impl Rsa {
    fn generate() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(in crate::authenticate) fn jwk(&self, kid: &str) -> Json {
        let public: PublicKeyComponents<Vec<u8>> = self.0.public_key().into();
        json!({"kty": "RSA", "kid": kid, "n": b64(&public.n), "e": b64(&public.e)})
    }

    pub(in crate::authenticate) fn modulus(&self) -> Vec<u8> {
        let public: PublicKeyComponents<Vec<u8>> = self.0.public_key().into();
        public.n
    }

    /// Signs with PS256 if the header names it, else with RS256.
    pub(in crate::authenticate) fn sign(&self, header: &Json, claims: &Json) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        let message = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
            if header.contains("PS256") { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", b64(&signature))
    }
}

/// A P-256 key.
pub(in crate::authenticate) struct Ec(EcdsaKeyPair);

impl Ec {
    pub(in crate::authenticate) fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap())
    }

    pub(in crate::authenticate) fn jwk(&self, kid: &str) -> Json {
        let point = self.0.public_key().as_ref();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})
    }

    pub(in crate::authenticate) fn sign(&self, header: &Json, claims: &Json) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        let message = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", b64(signature.as_ref()))
    }
}

/// A site that serves documents by URL and counts requests.
#[derive(Clone, Default)]
pub(in crate::authenticate) struct Site {
    documents: Arc<Mutex<HashMap<String, (u16, String)>>>,
    received: Arc<Mutex<Vec<Request<Bytes>>>>,
    /// Responses wait for as long as someone holds this.
    pub(in crate::authenticate) gate: Arc<tokio::sync::Mutex<()>>,
}

impl Site {
    pub(in crate::authenticate) fn serve(&self, url: &str, status: u16, body: &Json) {
        self.serve_text(url, status, &body.to_string());
    }

    pub(in crate::authenticate) fn serve_text(&self, url: &str, status: u16, body: &str) {
        self.documents.lock().insert(url.into(), (status, body.into()));
    }

    /// Refuses connections.
    pub(in crate::authenticate) fn down(&self, url: &str) {
        self.documents.lock().insert(url.into(), (0, String::new()));
    }

    pub(in crate::authenticate) fn requests_to(&self, url: &str) -> usize {
        self.received.lock().iter().filter(|request| request.uri() == url).count()
    }

    pub(in crate::authenticate) fn received(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut *self.received.lock())
    }
}

impl Service<Request<Bytes>> for Site {
    type Response = Response<Bytes>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let this = self.clone();
        let url = request.uri().to_string();
        self.received.lock().push(request);
        Box::pin(async move {
            drop(this.gate.lock().await);
            let document = this.documents.lock().get(&url).cloned();
            match document.unwrap_or((404, "not here".into())) {
                (0, _) => Err(std::io::Error::other("down")),
                (status, body) => Ok(Response::builder().status(status).body(body.into()).unwrap()),
            }
        })
    }
}
