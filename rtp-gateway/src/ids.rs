//! Identifiers that this process gives: a prefix that says of what, and a random UUID (RFC 9562, version 4).

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(String);

        impl $name {
            /// A new one.
            pub(crate) fn random() -> Self {
                Self(format!("{}-{}", $prefix, uuid()))
            }

        }

        impl From<String> for $name {
            /// As a client gave it: it may name nothing.
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// What a peer's owner proves himself by.
    Token,
    "pt"
);
id!(
    /// A port for RTCP.
    RtcpId,
    "rc"
);
id!(
    /// A port for data.
    DataId,
    "da"
);
id!(
    /// A connection of media.
    MediaConnectionId,
    "mc"
);
id!(
    /// A connection of data.
    DataConnectionId,
    "dc"
);

/// A port for RTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct MediaId(String);

impl AsRef<str> for MediaId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl MediaId {
    /// A new one, of a picture or of sound.
    pub(crate) fn random(is_video: bool) -> Self {
        Self(format!("{}-{}", if is_video { "vi" } else { "au" }, uuid()))
    }

    /// Whether it would be one of a picture.
    pub(crate) fn is_video(&self) -> bool {
        self.0.starts_with("vi-")
    }
}

impl From<String> for MediaId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Who a peer is for others where he does not say it himself.
pub(crate) fn peer_name() -> String {
    uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_of_what_it_is_and_is_a_uuid() {
        let id = MediaConnectionId::random();
        let (prefix, uuid) = id.0.split_once('-').unwrap();
        assert_eq!(prefix, "mc");
        let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(id, MediaConnectionId::random());
    }
}
