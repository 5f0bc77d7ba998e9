//! The only language Kaigi's processes share: gRPC services ([`v1`]), identifier types ([`ids`]), what
//! services are told ([`events`]), the JSON of streams ([`shape`]) and the cluster secret that every call carries ([`auth`]).

pub mod auth;
pub mod events;
pub mod ids;
pub mod redact;
pub mod shape;

/// Messages, clients and servers generated from `proto/kaigi/v1/*.proto`; the comments there are the reference.
#[allow(missing_docs, unreachable_pub, clippy::all, rust_2018_idioms)]
pub mod v1 {
    tonic::include_proto!("kaigi.v1");
}
