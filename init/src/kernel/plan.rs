//! From a unit to the exact system calls of its child. Pure, so that every privilege is a unit test.

use std::ffi::CString;

use crate::accounts::{AccountError, Accounts, User};
use crate::sys::{Directory, Plan, StdOutput};
use crate::unit::{Directories, Output, Service, Unit};

/// Why no process can be made from a unit.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A user or group is missing.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The parser refuses NUL bytes, so this means a defect there.
    #[error("a value of the unit holds a NUL byte")]
    Nul(#[from] std::ffi::NulError),
    /// The supervisor asked for a command the unit does not have.
    #[error("the unit has no command number {0}")]
    NoCommand(usize),
}

/// What depends on this boot, not on the unit.
pub struct Surroundings<'a> {
    /// Users and groups of the image.
    pub accounts: &'a Accounts,
    /// The unit's notify socket, if it has one.
    pub notify_socket: Option<&'a str>,
    /// Names of the descriptors it is passed, joined by colons.
    pub descriptor_names: Option<String>,
}

/// The plan for command number `command` of `service`.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    unit: &Unit,
    service: &Service,
    command: usize,
    around: &Surroundings<'_>,
) -> Result<Plan, PlanError> {
    let command = service
        .commands
        .get(command)
        .ok_or(PlanError::NoCommand(command))?;
    let privileges = &service.privileges;
    let user = privileges
        .user
        .as_ref()
        .map(|name| around.accounts.user(name))
        .transpose()?;
    let group = privileges
        .group
        .as_ref()
        .map(|name| around.accounts.gid(name))
        .transpose()?;
    let credentials = match user {
        Some(user) => {
            let gid = group.unwrap_or(user.gid);
            let mut groups = vec![gid];
            for name in &privileges.supplementary_groups {
                groups.push(around.accounts.gid(name)?);
            }
            Some((user.uid, gid, groups))
        }
        None => None,
    };
    let owner = credentials
        .as_ref()
        .map_or((0, 0), |(uid, gid, _)| (*uid, *gid));
    let mut directories = directory_plan("/run", &service.runtime_directories, owner)?;
    directories.extend(directory_plan(
        "/var/lib",
        &service.state_directories,
        owner,
    )?);
    let working_directory = service
        .working_directory
        .as_ref()
        .map_or("/".into(), |path| path.to_string_lossy());
    let argv = command
        .argv
        .iter()
        .map(|word| CString::new(word.as_str()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Plan {
        program: argv.first().cloned().unwrap_or_default(),
        argv,
        environment: environment(service, user, around)?,
        output: output(unit, service, &command.argv[0]),
        directories,
        limits: limits(service),
        umask: privileges.umask,
        oom_score_adjust: service
            .oom_score_adjust
            .map(|score| CString::new(score.to_string()))
            .transpose()?,
        private_network: privileges.private_network,
        credentials,
        bounding: privileges.bounding,
        ambient: privileges.ambient,
        no_new_privileges: privileges.no_new_privileges,
        working_directory: CString::new(working_directory.as_ref())?,
    })
}

/// The header of journald's stream protocol (`stdout_stream_line` in systemd's journald-stream.c): identifier, unit,
/// priority, whether `<N>` prefixes count, and no forwarding to syslog, kmsg and console.
fn output(unit: &Unit, service: &Service, program: &str) -> StdOutput {
    let identifier = program.rsplit('/').next().unwrap_or(program);
    match service.output {
        Output::Journal => StdOutput::Journal {
            header: format!("{identifier}\n{}\n6\n1\n0\n0\n0\n", unit.name).into_bytes(),
        },
        Output::Kmsg => StdOutput::Kmsg,
        Output::Null => StdOutput::Null,
    }
}

fn environment(
    service: &Service,
    user: Option<&User>,
    around: &Surroundings<'_>,
) -> Result<Vec<CString>, PlanError> {
    let mut lines = vec![
        "PATH=/usr/sbin:/usr/bin".to_owned(),
        "LANG=C.UTF-8".to_owned(),
    ];
    let mut set = |name: &str, value: &str| lines.push(format!("{name}={value}"));
    if let Some(user) = user {
        set("USER", &user.name);
        set("LOGNAME", &user.name);
        set("HOME", &user.home);
    }
    for (variable, base, directories) in [
        ("RUNTIME_DIRECTORY", "/run", &service.runtime_directories),
        ("STATE_DIRECTORY", "/var/lib", &service.state_directories),
    ] {
        if !directories.names.is_empty() {
            let paths: Vec<String> = directories
                .names
                .iter()
                .map(|name| format!("{base}/{name}"))
                .collect();
            set(variable, &paths.join(":"));
        }
    }
    if let Some(socket) = around.notify_socket {
        set("NOTIFY_SOCKET", socket);
    }
    if let Some(names) = &around.descriptor_names {
        set("LISTEN_FDNAMES", names);
    }
    if let Some(watchdog) = service.watchdog {
        set("WATCHDOG_USEC", &watchdog.as_micros().to_string());
    }
    for (name, value) in &service.environment {
        set(name, value);
    }
    Ok(lines
        .into_iter()
        .map(CString::new)
        .collect::<Result<_, _>>()?)
}

/// Each directory below `base` with its parents: the parents stay as they are, the last one gets mode and owner.
fn directory_plan(
    base: &str,
    wanted: &Directories,
    owner: (u32, u32),
) -> Result<Vec<Directory>, PlanError> {
    let mut plan = Vec::new();
    for name in &wanted.names {
        let mut path = base.to_owned();
        let parts: Vec<&str> = name.split('/').collect();
        for (at, part) in parts.iter().enumerate() {
            path = format!("{path}/{part}");
            let last = at + 1 == parts.len();
            plan.push(Directory {
                path: CString::new(path.as_str())?,
                mode: if last { wanted.mode } else { 0o755 },
                owner: last.then_some(owner),
            });
        }
    }
    Ok(plan)
}

fn limits(service: &Service) -> Vec<(u32, u64)> {
    let wanted = [
        (libc::RLIMIT_NOFILE, service.limits.open_files),
        (
            libc::RLIMIT_CORE,
            Some(service.limits.core_bytes.unwrap_or(0)),
        ),
        (libc::RLIMIT_MEMLOCK, service.limits.memlock_bytes),
    ];
    wanted
        .into_iter()
        .filter_map(|(resource, value)| value.map(|value| (resource, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Kind, parse_unit};
    use std::path::Path;

    fn plan_of(text: &str) -> Result<Plan, PlanError> {
        let unit = parse_unit(
            &"a@x.service".parse().unwrap(),
            Path::new("a@.service"),
            text,
        )
        .unwrap();
        let accounts = Accounts::parse("neuron:x:901:901::/nonexistent:/x\n", "tty:x:5:\n");
        let Kind::Service(service) = &unit.kind else {
            panic!("a service")
        };
        plan(
            &unit,
            service,
            0,
            &Surroundings {
                accounts: &accounts,
                notify_socket: Some("/n"),
                descriptor_names: None,
            },
        )
    }

    fn strings(list: &[CString]) -> Vec<&str> {
        list.iter().map(|text| text.to_str().unwrap()).collect()
    }

    #[test]
    fn everything_a_child_needs() {
        let text = "[Service]\nExecStart=/bin/worker --name %i\nUser=neuron\nSupplementaryGroups=tty\n\
            RuntimeDirectory=mnemos/neuron\nRuntimeDirectoryMode=0750\nWatchdogSec=2\nEnvironment=A=b\nMemoryMax=50%\n";
        let plan = plan_of(text).unwrap();
        assert_eq!(strings(&plan.argv), ["/bin/worker", "--name", "x"]);
        assert_eq!(plan.credentials, Some((901, 901, vec![901, 5])));
        let made: Vec<_> = plan
            .directories
            .iter()
            .map(|d| (d.path.to_str().unwrap(), d.mode, d.owner))
            .collect();
        assert_eq!(
            made,
            [
                ("/run/mnemos", 0o755, None),
                ("/run/mnemos/neuron", 0o750, Some((901, 901)))
            ]
        );
        let environment = strings(&plan.environment);
        for line in [
            "NOTIFY_SOCKET=/n",
            "WATCHDOG_USEC=2000000",
            "A=b",
            "RUNTIME_DIRECTORY=/run/mnemos/neuron",
        ] {
            assert!(environment.contains(&line), "{line}");
        }
        let StdOutput::Journal { header } = plan.output else {
            panic!("journal")
        };
        assert_eq!(header, b"worker\na@x.service\n6\n1\n0\n0\n0\n");
    }

    #[test]
    fn missing_account_is_named() {
        let error = plan_of("[Service]\nExecStart=/a\nUser=nobody\n").unwrap_err();
        assert_eq!(error.to_string(), "no user nobody in /etc/passwd");
    }
}
