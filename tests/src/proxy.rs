//! A TCP proxy that misbehaves on request.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The treatment of the data that pass through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// The data are passed on.
    Pass,
    /// The data are passed on later.
    Delay(Duration),
    /// The data are dropped in both directions, and connections stay open.
    Swallow,
    /// Everything is lost, as in a network that is down: not even the end of a connection reaches the other side.
    Lose,
    /// New connections are closed at once.
    Refuse,
}

/// A proxy, which listens on a port of its own and connects to another.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    mode: ProxyMode,
    /// Both ends of all open connections.
    open: Vec<TcpStream>,
    /// Number of connections so far.
    count: usize,
    over: bool,
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    ///
    /// # Panics
    /// Panics if there is no free port.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Mutex::new(Shared { mode: ProxyMode::Pass, open: Vec::new(), count: 0, over: false }));
        let proxy = Proxy { address, shared: shared.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                let mode = {
                    let mut shared = lock(&shared);
                    if shared.over {
                        return;
                    }
                    shared.count += 1;
                    shared.mode
                };
                let server = match mode {
                    ProxyMode::Refuse => continue,
                    _ => TcpStream::connect(target),
                };
                let Ok(server) = server else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("another handle of a socket");
                lock(&shared).open.extend([clone(&client), clone(&server)]);
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let shared = shared.clone();
                    thread::spawn(move || carry(&shared, from, to));
                }
            }
        });
        proxy
    }

    /// Returns the address at which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mode from now on, on all connections.
    pub fn set(&self, mode: ProxyMode) {
        lock(&self.shared).mode = mode;
    }

    /// Cuts all present connections.
    pub fn cut(&self) {
        for stream in lock(&self.shared).open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the number of connections made so far.
    pub fn connections(&self) -> usize {
        lock(&self.shared).count
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.shared).over = true;
        self.cut();
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(shared: &Mutex<Shared>, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mode = lock(shared).mode;
        match mode {
            ProxyMode::Swallow | ProxyMode::Lose => continue,
            ProxyMode::Delay(time) => thread::sleep(time),
            ProxyMode::Pass | ProxyMode::Refuse => {}
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if lock(shared).mode != ProxyMode::Lose {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
