//! Listening sockets: bounded connections, deadlines on everything a client can delay, orderly end.

mod bind;
mod stall;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::config::Limits;

pub(crate) use bind::{BindError, bind};
use stall::StallGuard;

/// A vanished client is noticed after about this long even when nothing is sent to it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBE: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;
/// Pause after a failed `accept(2)`, which means that descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The client's address, for audit lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// How a listener treats its connections.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: Limits,
}

/// Accepts connections until `stop` turns true, then lets running requests finish for a while.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Service,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(service.limits.connections));
    let per_address = Arc::new(PerAddress::default());
    let mut pause = interval(ACCEPT_PAUSE);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            // On the IPv6 wildcard, IPv4 clients come as `::ffff:a.b.c.d`.
            Ok((stream, peer)) => (
                stream,
                SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            ),
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                pause.tick().await;
                continue;
            }
        };
        // Over the bound, a connection is closed at once: a waiting one would hold a descriptor too.
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            continue;
        };
        let limit = service.limits.connections_per_address;
        let Some(place) = per_address.clone().enter(peer.ip(), limit) else {
            continue;
        };
        let watcher = graceful.watcher();
        tokio::spawn(connection(
            stream,
            peer,
            service.clone(),
            watcher,
            (slot, place),
        ));
    }
    drop(listener);
    if timeout(service.limits.drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still running at the end");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service,
    watcher: Watcher,
    _places: (OwnedSemaphorePermit, Place),
) {
    if let Err(error) = tune(&stream, service.limits.write_stall) {
        tracing::warn!("cannot set socket options: {error}");
    }
    let Some(tls) = service.tls.clone() else {
        return exchange(stream, peer, service, watcher).await;
    };
    // A failed handshake is a scanner or a client that does not trust the CA yet: not our failure.
    if let Ok(Ok(stream)) = timeout(service.limits.handshake, tls.accept(stream)).await {
        exchange(stream, peer, service, watcher).await;
    }
}

async fn exchange<S>(stream: S, peer: SocketAddr, service: Service, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let router = service.router;
    let handle = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        answer(router.clone(), request.map(Body::new))
    });
    let stream = StallGuard::new(stream, service.limits.write_stall);
    // HTTP/1.1 only: one request at a time on a connection bounds a client's share by itself.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.limits.head)
        .serve_connection(TokioIo::new(stream), handle);
    // An error here is a client that broke off; nothing to do for it.
    let _ = watcher.watch(connection).await;
}

async fn answer(router: Router, request: Request) -> Result<Response, Infallible> {
    router.oneshot(request).await
}

fn tune(stream: &TcpStream, write_stall: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_PROBE)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(write_stall))
}

/// Open connections of each client address, so that one client cannot take all.
#[derive(Debug, Default)]
struct PerAddress(Mutex<HashMap<IpAddr, usize>>);

impl PerAddress {
    fn enter(self: Arc<PerAddress>, address: IpAddr, limit: usize) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            per_address: self,
            address,
        })
    }
}

/// One connection's place among those of its address.
struct Place {
    per_address: Arc<PerAddress>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .per_address
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}
