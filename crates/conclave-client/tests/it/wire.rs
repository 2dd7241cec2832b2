//! A wire between a client and its server that a test can silence or cut: what a NAT, a sleeping laptop
//! and a dead router do.

use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    Everything,
    /// Bytes are swallowed, and both ends believe in the connection.
    Nothing,
    /// Connections end, and new ones are refused.
    Cut,
}

pub(crate) struct Wire {
    addr: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    state: watch::Sender<Carries>,
}

impl Wire {
    /// Starts one that leads nowhere yet.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (to, target) = watch::channel(None);
        let (state, carries) = watch::channel(Carries::Everything);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, carries) = (*target.borrow(), carries.clone());
                if *carries.borrow() == Carries::Cut {
                    continue;
                }
                tokio::spawn(async move {
                    let far = TcpStream::connect(target.expect("it leads somewhere")).await;
                    let Ok(far) = far else { return };
                    let ((near_in, near_out), (far_in, far_out)) =
                        (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(near_in, far_out, carries.clone()) => {}
                        () = carry(far_in, near_out, carries) => {}
                    }
                });
            }
        });
        Self { addr, to, state }
    }

    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.to.send_replace(Some(server));
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn silence(&self) {
        self.state.send_replace(Carries::Nothing);
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(Carries::Cut);
    }

    pub(crate) fn mend(&self) {
        self.state.send_replace(Carries::Everything);
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut carries: watch::Receiver<Carries>,
) {
    let mut bytes = vec![0; 4096];
    // What swallowed something once is no stream any more: it carries nothing until it is cut.
    let mut torn = false;
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            changed = carries.changed() => {
                let now = *carries.borrow();
                match (changed, now) {
                    (Ok(()), Carries::Everything) if !torn => continue,
                    (Ok(()), Carries::Nothing) => continue,
                    _ => return,
                }
            }
        };
        if read == 0 {
            return;
        }
        let now = *carries.borrow();
        match now {
            Carries::Everything if !torn => {
                if to.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
            Carries::Cut => return,
            Carries::Everything | Carries::Nothing => torn = true,
        }
    }
}
