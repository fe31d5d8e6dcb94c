//! Typed reading of a JSON object, with the field's full name in every refusal.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// A JSON object with where it sits in the body. `null` counts as absent, as in OpenAI's API.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Fields<'a> {
        Fields {
            map,
            path: String::new(),
        }
    }

    /// The object at index `index` of the array `array`.
    pub(super) fn element(map: &'a Map<String, Value>, array: &str, index: usize) -> Fields<'a> {
        Fields {
            map,
            path: format!("{array}[{index}]"),
        }
    }

    /// The full name of `name`, for example `messages[2].role`.
    pub(super) fn name(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A refusal of `name`, the reason in words.
    pub(super) fn refuse(&self, name: &str, reason: &str) -> ApiError {
        let name = self.name(name);
        let message = format!("'{name}' {reason}");
        ApiError::field(name, message)
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(name, "must be a string")),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.refuse(name, "must be true or false")),
        }
    }

    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (start, end) = (range.start(), range.end());
                Err(self.refuse(name, &format!("must be a number from {start} to {end}")))
            }
        }
    }

    pub(super) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (start, end) = (range.start(), range.end());
                Err(self.refuse(
                    name,
                    &format!("must be a whole number from {start} to {end}"),
                ))
            }
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields {
                map,
                path: self.name(name),
            })),
            Some(_) => Err(self.refuse(name, "must be an object")),
        }
    }

    /// Refuses `name` unless it is absent or `harmless` says that it changes nothing.
    pub(super) fn only_if(
        &self,
        name: &str,
        harmless: impl Fn(&Value) -> bool,
        remedy: &str,
    ) -> Result<(), ApiError> {
        match self.get(name) {
            Some(value) if !harmless(value) => {
                Err(self.refuse(name, &format!("is not supported by this node; {remedy}")))
            }
            _ => Ok(()),
        }
    }
}
