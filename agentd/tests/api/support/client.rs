//! An HTTP client over TLS that trusts the node's CA and nothing else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use mnemos_agentd::Agent;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::DEADLINE;

#[derive(Clone)]
pub(crate) struct Client {
    https: SocketAddr,
    http: SocketAddr,
    tls: TlsConnector,
    pub(crate) token: String,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A response whose body is read bit by bit. Dropping it closes the connection.
pub(crate) struct Streaming {
    pub(crate) status: u16,
    body: Incoming,
    connection: tokio::task::JoinHandle<()>,
    text: String,
}

impl Client {
    pub(crate) fn of(agent: &Agent, directory: &Path) -> Client {
        Client::at(agent.https, agent.http, directory)
    }

    pub(crate) fn at(https: SocketAddr, http: SocketAddr, directory: &Path) -> Client {
        let ca = fs::read(directory.join("state/ca.crt")).unwrap();
        let token = fs::read_to_string(directory.join("state/token")).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&ca).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(tls));
        Client {
            https,
            http,
            tls,
            token: token.trim_end().to_owned(),
        }
    }

    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.https).await.unwrap();
        let name = ServerName::try_from("testnode.local").unwrap();
        timeout(DEADLINE, self.tls.connect(name, stream))
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path, "")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path, &body.to_string()))
            .await
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "testnode.local")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = self.connect().await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = timeout(DEADLINE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        collect(response).await
    }

    /// As [`Client::post`], but returns with the head.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> Streaming {
        let request = self.request(Method::POST, path, &body.to_string());
        let stream = self.connect().await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let response = timeout(DEADLINE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        let (status, text) = (response.status().as_u16(), String::new());
        Streaming {
            status,
            body: response.into_body(),
            connection,
            text,
        }
    }

    /// A request to the plain port.
    pub(crate) async fn plain(&self, method: Method, path: &str) -> Answer {
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = self.request(method, path, "");
        collect(
            timeout(DEADLINE, sender.send_request(request))
                .await
                .unwrap()
                .unwrap(),
        )
        .await
    }
}

async fn collect(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = timeout(DEADLINE, body.collect())
        .await
        .unwrap()
        .unwrap()
        .to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error's code and param.
    pub(crate) fn error(&self) -> (Option<String>, Option<String>) {
        let error = &self.json()["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{error}"
        );
        assert!(error["type"].is_string(), "{error}");
        let text = |name: &str| error[name].as_str().map(ToOwned::to_owned);
        (text("code"), text("param"))
    }
}

impl Streaming {
    /// Reads until what came so far contains `text`.
    pub(crate) async fn read_until(&mut self, text: &str) {
        while !self.text.contains(text) {
            let frame = timeout(DEADLINE, self.body.frame()).await.unwrap();
            let frame = frame
                .unwrap_or_else(|| panic!("ended: {}", self.text))
                .unwrap();
            if let Ok(data) = frame.into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }

    /// Everything until the end, as the payloads of the events.
    pub(crate) async fn events(mut self) -> Vec<String> {
        while let Some(frame) = timeout(DEADLINE, self.body.frame()).await.unwrap() {
            if let Ok(data) = frame.unwrap().into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
        let events = self
            .text
            .split_terminator("\n\n")
            .filter(|event| !event.starts_with(':'));
        events
            .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
            .collect()
    }

    /// Closes the connection at once.
    pub(crate) fn hang_up(self) {
        self.connection.abort();
    }
}
