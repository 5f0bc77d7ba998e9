//! The two borders of errors: a room's refusals become gRPC statuses, nodes' statuses become a room's call errors.

use tonic::{Code, Status};

use crate::room::{CallError, Class, Refusal};

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.class() {
            Class::NotFound => Code::NotFound,
            Class::PermissionDenied => Code::PermissionDenied,
            Class::InvalidArgument => Code::InvalidArgument,
            Class::ResourceExhausted => Code::ResourceExhausted,
            Class::Unavailable => Code::Unavailable,
            Class::FailedPrecondition => Code::FailedPrecondition,
        };
        Status::new(code, refusal.to_string())
    }
}

/// What a failed call means to a room: whether another node may do it, the node does not know it, or it will never be done.
pub(crate) fn call_error(status: &Status) -> CallError {
    let text = status.message().to_owned();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::Unknown => {
            CallError::Unavailable(text)
        }
        Code::ResourceExhausted => CallError::Full(text),
        Code::NotFound => CallError::NotFound(text),
        Code::Ok
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => CallError::Refused(text),
    }
}
