//! A backend that answers at once, and clients that count how long answers take.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;

use crate::{Result, server};

pub async fn backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut bytes).await {
                    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                        bytes.drain(..end + 4);
                        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err()
                        {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

/// One connection, kept as long as the gateway keeps it.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// Waits until there is somebody to connect to.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut client = Self { address, stream: None };
        while client.stream.is_none() {
            client.stream = TcpStream::connect(address).await.ok();
            if client.stream.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        client
    }

    /// The status of an answer; 0: there was none.
    pub async fn get(&mut self, host: &str) -> u16 {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => stream,
                Err(_) => return 0,
            },
        };
        let _ = stream.set_nodelay(true);
        let request = format!("GET /a/b HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut bytes = Vec::with_capacity(1024);
        if stream.write_all(request.as_bytes()).await.is_err() {
            return 0;
        }
        loop {
            let Ok(1..) = stream.read_buf(&mut bytes).await else { return 0 };
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length = field("content-length: ").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() < end + 4 + length {
                continue;
            }
            if field("connection: ") != Some("close") {
                self.stream = Some(stream);
            }
            return head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        }
    }
}

#[derive(Default)]
pub struct Tally {
    times: Vec<Duration>,
    pub failed: usize,
}

impl Tally {
    pub fn add(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub fn join(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }
}

/// The median, the 99th of a hundred, and the longest.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        let of = |percent| at(percent).copied().unwrap_or_default().as_secs_f64() * 1e3;
        write!(f, "{:.2} / {:.2} / {:.2} ms", of(50), of(99), of(100))
    }
}

/// Asks for one host after the other, at a steady pace, until it is told to stop.
pub async fn steady(
    address: SocketAddr,
    hosts: usize,
    seed: usize,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Tally {
    let mut client = Client::connect(address).await;
    let mut tally = Tally::default();
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = seed;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        number = (number + 7919) % hosts;
        let started = Instant::now();
        let status = client.get(&server::host(number)).await;
        tally.add(started.elapsed());
        tally.failed += usize::from(status != 200);
    }
    tally
}
