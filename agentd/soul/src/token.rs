//! The bearer token: 32 random bytes, compared in constant time.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

use crate::state::{self, StateError};

/// Makes a leaked token recognisable to secret scanners.
const PREFIX: &str = "mn-";
/// 256 bits: guessing is hopeless without any rate limit.
const RANDOM_BYTES: usize = 32;
/// Length of [`RANDOM_BYTES`] in base64 without padding.
const ENCODED_CHARS: usize = 43;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The kernel gave no random bytes.
    #[error("cannot get random bytes for the token")]
    Random,
    /// The token file is unusable.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The secret that opens the API. `Debug` hides it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token kept in `directory`, made when there is none or what is there is not one.
    ///
    /// # Errors
    /// [`TokenError`] when the directory cannot be used.
    pub fn load_or_create(directory: &Path) -> Result<Token, TokenError> {
        state::ensure_directory(directory)?;
        let path = directory.join("token");
        if let Some(token) = state::read(&path)?.and_then(|text| Token::parse(text.trim_end())) {
            return Ok(token);
        }
        let token = Token::random()?;
        state::write(&path, &format!("{}\n", token.0))?;
        Ok(token)
    }

    fn random() -> Result<Token, TokenError> {
        let mut bytes = [0u8; RANDOM_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| TokenError::Random)?;
        Ok(Token(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    fn parse(text: &str) -> Option<Token> {
        let encoded = text.strip_prefix(PREFIX)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        (encoded.len() == ENCODED_CHARS && bytes.len() == RANDOM_BYTES)
            .then(|| Token(text.to_owned()))
    }

    /// Whether `offered` is this token. Takes the same time wherever the first difference is.
    #[must_use]
    pub fn matches(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }

    /// The secret itself, for the console.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_matches_itself_only() {
        let token = Token::random().unwrap();
        assert_eq!(token.reveal().len(), PREFIX.len() + ENCODED_CHARS);
        assert!(token.matches(token.reveal()));
        assert!(!token.matches(""));
        assert!(!token.matches(&token.reveal()[..10]));
        assert!(!token.matches(&format!("{}x", token.reveal())));
        assert!(!token.matches(Token::random().unwrap().reveal()));
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let token = Token::random().unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn only_whole_tokens_are_read_back() {
        for text in [
            "",
            "mn-",
            "mn-abc",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        let token = Token::random().unwrap();
        assert!(Token::parse(token.reveal()).is_some());
    }
}
