//! One call: its deadline and what can come of it.

use std::{error::Error, time::Duration};

use tonic::{Code, Request, Response, Status, TimeoutExpired};

/// Why a call to another process brought nothing. The text is fit for clients.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum CallError {
    /// No answer in time. OWT's wording.
    #[error("Timeout to make rpc to {0}")]
    Timeout(&'static str),
    /// Nobody is there. Whether the call was carried out is unknown.
    #[error("{0} is not reachable")]
    Unreachable(&'static str),
    /// Others changed the same document whenever this one was about to.
    #[error("Changed by others at the same time, again and again")]
    Conflict,
    /// It was answered with an error.
    #[error("{message}")]
    Refused {
        /// What the answer said.
        code: Code,
        /// Likewise.
        message: String,
    },
}

impl CallError {
    /// Nobody is there of that part of the cluster.
    #[must_use]
    pub fn unreachable(what: &'static str) -> Self {
        Self::Unreachable(what)
    }

    /// What the answer to `call` ("part.method") says. Errors that arose on this side of the wire carry their cause; those of the other side don't.
    #[must_use]
    pub fn from_status(call: &'static str, status: &Status) -> Self {
        let part = call.split_once('.').map_or(call, |(part, _)| part);
        match status.code() {
            Code::DeadlineExceeded => Self::Timeout(call),
            // Either side gives a call up at its deadline, and says it so.
            Code::Cancelled if status.message() == TimeoutExpired(()).to_string() => Self::Timeout(call),
            Code::Cancelled => Self::Unreachable(part),
            _ if status.source().is_some() => Self::Unreachable(part),
            code if status.message().is_empty() => {
                Self::Refused { code, message: code.description().to_owned() }
            }
            code => Self::Refused { code, message: status.message().to_owned() },
        }
    }

    /// The other side says that the thing does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }

    /// Whoever was to answer is gone, or does not have the room any more: another one may.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Conflict => false,
            Self::Unreachable(_) => true,
            Self::Refused { code, .. } => *code == Code::Aborted,
        }
    }

    /// Trying again may help: nobody there, or somebody there who can't yet.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Timeout(_) => false,
            Self::Unreachable(_) | Self::Conflict => true,
            Self::Refused { code, .. } => matches!(code, Code::Unavailable | Code::Aborted),
        }
    }
}

/// A message with its deadline, so that the other side too stops working at it.
pub fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Waits for the answer to `name` ("part.method"), at most `limit`.
///
/// # Errors
/// If there is none in time, or it is one.
pub async fn within<T>(
    limit: Duration,
    name: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from_status(name, &status)),
        Err(_) => Err(CallError::Timeout(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_its_words() {
        let error = CallError::from_status("conference.publish", &Status::permission_denied("unauthorized"));
        assert_eq!(error.to_string(), "unauthorized");
        assert!(!error.is_passing());
    }

    #[test]
    fn faults_of_this_side_tell_no_internals() {
        let status = Status::from_error("connect to 10.0.0.7: refused".into());
        assert_eq!(
            CallError::from_status("conference.join", &status).to_string(),
            "conference is not reachable"
        );
        for late in [Status::deadline_exceeded("h2"), Status::from_error(Box::new(TimeoutExpired(())))] {
            assert_eq!(
                CallError::from_status("conference.join", &late).to_string(),
                "Timeout to make rpc to conference.join"
            );
        }
    }
}
