//! The ports that lead to Gateways: opened and closed while the others serve.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::listen::{Listener, Server};
use crate::table::Table;

/// How soon a port is tried again that could not be opened.
const AGAIN: Duration = Duration::from_millis(200);

/// Keeps a port open for each entry of the table, for as long as it is polled.
/// A port of ours that is shared is not touched.
pub(crate) async fn keep_open(server: &Arc<Server>, table: &Table, address: IpAddr, shared: &[u16]) {
    let mut open: HashMap<u16, Listener> = HashMap::new();
    loop {
        let mut wanted = Vec::new();
        table.entries.for_each(|port, _| wanted.push(*port));
        open.retain(|port, _| wanted.contains(port));
        let mut complete = true;
        for port in wanted {
            if shared.contains(&port) || open.contains_key(&port) {
                continue;
            }
            let address = SocketAddr::new(address, port);
            let bound = TcpListener::bind(address).await.and_then(|bound| server.listen(bound, None));
            match bound {
                Ok(listener) => {
                    tracing::info!(%address, "opened a Gateway's port");
                    open.insert(port, listener);
                }
                // One that was just closed may still be held; it is tried again.
                Err(error) => {
                    tracing::warn!(%address, %error, "a Gateway's port can't be opened yet");
                    complete = false;
                }
            }
        }
        let again = if complete { Duration::MAX } else { AGAIN };
        let _ = tokio::time::timeout(again, table.entries_changed.notified()).await;
    }
}
