//! The yardstick: a plain WebSocket broadcast. No store, no identity, no order, no proof.
//!
//! A client that sends `r` receives; whatever else comes goes to every receiver, and `k` back.

use crate::say;
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;

pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    say(&listener.local_addr().expect("it is bound").to_string());
    let (tell, _) = broadcast::channel::<Message>(65_536);
    let parent = std::os::unix::process::parent_id();
    loop {
        let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
        if std::os::unix::process::parent_id() != parent {
            return;
        }
        if let Ok(Ok((stream, _))) = accepted {
            let tell = tell.clone();
            tokio::spawn(async move { client(stream, tell).await });
        }
    }
}

async fn client(stream: TcpStream, tell: broadcast::Sender<Message>) {
    stream.set_nodelay(true).ok();
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        if message.len() == 1 {
            return receive(socket, tell.subscribe()).await;
        }
        tell.send(message).ok();
        if socket.send(Message::text("k")).await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut socket: tokio_tungstenite::WebSocketStream<TcpStream>,
    mut queue: broadcast::Receiver<Message>,
) {
    if socket.send(Message::text("r")).await.is_err() {
        return;
    }
    loop {
        let Ok(message) = queue.recv().await else {
            continue;
        };
        if socket.feed(message).await.is_err() {
            return;
        }
        while let Ok(message) = queue.try_recv() {
            if socket.feed(message).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}
