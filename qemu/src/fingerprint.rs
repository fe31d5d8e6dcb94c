//! A certificate's fingerprint, written as the node's console writes it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// `SHA256:AB:CD:...` over the certificate's DER.
#[must_use]
pub fn of_der(der: &[u8]) -> String {
    let mut text = String::from("SHA256");
    for byte in Sha256::digest(der) {
        // Writing to a String cannot fail.
        let _ = write!(text, ":{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_vector() {
        // FIPS 180-4, SHA-256 of "abc".
        let text = super::of_der(b"abc");
        assert!(text.starts_with("SHA256:BA:78:16:BF:8F:01:CF:EA"), "{text}");
        assert!(text.ends_with("F2:00:15:AD"), "{text}");
        assert_eq!(text.len(), 6 + 32 * 3);
    }
}
