//! What goes wrong.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not; for what comes before one that does.
    None,
    /// The server has gone away, or says so.
    Unavailable,
    /// There are too many calls.
    Busy,
    /// It never answers.
    Slow,
    /// The connection breaks under it.
    Reset,
    /// The change is made, and then the connection breaks.
    ResetAfter,
    /// The disk is full.
    Full,
    /// It does not know the key.
    Stranger,
    /// Something broke inside.
    Broken,
}

/// The faults to come, by method, and what the server says of its version.
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
    /// The next calls of a method fail like this, one after another.
    pub fn next(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().unwrap().next.entry(method).or_default().extend(faults);
    }

    /// All calls of a method fail like this, until it is said otherwise.
    pub fn always(&self, method: &'static str, fault: Fault) {
        self.shared.lock().unwrap().always.insert(method, fault);
    }

    pub fn set_version(&self, version: &str) {
        self.shared.lock().unwrap().version = version.to_owned();
    }

    pub fn version(&self) -> String {
        self.shared.lock().unwrap().version.clone()
    }

    /// How many calls of a method there were.
    pub fn calls(&self, method: &'static str) -> usize {
        self.shared.lock().unwrap().calls.get(method).copied().unwrap_or(0)
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Returns once so many calls wait for an answer that never comes.
    pub async fn until_slow(&self, calls: u64) {
        self.slow.subscribe().wait_for(|slow| *slow >= calls).await.unwrap();
    }

    /// To be called at the beginning of each call; what it returns happens after the change.
    pub(super) async fn strike(&self, method: &'static str) -> Result<Fault, Status> {
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
            Fault::Stranger => Err(Status::unauthenticated("Must provide an API key")),
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
        // The answer has nowhere to go.
        Err(Status::new(Code::Unknown, "cut"))
    }

    /// Passes bytes on, from TLS if it is wanted, until the connections are cut.
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
