//! The screen at two sizes for the moments of a node's life, next to files a person can read.
//!
//! After a wanted change: `MNEMOS_UPDATE_GOLDEN=1 cargo test -p mnemos-console`, then look at the difference.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::PathBuf;

use mnemos_console::{Agent, InitReport, Link, Picture, Size, Status, render};

const STATUS: &str = include_str!("status.json");
const SERVICES: &str = include_str!("services.json");

fn status() -> Box<Status> {
    serde_json::from_str(STATUS).unwrap()
}

fn ready() -> Picture {
    Picture {
        uptime_ms: 754_000,
        agent: Agent::Answers(status()),
        init: Some(serde_json::from_str(SERVICES).unwrap()),
        links: vec![Link {
            name: "ens3".into(),
            mac: "52:54:00:12:34:56".into(),
            carrier: true,
        }],
        stopping: false,
    }
}

fn starting() -> Picture {
    let mut init: InitReport = serde_json::from_str(SERVICES).unwrap();
    for (unit, state) in init
        .units
        .iter_mut()
        .rev()
        .zip(["waiting", "waiting", "starting", "starting"])
    {
        unit.state = state.into();
        unit.detail = (state == "waiting").then(|| "waits for mnemos-agentd.service".into());
    }
    let spare = Link {
        name: "ens4".into(),
        mac: "52:54:00:12:34:57".into(),
        carrier: false,
    };
    let mut links = ready().links;
    links.push(spare);
    Picture {
        uptime_ms: 4_200,
        init: Some(init),
        links,
        ..Picture::default()
    }
}

fn cannot_serve() -> Picture {
    let mut status = status();
    let reason =
        "this processor has no AVX2; MNEMOS needs x86-64-v3 (Intel Haswell of 2013 or later)";
    status.ready = false;
    status.engines[0].state = "cannot_run".into();
    status.engines[0].detail = Some(reason.into());
    status.self_test = Default::default();
    status.missing = vec!["a processor that can run the engine".into()];
    status.problems = vec![
        format!(
            "{reason}. Use another machine, or give the virtual machine the CPU model of its host."
        ),
        "Only 700 MiB of memory: models will not fit. Add memory; 2 GiB is the least that works."
            .into(),
    ];
    Picture {
        agent: Agent::Answers(status),
        ..ready()
    }
}

fn without_network() -> Picture {
    let mut status = status();
    status.urls.clear();
    status.addresses.clear();
    let links = vec![Link {
        name: "ens3".into(),
        mac: "52:54:00:12:34:56".into(),
        carrier: false,
    }];
    Picture {
        agent: Agent::Answers(status),
        links,
        ..ready()
    }
}

fn agent_gone() -> Picture {
    let mut picture = ready();
    picture.agent = Agent::Silent {
        last: status(),
        reason: "cannot connect: Connection refused".into(),
    };
    let units = &mut picture.init.as_mut().unwrap().units;
    let agent = units
        .iter_mut()
        .find(|unit| unit.name == "mnemos-agentd.service")
        .unwrap();
    agent.state = "backoff".into();
    agent.restarts = 3;
    agent.since_ms = 752_000;
    agent.detail = Some("killed by SIGKILL".into());
    picture
}

fn check(name: &str, picture: &Picture) {
    for (columns, rows) in [(80, 25), (132, 43)] {
        let lines = render(picture, Size { columns, rows });
        let drawn: String = lines
            .iter()
            .map(|line| format!("{}\n", line.plain()))
            .collect();
        let file = format!("tests/golden/{name}-{columns}x{rows}.txt");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
        if std::env::var_os("MNEMOS_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &drawn).unwrap();
        }
        assert_eq!(
            drawn,
            std::fs::read_to_string(&path).unwrap(),
            "{file} differs"
        );
    }
}

#[test]
fn a_ready_node() {
    check("ready", &ready());
}

#[test]
fn a_starting_node() {
    check("starting", &starting());
}

#[test]
fn a_node_that_cannot_serve() {
    check("cannot-serve", &cannot_serve());
}

#[test]
fn a_node_without_network() {
    check("no-network", &without_network());
}

#[test]
fn a_node_whose_agent_is_gone() {
    check("agent-gone", &agent_gone());
}

#[test]
fn a_node_that_goes_down() {
    check(
        "stopping",
        &Picture {
            stopping: true,
            ..ready()
        },
    );
}
