//! An HTTP client for such addresses.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Client, ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use crate::Reach;

/// Longest reason that is told, in characters.
const MAX_REASON: usize = 200;

/// What is said of an address that may not be reached.
pub const NOT_PUBLIC: &str = "the address is not a public one";

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Chooses this project's implementation of TLS for all clients of this process, those that others make too; needed once, and harmless again.
pub fn prepare_tls() {
    // Another part of this process may have done it before; it would be the same one.
    let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
}

/// A client that follows no redirection, uses no proxy, and connects to no name's address beyond `reach`. Addresses that are written out in a URL
/// are for [`check`]. Trusts the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` count); `more` sets what else is wanted.
///
/// # Errors
/// If the client can't be made.
pub fn client(reach: Reach, more: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client, ClientError> {
    prepare_tls();
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("Kaigi/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(reach)));
        more(builder)
    };
    let client = builder().build().or_else(|error| {
        tracing::warn!(%error, "no root certificates: requests by https will fail");
        builder().tls_certs_only([]).build()
    })?;
    Ok(client)
}

/// Whether a URL's host may be asked for: a name is looked at when it is resolved.
///
/// # Errors
/// [`NOT_PUBLIC`] if it is an address beyond `reach`.
pub fn check(url: &Url, reach: Reach) -> Result<(), &'static str> {
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    match literal {
        Some(address) if !reach.includes(address) => Err(NOT_PUBLIC),
        _ => Ok(()),
    }
}

/// The innermost cause, without the URL, which may have a secret in it.
#[must_use]
pub fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// The system's resolver; what may not be reached is left out of its answers, so that the address that was looked at is the one that is
/// connected to.
#[derive(Debug)]
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| reach.includes(address.ip())).collect();
            if allowed.is_empty() {
                Err(NOT_PUBLIC.into())
            } else {
                Ok(Box::new(allowed.into_iter()) as Addrs)
            }
        })
    }
}
