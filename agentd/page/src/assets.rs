//! The files of the page.

/// One file, compiled into the program.
pub(crate) struct Asset {
    /// Path in the URL.
    pub(crate) path: &'static str,
    /// `Content-Type`.
    pub(crate) media_type: &'static str,
    /// The whole file.
    pub(crate) body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Everything the router serves.
pub(crate) const ASSETS: &[Asset] = &[
    Asset {
        path: "/",
        media_type: HTML,
        body: include_str!("../assets/index.html"),
    },
    Asset {
        path: "/app.css",
        media_type: STYLE,
        body: include_str!("../assets/app.css"),
    },
    Asset {
        path: "/app.js",
        media_type: SCRIPT,
        body: include_str!("../assets/app.js"),
    },
    Asset {
        path: "/api.js",
        media_type: SCRIPT,
        body: include_str!("../assets/api.js"),
    },
    Asset {
        path: "/chart.js",
        media_type: SCRIPT,
        body: include_str!("../assets/chart.js"),
    },
    Asset {
        path: "/chat.js",
        media_type: SCRIPT,
        body: include_str!("../assets/chat.js"),
    },
    Asset {
        path: "/sse.js",
        media_type: SCRIPT,
        body: include_str!("../assets/sse.js"),
    },
    Asset {
        path: "/view.js",
        media_type: SCRIPT,
        body: include_str!("../assets/view.js"),
    },
    Asset {
        path: "/favicon.svg",
        media_type: SVG,
        body: include_str!("../assets/favicon.svg"),
    },
];

impl Asset {
    /// A quoted tag of the content.
    pub(crate) fn etag(&self) -> String {
        format!("\"{:016x}\"", fnv1a(self.body.as_bytes()))
    }
}

/// FNV-1a, 64 bits: tells versions of our own files apart, no more. Source:
/// [draft-eastlake-fnv](https://datatracker.ietf.org/doc/draft-eastlake-fnv/).
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the draft, appendix C.
    #[test]
    fn fnv1a_matches_its_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    /// What the policy would block must not be in the files: inline code and styles, other hosts.
    #[test]
    fn nothing_inline_and_nothing_from_elsewhere() {
        let html = ASSETS[0].body;
        for forbidden in [
            "style=",
            " on",
            "<style",
            "javascript:",
            "http:",
            "https:",
            "<script>",
        ] {
            let found = match forbidden {
                " on" => html
                    .split('<')
                    .any(|tag| tag.split('>').next().is_some_and(|tag| tag.contains(" on"))),
                _ => html.contains(forbidden),
            };
            assert!(!found, "index.html contains {forbidden}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.media_type == SCRIPT) {
            assert!(
                !asset.body.contains("innerHTML"),
                "{} builds markup from text",
                asset.path
            );
        }
    }

    /// Every file the page asks for is served, and every file served is asked for.
    #[test]
    fn references_and_files_agree() {
        let all: String = ASSETS.iter().map(|asset| asset.body).collect();
        for asset in &ASSETS[1..] {
            let name = asset.path.trim_start_matches('/');
            let referenced =
                all.contains(&format!("\"/{name}\"")) || all.contains(&format!("\"./{name}\""));
            assert!(referenced, "{} is asked for by nobody", asset.path);
        }
        for import in all.split("from \"./").skip(1) {
            let name = import.split('"').next().unwrap_or_default();
            assert!(
                ASSETS.iter().any(|asset| asset.path == format!("/{name}")),
                "{name} is not served"
            );
        }
    }
}
