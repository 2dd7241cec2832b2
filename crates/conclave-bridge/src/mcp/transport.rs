//! The byte stream of the host, made tolerant before the opening: a notification that comes before
//! `initialize` would end the MCP library's server, so it is dropped here.

use rmcp::RoleServer;
use rmcp::model::{ClientRequest, JsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};

/// One line of JSON-RPC from a host, in bytes; longer ones are dropped.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Lines of JSON-RPC, in which nothing but requests comes before `initialize`.
pub(super) struct Opening<R: AsyncRead, W: AsyncWrite> {
    lines: AsyncRwTransport<RoleServer, R, W>,
    open: bool,
}

impl<R, W> Opening<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(input: R, output: W) -> Self {
        let lines = AsyncRwTransport::new(input, output).with_max_line_length(LINE_BYTES_MAX);
        Self { lines, open: false }
    }
}

impl<R, W> Transport<RoleServer> for Opening<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.lines.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let message = self.lines.receive().await?;
            match &message {
                JsonRpcMessage::Request(request) => {
                    self.open |= matches!(request.request, ClientRequest::InitializeRequest(_));
                    return Some(message);
                }
                _ if self.open => return Some(message),
                _ => tracing::debug!("a message before initialize was dropped"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.lines.close().await
    }
}
