//! Starting and stopping the agent: state first, then the ports, then READY, then what may take long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mnemos_relay::chain;
use mnemos_soul::{Identity, IdentityError, Token, TokenError};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::listen::{self, BindError, Service};
use crate::local::{self, LocalError};
use crate::node::{Node, Parts, host_name};
use crate::routes::now_rfc3339;
use crate::{addresses, engines, notify, routes, status};

/// How often addresses are read and the status line is renewed.
const LOOK: Duration = Duration::from_millis(500);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A port is taken or not allowed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No local socket.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The TLS library refuses its settings.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The kernel does not tell which port it gave.
    #[error("cannot read the address of a listening socket")]
    Address(#[source] io::Error),
}

/// The running agent. Dropping it ends it at once; [`Agent::stop`] lets requests finish.
pub struct Agent {
    /// Where TLS is served.
    pub https: SocketAddr,
    /// Where the redirect is served.
    pub http: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Starts everything. The ports are bound when this returns; engines are found later.
    ///
    /// # Errors
    /// [`StartError`] when the agent could not be reached or trusted.
    pub async fn start(config: Config) -> Result<Agent, StartError> {
        let name = config.name.clone().unwrap_or_else(host_name);
        let now = OffsetDateTime::now_utc();
        let identity = Arc::new(Identity::load_or_create(&config.state_dir, &name, now)?);
        let token = Token::load_or_create(&config.state_dir)?;
        let tls = acceptor(identity.clone())?;
        let https = listen::bind(config.bind, config.https_port)?;
        let http = listen::bind(config.bind, config.http_port)?;
        let local = local::bind(&config.local_socket)?;
        let (https_at, http_at) = (local_address(&https)?, local_address(&http)?);
        let https_port = https_at.port();
        let node = Arc::new(Node::new(Parts {
            name,
            config,
            identity,
            token,
            https_port,
        }));
        look_at_addresses(&node);
        let (stop, _) = watch::channel(false);
        let listeners = listeners(&node, tls, https, http, &stop);
        notify::ready();
        let registry = engines::watch(node.registry.clone(), node.config.clone());
        let watchers = vec![
            tokio::spawn(registry),
            tokio::spawn(local::serve(local, node.clone())),
            tokio::spawn(keep_current(node.clone())),
        ];
        tracing::info!(name = node.name, %https_at, %http_at, "agent is up");
        Ok(Agent {
            https: https_at,
            http: http_at,
            stop,
            listeners,
            watchers,
        })
    }

    /// Stops taking requests, lets running ones finish within the limit, and ends.
    pub async fn stop(mut self) {
        notify::stopping();
        self.stop.send_replace(true);
        for listener in self.listeners.drain(..) {
            // A listener that panicked has nothing left to finish.
            let _ = listener.await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in self.watchers.iter().chain(&self.listeners) {
            task.abort();
        }
    }
}

fn listeners(
    node: &Arc<Node>,
    tls: TlsAcceptor,
    https: TcpListener,
    http: TcpListener,
    stop: &watch::Sender<bool>,
) -> Vec<JoinHandle<()>> {
    let limits = node.config.limits.clone();
    let router = routes::secure(node.clone());
    let secure = Service {
        router,
        tls: Some(tls),
        limits: limits.clone(),
    };
    let plain = Service {
        router: routes::plain(node.clone()),
        tls: None,
        limits,
    };
    vec![
        tokio::spawn(listen::serve(https, secure, stop.subscribe())),
        tokio::spawn(listen::serve(http, plain, stop.subscribe())),
    ]
}

fn acceptor(identity: Arc<Identity>) -> Result<TlsAcceptor, StartError> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(StartError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(StartError::Address)
}

/// Keeps addresses, certificate and status line up to date until the task is dropped.
async fn keep_current(node: Arc<Node>) {
    let mut ticks = interval(LOOK);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        look_at_addresses(&node);
        let line = status::line(&status::of(&node, now_rfc3339()));
        if line == last {
            notify::alive();
        } else {
            notify::status(&line);
            tracing::info!("{line}");
            last = line;
        }
    }
}

/// Reads the addresses and makes sure that the certificate covers them and the clock.
fn look_at_addresses(node: &Node) {
    match addresses::current() {
        Ok(current) => {
            if let Some(changed) = node.set_addresses(current) {
                tracing::info!(?changed, "addresses");
            }
        }
        Err(error) => tracing::warn!("cannot read addresses: {error}"),
    }
    let listed: Vec<_> = node
        .addresses()
        .iter()
        .map(|address| address.address)
        .collect();
    if let Err(error) = node.identity.ensure(&listed, OffsetDateTime::now_utc()) {
        tracing::error!("{}", chain(&error));
    }
}
