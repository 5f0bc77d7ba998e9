//! One call: its deadline and what can come of it.

use std::{error::Error, time::Duration};

use tonic::{Code, Request, Response, Status};

/// Why a call to another process brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("nobody is there to answer")]
    Unreachable,
    /// It was answered so.
    #[error("{message}")]
    Refused { code: Code, message: String },
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::DeadlineExceeded => Self::Timeout,
            Code::Cancelled => Self::Unreachable,
            // A fault of this side of the wire carries its cause.
            _ if status.source().is_some() => Self::Unreachable,
            code => Self::Refused { code, message: status.message().to_owned() },
        }
    }
}

impl CallError {
    /// Another attempt may help: nobody is there, or somebody who can't yet.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Timeout => false,
            Self::Unreachable => true,
            Self::Refused { code, .. } => matches!(code, Code::Unavailable | Code::Aborted),
        }
    }
}

/// A message with its deadline, so that the other side too stops working at it.
pub(super) fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Waits for an answer, at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::Timeout),
    }
}
