//! Values of a request that the engine would misunderstand or choke on.

use mnemos_engine_protocol::Generate;

/// More stop strings make no sense and each costs time for each token.
const MAX_STOPS: usize = 16;
/// Longest stop string: this much text may be held back.
const MAX_STOP_BYTES: usize = 1024;

/// Which field is not acceptable, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadRequest {
    /// A sampling value outside its range, or not a number.
    #[error("{field} is {value}, outside {range}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is possible.
        range: &'static str,
    },
    /// An answer of no tokens.
    #[error("max_tokens is 0; at least 1 token is generated")]
    NoTokens,
    /// Too many stop strings, an empty or an endless one.
    #[error("stop has {0}; up to {MAX_STOPS} strings of 1 to {MAX_STOP_BYTES} bytes are possible")]
    Stop(&'static str),
}

/// Checks what does not depend on the model.
///
/// # Errors
/// [`BadRequest`], naming the field.
pub fn check(request: &Generate) -> Result<(), BadRequest> {
    let sampling = &request.sampling;
    let in_range = |field, value: f64, possible: bool, range| {
        if possible {
            Ok(())
        } else {
            Err(BadRequest::Range {
                field,
                value,
                range,
            })
        }
    };
    let temperature = sampling.temperature;
    in_range(
        "temperature",
        temperature,
        (0.0..=100.0).contains(&temperature),
        "0 to 100",
    )?;
    let top_p = sampling.top_p;
    in_range(
        "top_p",
        top_p,
        top_p > 0.0 && top_p <= 1.0,
        "0 (excluded) to 1",
    )?;
    for (field, value) in [
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        in_range(
            field,
            f64::from(value),
            (-2.0..=2.0).contains(&value),
            "-2 to 2",
        )?;
    }
    if request.max_tokens == Some(0) {
        return Err(BadRequest::NoTokens);
    }
    if request.stop.len() > MAX_STOPS {
        return Err(BadRequest::Stop("too many strings"));
    }
    if request.stop.iter().any(String::is_empty) {
        return Err(BadRequest::Stop("an empty string"));
    }
    if request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        return Err(BadRequest::Stop("a string that is too long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mnemos_engine_protocol::{Prompt, Sampling};

    use super::*;

    fn refusal(change: impl FnOnce(&mut Generate)) -> Option<String> {
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
        };
        let prompt = Prompt::Text("a".into());
        let mut request = Generate {
            id: "t".into(),
            prompt,
            sampling,
            stop: vec!["x".into()],
            max_tokens: Some(1),
        };
        change(&mut request);
        check(&request).err().map(|error| error.to_string())
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert_eq!(refusal(|_| ()), None);
        for (sentence, field) in [
            (
                refusal(|r| r.sampling.temperature = f64::NAN),
                "temperature",
            ),
            (refusal(|r| r.sampling.temperature = -1.0), "temperature"),
            (refusal(|r| r.sampling.top_p = 0.0), "top_p"),
            (
                refusal(|r| r.sampling.frequency_penalty = 3.0),
                "frequency_penalty",
            ),
            (
                refusal(|r| r.sampling.presence_penalty = f32::INFINITY),
                "presence_penalty",
            ),
            (refusal(|r| r.max_tokens = Some(0)), "max_tokens"),
            (refusal(|r| r.stop = vec![String::new()]), "stop"),
            (refusal(|r| r.stop = vec!["x".into(); 17]), "stop"),
            (refusal(|r| r.stop = vec!["x".repeat(1025)]), "stop"),
        ] {
            let sentence = sentence.unwrap();
            assert!(sentence.starts_with(field), "{sentence}");
        }
    }
}
