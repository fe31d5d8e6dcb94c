//! Names of units: `ntpd-rs.service`, `mnemos.target`, template `a@.service`, instance `a@b.service`.

use std::fmt;
use std::str::FromStr;

/// A unit name whose form has been checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName {
    prefix: String,
    /// What stands after `@`; empty for a template.
    instance: Option<String>,
    suffix: Suffix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    Service,
    Target,
}

/// The text is not the name of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a unit")]
pub struct NotAUnitName;

impl UnitName {
    /// Before `@`, or the whole name without its suffix (`%p`).
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Between `@` and the suffix (`%i`); `None` unless this is an instance.
    pub fn instance(&self) -> Option<&str> {
        self.instance
            .as_deref()
            .filter(|instance| !instance.is_empty())
    }

    /// `a@.service`: a pattern for instances, never started itself.
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// Whether the name ends in `.target`.
    pub fn is_target(&self) -> bool {
        self.suffix == Suffix::Target
    }

    /// The template an instance is made from.
    pub fn template(&self) -> Option<UnitName> {
        self.instance()?;
        Some(UnitName {
            instance: Some(String::new()),
            ..self.clone()
        })
    }
}

impl FromStr for UnitName {
    type Err = NotAUnitName;

    fn from_str(text: &str) -> Result<UnitName, NotAUnitName> {
        let (stem, suffix) = match (text.strip_suffix(".service"), text.strip_suffix(".target")) {
            (Some(stem), _) => (stem, Suffix::Service),
            (_, Some(stem)) => (stem, Suffix::Target),
            _ => return Err(NotAUnitName),
        };
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        };
        if prefix.is_empty()
            || prefix.starts_with('.')
            || !plain(prefix)
            || !instance.is_none_or(plain)
        {
            return Err(NotAUnitName);
        }
        Ok(UnitName {
            prefix: prefix.to_owned(),
            instance: instance.map(str::to_owned),
            suffix,
        })
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.suffix {
            Suffix::Service => "service",
            Suffix::Target => "target",
        };
        match &self.instance {
            Some(instance) => write!(f, "{}@{instance}.{suffix}", self.prefix),
            None => write!(f, "{}.{suffix}", self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_names() {
        for good in [
            "a.service",
            "mnemos-neuron@selftest.service",
            "x@.service",
            "mnemos.target",
        ] {
            assert_eq!(good.parse::<UnitName>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "a",
            ".service",
            "a b.service",
            "a/b.service",
            "a@b@c.service",
            "..service",
            "a.socket",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad}");
        }
        let instance: UnitName = "n@x.service".parse().unwrap();
        assert_eq!(instance.template().unwrap().to_string(), "n@.service");
        assert_eq!(instance.instance(), Some("x"));
    }
}
