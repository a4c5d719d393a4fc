//! A stand-in for a Qdrant server on loopback. It speaks the server's protocol, keeps collections in memory and injects
//! faults.
#![allow(missing_docs, reason = "the names say it")]

mod faults;
mod filter;
mod grpc;
mod http;
mod ids;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use guildex_index::{QdrantServer, ServerConfig};
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer as HealthServer;
use qdrant_client::qdrant::snapshots_server::SnapshotsServer;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::transport::server::TcpIncoming;

pub use faults::{Fault, Faults};
use store::Stored;

/// A running server. Stops when dropped.
pub struct StandIn {
    pub faults: Faults,
    grpc: String,
    http: String,
    tasks: JoinSet<()>,
}

/// State of the server.
#[derive(Clone)]
struct State {
    memory: Arc<Mutex<Memory>>,
    faults: Faults,
}

#[derive(Default)]
struct Memory {
    collections: HashMap<String, Stored>,
    aliases: HashMap<String, String>,
    snapshots: BTreeMap<(String, String), Vec<u8>>,
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }
}

impl Memory {
    fn collection(&mut self, name: &str) -> Result<&mut Stored, Status> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get_mut(name).ok_or_else(missing)
    }
}

impl StandIn {
    pub async fn start() -> Self {
        Self::behind(None).await
    }

    /// Starts a server behind TLS with a self-signed certificate, and returns the certificate in PEM.
    pub async fn start_with_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        (Self::behind(Some(TlsAcceptor::from(Arc::new(config)))).await, made.cert.pem())
    }

    async fn behind(tls: Option<TlsAcceptor>) -> Self {
        let state = State { memory: Arc::default(), faults: Faults::default() };
        let mut tasks = JoinSet::new();

        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc_inside = inside.local_addr().unwrap();
        let services = tonic::transport::Server::builder()
            .add_service(HealthServer::new(state.clone()))
            .add_service(CollectionsServer::new(state.clone()))
            .add_service(PointsServer::new(state.clone()).max_decoding_message_size(usize::MAX))
            .add_service(SnapshotsServer::new(state.clone()))
            .serve_with_incoming(TcpIncoming::from(inside));
        tasks.spawn(async move { services.await.unwrap() });

        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_inside = inside.local_addr().unwrap();
        let routes = http::routes(state.clone());
        tasks.spawn(async move { axum::serve(inside, routes).await.unwrap() });

        // A proxy in front of both, so that connections can be cut during a request.
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut addresses = vec![];
        for inside in [grpc_inside, http_inside] {
            let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(format!("{scheme}://localhost:{}", outside.local_addr().unwrap().port()));
            tasks.spawn(state.faults.clone().forward(outside, inside, tls.clone()));
        }
        let http = addresses.pop().unwrap();
        let grpc = addresses.pop().unwrap();
        Self { faults: state.faults, grpc, http, tasks }
    }

    /// Configuration of a client.
    pub fn config(&self) -> ServerConfig {
        ServerConfig {
            url: self.grpc.parse().ok(),
            http_url: self.http.parse().ok(),
            timeout: Duration::from_secs(30),
            ..ServerConfig::default()
        }
    }

    /// How a program reaches it: the section `index.server`.
    pub fn toml(&self) -> String {
        format!("[index.server]\nurl = {:?}\nhttp_url = {:?}\n", self.grpc, self.http)
    }

    pub fn index(&self) -> QdrantServer {
        QdrantServer::connect(self.config()).unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}
