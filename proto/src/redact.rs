//! What may be shown and logged of things that hold secrets.

/// A URL without what only its owner should know: credentials, and the stream key, which is the last part of the path.
#[must_use]
pub fn url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match path.rsplit_once('/') {
        Some((application, _)) => format!("{scheme}://{host}/{application}/…"),
        None => format!("{scheme}://{host}/…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        assert_eq!(url("rtmp://u:p@h:1935/live/key?token=1"), "rtmp://h:1935/live/…");
        assert_eq!(url("rtmp://h/key"), "rtmp://h/…");
        assert_eq!(url("nonsense"), "…");
    }
}
