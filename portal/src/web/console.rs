//! The management console: a page beside the others. What it needs to know of this portal, and what it may do in a browser.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use serde::Serialize;

/// Below this are the console's files.
const PATH: &str = "/console/";
/// Below these are those of the pages for peer-to-peer rooms, and for media that come back.
const PAGES: [&str; 2] = ["/webrtc/client/", "/echo/"];
/// Their policy: their own files, and signaling at their own address.
const PAGES_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Where the console finds the management API: in its own configuration, `GET /console/config.json`.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Console {
    /// `http` or `https`; the host is the one under which the page was found.
    scheme: &'static str,
    /// The management port.
    port: u16,
    /// The whole address, where browsers don't reach the management port as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Whether the sample application gets its tokens by itself.
    sample: bool,
}

/// The address of a management API that browsers can't use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of the management API begins with http:// or https:// and has neither user nor query")]
pub(crate) struct InvalidApi;

/// Reads the address of a management API: scheme, host, perhaps port and path.
///
/// # Errors
/// [`InvalidApi`].
pub(crate) fn parse_api(text: &str) -> Result<String, InvalidApi> {
    let uri: Uri = text.parse().map_err(|_| InvalidApi)?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.authority().is_some_and(is_plain) && uri.query().is_none();
    if is_web && is_plain { Ok(text.trim_end_matches('/').to_owned()) } else { Err(InvalidApi) }
}

/// Whether it can be written into a policy as it is: a name or IPv4 address, and perhaps a port.
fn is_plain(authority: &Authority) -> bool {
    authority.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
}

impl Console {
    /// `api` is the management API's whole address, if an operator says it.
    pub(crate) fn new(secure: bool, port: u16, api: Option<String>, sample: bool) -> Self {
        Self { scheme: if secure { "https" } else { "http" }, port, url: api, sample }
    }

    /// Where the page may send requests to, beside its own origin.
    fn api_origin(&self, headers: &HeaderMap) -> String {
        if let Some(uri) = self.url.as_deref().and_then(|url| url.parse::<Uri>().ok()) {
            let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
            return format!("{}://{authority}", uri.scheme_str().unwrap_or(self.scheme));
        }
        let host = headers.get(header::HOST).and_then(|v| v.to_str().ok());
        let host = host.and_then(|host| host.parse::<Authority>().ok()).filter(is_plain);
        // Policies have no words for IPv6 addresses.
        let host = host.as_ref().map_or("*", Authority::host);
        format!("{}://{host}:{}", self.scheme, self.port)
    }

    /// The Content-Security-Policy (W3C CSP Level 3): this page's own files, and the management API.
    fn policy(&self, headers: &HeaderMap) -> String {
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            self.api_origin(headers)
        )
    }
}

/// `GET /console/config.json`
pub(super) async fn config(
    State(console): State<Console>,
) -> ([(HeaderName, &'static str); 1], Json<Console>) {
    ([(header::CACHE_CONTROL, "no-store")], Json(console))
}

/// Adds to the files of the console, and of the other pages, what keeps others' scripts out of them.
pub(super) async fn guard(State(console): State<Console>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let policy = if path.starts_with(PATH) {
        console.policy(request.headers())
    } else if PAGES.iter().any(|page| path.starts_with(page)) {
        PAGES_POLICY.to_owned()
    } else {
        return next.run(request).await;
    };
    guarded(next.run(request).await, &policy)
}

/// The same for a port that has one page only.
pub(crate) async fn guard_page(request: Request, next: Next) -> Response {
    guarded(next.run(request).await, PAGES_POLICY)
}

fn guarded(mut response: Response, policy: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, name.parse().unwrap())])
    }

    fn console(api: Option<&str>) -> Console {
        Console::new(true, 3000, api.map(str::to_owned), false)
    }

    #[test]
    fn the_page_learns_where_the_management_api_is() {
        let told = |console| serde_json::to_value(console).unwrap();
        assert_eq!(
            told(console(None)),
            serde_json::json!({"scheme": "https", "port": 3000, "sample": false})
        );
        assert_eq!(told(console(Some("https://api.example")))["url"], "https://api.example");
    }

    #[test]
    fn the_page_may_speak_to_the_management_api_and_nobody_else() {
        let connects = |console: Console, headers: &HeaderMap| {
            let policy = console.policy(headers);
            policy.split("; ").find_map(|d| d.strip_prefix("connect-src ").map(str::to_owned)).unwrap()
        };
        assert_eq!(connects(console(None), &host("kaigi.example:8080")), "'self' https://kaigi.example:3000");
        assert_eq!(connects(console(None), &host("127.0.0.1")), "'self' https://127.0.0.1:3000");
        assert_eq!(connects(console(None), &host("[::1]:8080")), "'self' https://*:3000");
        assert_eq!(
            connects(console(None), &host("a;script-src*")),
            "'self' https://*:3000",
            "a host adds no directives"
        );
        assert_eq!(
            connects(console(Some("http://api.example:81/v")), &host("x")),
            "'self' http://api.example:81"
        );
        assert!(!console(None).policy(&host("x")).contains("unsafe"));
    }

    #[test]
    fn addresses_of_the_api_are_those_that_browsers_can_use() {
        assert_eq!(parse_api("https://kaigi.example/api/").as_deref(), Ok("https://kaigi.example/api"));
        for bad in ["", "kaigi.example", "ftp://a", "https://u@a", "https://a/?q", "https://a;b", "/x"] {
            assert_eq!(parse_api(bad), Err(InvalidApi), "{bad}");
        }
    }
}
