//! The network between a client and an API server, to break.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// Forwards TCP connections at an address of its own.
#[derive(Debug)]
pub struct Proxy {
    at: SocketAddr,
    network: Arc<Network>,
}

#[derive(Debug)]
struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    mood: Mood,
    /// Both ends of all connections that there have been.
    ends: Vec<TcpStream>,
    /// When each connection was accepted; their numbers are their places here.
    accepted: Vec<Instant>,
    /// Connections with a lower number than this are black holes, for good.
    lost: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Forward,
    Hold,
    Refuse,
    End,
}

impl Proxy {
    /// In front of `to`.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let state = State { to, mood: Mood::Forward, ends: Vec::new(), accepted: Vec::new(), lost: 0 };
        let network = Arc::new(Network { state: Mutex::new(state), changed: Condvar::new() });
        let proxy = Self { at: listener.local_addr().unwrap(), network: Arc::clone(&network) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (mood, number) = network.accept();
                match mood {
                    Mood::End => break,
                    Mood::Refuse => {}
                    Mood::Forward | Mood::Hold => {
                        let network = Arc::clone(&network);
                        thread::spawn(move || network.connect(client, number));
                    }
                }
            }
        });
        proxy
    }

    /// Where clients connect to.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// A black hole: connections stay and are accepted, nothing gets through, and nobody is told.
    pub fn freeze(&self) {
        self.turn(Mood::Hold);
    }

    /// The connections that are there become black holes for good, as when a NAT lost its table; new ones work.
    pub fn lose_connections(&self) {
        let mut state = self.network.state.lock().unwrap();
        state.lost = state.accepted.len();
    }

    /// When each connection was accepted, also those that ended at once.
    pub fn accepted(&self) -> Vec<Instant> {
        self.network.state.lock().unwrap().accepted.clone()
    }

    /// All connections end now, and new ones at once.
    pub fn cut(&self) {
        self.turn(Mood::Refuse);
        self.end_all();
    }

    /// As at the start; what was held gets through.
    pub fn resume(&self) {
        self.turn(Mood::Forward);
    }

    /// Connections from now on go elsewhere; those that are there end.
    pub fn redirect(&self, to: SocketAddr) {
        self.network.state.lock().unwrap().to = to;
        self.end_all();
    }

    fn turn(&self, mood: Mood) {
        self.network.state.lock().unwrap().mood = mood;
        self.network.changed.notify_all();
    }

    fn end_all(&self) {
        for end in self.network.state.lock().unwrap().ends.drain(..) {
            // Fails when the other end was faster.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.turn(Mood::End);
        self.end_all();
        // So that the listener looks.
        let _ = TcpStream::connect(self.at);
    }
}

impl Network {
    /// What becomes of a new connection, and its number.
    fn accept(&self) -> (Mood, usize) {
        let mut state = self.state.lock().unwrap();
        state.accepted.push(Instant::now());
        (state.mood, state.accepted.len() - 1)
    }

    fn connect(self: &Arc<Self>, client: TcpStream, number: usize) {
        if self.hold(number) != Mood::Forward {
            return;
        }
        let to = self.state.lock().unwrap().to;
        let Ok(server) = TcpStream::connect(to) else { return };
        let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let mut state = self.state.lock().unwrap();
        state.ends.extend([client_too.try_clone().unwrap(), server_too.try_clone().unwrap()]);
        drop(state);
        let network = Arc::clone(self);
        thread::spawn(move || network.pump(client_too, server_too, number));
        self.pump(server, client, number);
    }

    /// Forwards one direction until either end ends.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, number: usize) {
        let mut buffer = [0; 65_536];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if self.hold(number) != Mood::Forward || to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        // An end that nobody hears of while the network is a black hole.
        self.hold(number);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits while nothing gets through the connection of this number.
    fn hold(&self, number: usize) -> Mood {
        let state = self.state.lock().unwrap();
        let held =
            |state: &mut State| state.mood == Mood::Hold || (state.mood != Mood::End && number < state.lost);
        self.changed.wait_while(state, held).unwrap().mood
    }
}
