//! `/healthz`: the process answers. `/readyz`: the hub answers too, and nobody is told to leave.

use super::{Answer, answer, finish, refuse};
use crate::edge::Shared;
use conclave_proto::reject::{Code, Reject};
use hyper::StatusCode;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How long the hub may take to answer before the server counts as not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn alive() -> Answer {
    answer(StatusCode::OK, "application/json", "{\"ok\":true}")
}

pub(super) async fn ready(shared: Arc<Shared>) -> Result<Answer, Infallible> {
    let stats = tokio::time::timeout(READY_TIMEOUT, shared.hub.stats()).await;
    let reject = match stats {
        Ok(Ok(_)) if !shared.stop.is_cancelled() => return Ok(finish(alive())),
        Ok(Ok(_)) => Reject::new(Code::Draining, "the server is going away"),
        Ok(Err(_)) | Err(_) => Reject::new(Code::Internal, "the server is not able to work"),
    };
    Ok(finish(refuse(StatusCode::SERVICE_UNAVAILABLE, &reject)))
}
