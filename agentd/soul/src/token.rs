//! The bearer token: 125 random bits that a person can type from a screen, compared in constant time.

use std::fmt;
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

use crate::state::{self, StateError};

/// Makes a leaked token recognisable to secret scanners.
const PREFIX: &str = "mn-";
/// Digits and lower-case letters without those that look alike (Crockford's base 32, no i, l, o, u).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Five groups of five characters: 125 bits, so guessing is hopeless without any rate limit.
const GROUPS: usize = 5;
/// Characters of a group, as many as one remembers at a glance.
const GROUP_CHARS: usize = 5;

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
        let mut bytes = [0u8; GROUPS * GROUP_CHARS];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| TokenError::Random)?;
        // 256 is a multiple of 32: each character is equally likely.
        let group = |group: &[u8]| -> String {
            let characters = group.iter().map(|byte| ALPHABET[usize::from(byte % 32)]);
            characters.map(char::from).collect()
        };
        let groups: Vec<String> = bytes.chunks(GROUP_CHARS).map(group).collect();
        Ok(Token(format!("{PREFIX}{}", groups.join("-"))))
    }

    fn parse(text: &str) -> Option<Token> {
        let groups: Vec<&str> = text.strip_prefix(PREFIX)?.split('-').collect();
        let whole = |group: &&str| {
            group.len() == GROUP_CHARS && group.bytes().all(|c| ALPHABET.contains(&c))
        };
        (groups.len() == GROUPS && groups.iter().all(whole)).then(|| Token(text.to_owned()))
    }

    /// Whether `offered` is this token, in either case. Takes the same time wherever they differ first.
    #[must_use]
    pub fn matches(&self, offered: &str) -> bool {
        let offered = offered.to_ascii_lowercase();
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
        assert_eq!(
            token.reveal().len(),
            "mn-00000-00000-00000-00000-00000".len()
        );
        assert!(token.matches(&token.reveal().to_uppercase()));
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
            "mn-00000-00000-00000-00000",
            "mn-0000i-00000-00000-00000-00000",
            "00000-00000-00000-00000-00000",
        ] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        let token = Token::random().unwrap();
        assert!(Token::parse(token.reveal()).is_some());
    }
}
