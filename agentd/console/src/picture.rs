//! Everything known at one moment, from all sources.

use crate::status::{InitReport, Status, Unit};

/// What screen and serial lines are made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// What the agent says.
    pub agent: Agent,
    /// What PID 1 says. `None` until it wrote its first report.
    pub init: Option<InitReport>,
    /// Network cards.
    pub links: Vec<Link>,
    /// PID 1 stops this console: the node goes down.
    pub stopping: bool,
}

/// What the agent says.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Agent {
    /// It never answered since this console started.
    #[default]
    NotYet,
    /// It answers.
    Answers(Box<Status>),
    /// It did, and no longer does.
    Silent {
        /// Its last answer: address and token may still be right.
        last: Box<Status>,
        /// Why asking failed.
        reason: String,
    },
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel name, `ens3`.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// A cable with something at the other end.
    pub carrier: bool,
}

impl Picture {
    /// The newest status, even if the agent has fallen silent.
    pub fn status(&self) -> Option<&Status> {
        match &self.agent {
            Agent::NotYet => None,
            Agent::Answers(status) | Agent::Silent { last: status, .. } => Some(status),
        }
    }

    /// Ready, as far as is known now.
    pub fn is_ready(&self) -> bool {
        matches!(&self.agent, Agent::Answers(status) if status.ready)
    }

    /// Services in start order, from PID 1 itself where possible; targets only group others.
    pub fn services(&self) -> impl Iterator<Item = &Unit> {
        let units = match (&self.init, self.status()) {
            (Some(init), _) => init.units.as_slice(),
            (None, Some(status)) => status.services.as_slice(),
            (None, None) => &[],
        };
        units.iter().filter(|unit| !unit.name.ends_with(".target"))
    }

    /// Everything wrong, from both sources, each once.
    pub fn problems(&self) -> Vec<&str> {
        let from_init = self.init.iter().flat_map(|init| &init.problems);
        let from_agent = self
            .status()
            .into_iter()
            .flat_map(|status| &status.problems);
        let mut problems: Vec<&str> = Vec::new();
        for problem in from_init.chain(from_agent) {
            if !problems.contains(&problem.as_str()) {
                problems.push(problem);
            }
        }
        problems
    }
}

impl Unit {
    /// `mnemos-agentd` for `mnemos-agentd.service`.
    pub fn short_name(&self) -> &str {
        self.name.strip_suffix(".service").unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_known_to_both_is_listed_once() {
        let problem = "too little memory".to_owned();
        let init = InitReport {
            problems: vec![problem.clone()],
            ..InitReport::default()
        };
        let status = Status {
            problems: vec![problem, "no clock".to_owned()],
            ..Status::default()
        };
        let picture = Picture {
            init: Some(init),
            agent: Agent::Answers(Box::new(status)),
            ..Picture::default()
        };
        assert_eq!(picture.problems(), ["too little memory", "no clock"]);
    }

    #[test]
    fn a_silent_agent_is_not_ready() {
        let last = Box::new(Status {
            ready: true,
            ..Status::default()
        });
        let agent = Agent::Silent {
            last,
            reason: "connection refused".to_owned(),
        };
        assert!(
            !Picture {
                agent,
                ..Picture::default()
            }
            .is_ready()
        );
    }
}
