//! How many tokens an answer may have, and how long the engine may take for each.

use std::time::Duration;

/// Prompt and answer do not fit the context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverContext {
    /// The prompt alone leaves no room for an answer.
    #[error(
        "the prompt has {prompt} tokens and the model's context {context}; nothing is cut off, so send a shorter prompt"
    )]
    Prompt {
        /// Tokens of the prompt.
        prompt: usize,
        /// Context length.
        context: u32,
    },
    /// The prompt fits, the wanted answer does not.
    #[error("the prompt has {prompt} tokens and max_tokens is {max_tokens}, together {}; the model's context is {context}", u64::from(*prompt) + u64::from(*max_tokens))]
    Together {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// Context length.
        context: u32,
    },
}

/// Tokens of an accepted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens the answer may have; at least 1.
    pub answer: u32,
}

/// Fits prompt and answer into the context; `max_tokens: None` takes what is left.
///
/// The engine itself compares the context with the answer alone and would read past its tables.
///
/// # Errors
/// [`OverContext`]; nothing is ever cut off.
pub fn fit(prompt: usize, max_tokens: Option<u32>, context: u32) -> Result<Budget, OverContext> {
    let over = OverContext::Prompt { prompt, context };
    let prompt = u32::try_from(prompt).map_err(|_| over.clone())?;
    let left = context
        .checked_sub(prompt)
        .filter(|left| *left > 0)
        .ok_or(over)?;
    let answer = max_tokens.unwrap_or(left);
    if answer > left {
        return Err(OverContext::Together {
            prompt,
            max_tokens: answer,
            context,
        });
    }
    Ok(Budget { prompt, answer })
}

/// How long the engine may take before it counts as hung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To the first token, whatever the prompt.
    pub first_token: Duration,
    /// Added for each token of the prompt.
    pub per_prompt_token: Duration,
    /// From one token to the next.
    pub next_token: Duration,
}

impl Default for Deadlines {
    /// Ten times what the slowest machine that is any use needs: 1 s for a prompt token (2-core build
    /// machine, 0.3 B parameters: 30 ms), a minute for a token.
    fn default() -> Self {
        Self {
            first_token: Duration::from_secs(120),
            per_prompt_token: Duration::from_secs(1),
            next_token: Duration::from_secs(60),
        }
    }
}

impl Deadlines {
    /// For the first token after a prompt of `prompt` tokens.
    pub fn first(&self, prompt: u32) -> Duration {
        self.first_token
            .saturating_add(self.per_prompt_token.saturating_mul(prompt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_context_is_the_default() {
        assert_eq!(
            fit(10, None, 512),
            Ok(Budget {
                prompt: 10,
                answer: 502
            })
        );
        assert_eq!(
            fit(10, Some(5), 512),
            Ok(Budget {
                prompt: 10,
                answer: 5
            })
        );
        assert_eq!(
            fit(511, None, 512),
            Ok(Budget {
                prompt: 511,
                answer: 1
            })
        );
    }

    #[test]
    fn both_figures_are_in_the_sentence() {
        let sentence = fit(512, None, 512).unwrap_err().to_string();
        assert!(sentence.starts_with("the prompt has 512 tokens and the model's context 512"));
        let sentence = fit(500, Some(13), 512).unwrap_err().to_string();
        assert_eq!(
            sentence,
            "the prompt has 500 tokens and max_tokens is 13, together 513; the model's context is 512"
        );
        assert!(fit(usize::MAX, Some(u32::MAX), 512).is_err());
        assert!(fit(1, Some(u32::MAX), u32::MAX).is_err());
    }

    #[test]
    fn a_longer_prompt_may_take_longer() {
        let deadlines = Deadlines::default();
        assert_eq!(deadlines.first(1000), Duration::from_secs(1120));
    }
}
