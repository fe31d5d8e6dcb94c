//! Length-prefixed JSON frames. `| 0..4 | byte count, big-endian | 4.. | JSON |`

use serde::{Serialize, de::DeserializeOwned};

/// Largest payload either side accepts: a prompt of the largest request body, JSON-escaped.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than [`MAX_FRAME_BYTES`].
    #[error("frame of {announced} bytes exceeds the limit of {MAX_FRAME_BYTES}")]
    TooLarge {
        /// The announced byte count.
        announced: usize,
    },
    /// The payload is not the expected JSON.
    #[error("frame is not valid")]
    Json(#[source] serde_json::Error),
}

/// One frame ready to be written.
///
/// # Errors
/// [`FrameError::TooLarge`] when the value does not fit a frame.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let json = serde_json::to_vec(value).map_err(FrameError::Json)?;
    let too_large = FrameError::TooLarge {
        announced: json.len(),
    };
    if json.len() > MAX_FRAME_BYTES {
        return Err(too_large);
    }
    let count = u32::try_from(json.len()).map_err(|_| too_large)?;
    let mut frame = Vec::with_capacity(4 + json.len());
    frame.extend_from_slice(&count.to_be_bytes());
    frame.extend_from_slice(&json);
    Ok(frame)
}

/// Collects bytes as they arrive and hands out whole frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes read from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError`]; the connection cannot be used any further.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*head) as usize;
        if announced > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge { announced });
        }
        let Some(json) = rest.get(..announced) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(json).map_err(FrameError::Json)?;
        self.buffer.drain(..4 + announced);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Request};

    #[test]
    fn frames_survive_any_split() {
        let sent = Event::Delta {
            text: "h\u{e9}llo".into(),
        };
        let bytes = encode(&sent).unwrap();
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            decoder.push(&bytes[..cut]);
            assert!(decoder.next_frame::<Event>().unwrap().is_none());
            decoder.push(&bytes[cut..]);
            assert_eq!(decoder.next_frame::<Event>().unwrap(), Some(sent.clone()));
        }
    }

    #[test]
    fn oversized_announcement_is_refused_before_it_is_buffered() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert!(matches!(
            decoder.next_frame::<Request>(),
            Err(FrameError::TooLarge { .. })
        ));
    }

    #[test]
    fn unknown_request_is_an_error_not_a_default() {
        let mut decoder = Decoder::default();
        decoder.push(&encode(&serde_json::json!({"type": "reboot"})).unwrap());
        assert!(matches!(
            decoder.next_frame::<Request>(),
            Err(FrameError::Json(_))
        ));
    }
}
