//! Fault injection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};

/// A fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault, for calls before a failing one.
    None,
    /// The server is shutting down.
    Unavailable,
    /// Too many requests.
    Busy,
    /// The call never returns.
    Slow,
    /// The connection breaks during the call.
    Reset,
    /// The change is applied, and then the connection breaks.
    ResetAfter,
    /// The disk is full.
    Full,
    /// The API key is rejected.
    Unauthenticated,
    /// An internal error.
    Broken,
}

/// Faults to inject, by method, and the version that the server reports.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Mutex<Shared>>,
    /// Counts the cuts of all connections.
    cut: watch::Sender<u64>,
    /// Counts the calls that were slow.
    slow: watch::Sender<u64>,
}

struct Shared {
    next: HashMap<&'static str, VecDeque<Fault>>,
    always: HashMap<&'static str, Fault>,
    calls: HashMap<&'static str, usize>,
    version: String,
}

impl Default for Faults {
    fn default() -> Self {
        let shared = Shared {
            next: HashMap::new(),
            always: HashMap::new(),
            calls: HashMap::new(),
            version: "1.18.0".to_owned(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), cut: watch::Sender::new(0), slow: watch::Sender::new(0) }
    }
}

impl Faults {
    /// Injects faults into the next calls of a method, in order.
    pub fn next(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().unwrap().next.entry(method).or_default().extend(faults);
    }

    /// Injects a fault into all calls of a method, until it is replaced.
    pub fn always(&self, method: &'static str, fault: Fault) {
        self.shared.lock().unwrap().always.insert(method, fault);
    }

    pub fn set_version(&self, version: &str) {
        self.shared.lock().unwrap().version = version.to_owned();
    }

    pub fn version(&self) -> String {
        self.shared.lock().unwrap().version.clone()
    }

    /// Number of calls of a method.
    pub fn calls(&self, method: &'static str) -> usize {
        self.shared.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until `calls` calls hang.
    pub async fn until_slow(&self, calls: u64) {
        self.slow.subscribe().wait_for(|slow| *slow >= calls).await.unwrap();
    }

    /// Injects the fault of a call. Runs at its start; pass the returned fault to [`after`](Self::after).
    pub(super) async fn inject(&self, method: &'static str) -> Result<Fault, Status> {
        let fault = {
            let mut shared = self.shared.lock().unwrap();
            *shared.calls.entry(method).or_default() += 1;
            let next = shared.next.get_mut(method).and_then(VecDeque::pop_front);
            next.or_else(|| shared.always.get(method).copied()).unwrap_or(Fault::None)
        };
        match fault {
            Fault::None | Fault::ResetAfter => Ok(fault),
            Fault::Unavailable => Err(Status::unavailable("the server is shutting down")),
            Fault::Busy => Err(Status::resource_exhausted("Rate limiting exceeded: too many requests")),
            Fault::Full => Err(Status::internal(
                "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
            )),
            Fault::Unauthenticated => Err(Status::unauthenticated("Must provide an API key")),
            Fault::Broken => Err(Status::internal("Service internal error: it broke")),
            Fault::Reset => self.reset().await,
            Fault::Slow => {
                self.slow.send_modify(|slow| *slow += 1);
                std::future::pending().await
            }
        }
    }

    /// Ends a call that made its change.
    pub(super) async fn after(&self, fault: Fault) -> Result<(), Status> {
        if fault == Fault::ResetAfter { self.reset().await } else { Ok(()) }
    }

    async fn reset<T>(&self) -> Result<T, Status> {
        self.cut();
        // The client does not receive this.
        Err(Status::new(Code::Unknown, "cut"))
    }

    /// Forwards connections, decrypting TLS if configured, until they are cut.
    pub(super) async fn forward(self, outside: TcpListener, inside: SocketAddr, tls: Option<TlsAcceptor>) {
        loop {
            let Ok((mut client, _)) = outside.accept().await else { continue };
            let (mut cuts, tls) = (self.cut.subscribe(), tls.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(inside).await.unwrap();
                let copied = async {
                    match tls {
                        None => tokio::io::copy_bidirectional(&mut client, &mut server).await,
                        Some(tls) => {
                            tokio::io::copy_bidirectional(&mut tls.accept(client).await?, &mut server).await
                        }
                    }
                };
                tokio::select! {
                    biased;
                    _ = cuts.changed() => {}
                    _ = copied => {}
                }
            });
        }
    }
}
