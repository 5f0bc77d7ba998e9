//! Requests to addresses that others name: webhooks of services, live servers of broadcasts. Who may name one lets this process send to where it
//! can reach but the other can't, so where it may go is a setting ([`Reach`]), and the address that was looked at is the one that is
//! connected to ([`http`]).

pub mod http;
mod reach;

pub use reach::Reach;
