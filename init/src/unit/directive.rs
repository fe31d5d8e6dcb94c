//! The directives of the subset: each turns its value into a field of [`Unit`], or refuses it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{LoadUnitError, Refusal};
use super::ini::{self, Assignment};
use super::model::{
    CgroupLimits, Condition, ConditionTest, Directories, Kind, Limits, Listen, ListenKind, Output,
    Privileges, Restart, Service, ServiceType, Unit,
};
use super::name::UnitName;
use super::value;

/// Directives that add up when repeated; all others may be given once.
const REPEATABLE: [&str; 15] = [
    "X-MnemosListenStream",
    "X-MnemosListenDatagram",
    "After",
    "Before",
    "Requires",
    "Wants",
    "Documentation",
    "ExecStart",
    "Environment",
    "SupplementaryGroups",
    "RuntimeDirectory",
    "StateDirectory",
    "ConditionPathExists",
    "ConditionCPUFeature",
    "ConditionKernelCommandLine",
];

/// Reads the text of one unit file as the unit `name`, expanding `%i`, `%p`, `%n` and `%%`.
///
/// # Errors
/// [`LoadUnitError::Line`] for the first line outside the subset.
pub fn parse_unit(name: &UnitName, source: &Path, text: &str) -> Result<Unit, LoadUnitError> {
    let refuse = |(line, refusal)| LoadUnitError::Line {
        path: source.to_owned(),
        line,
        source: refusal,
    };
    let assignments = ini::parse(text).map_err(refuse)?;
    let mut unit = empty_unit(name, source);
    let mut seen = BTreeSet::new();
    for mut assignment in assignments {
        let line = assignment.line;
        if !seen.insert(assignment.key.clone()) && !REPEATABLE.contains(&assignment.key.as_str()) {
            return Err(refuse((line, Refusal::Repeated(assignment.key))));
        }
        expand(&mut assignment, name).map_err(|refusal| refuse((line, refusal)))?;
        apply(&mut unit, &assignment).map_err(|refusal| refuse((line, refusal)))?;
    }
    if let Kind::Service(service) = &unit.kind {
        check_service(service).map_err(|refusal| refuse((0, refusal)))?;
    }
    Ok(unit)
}

fn empty_unit(name: &UnitName, source: &Path) -> Unit {
    let kind = if name.is_target() {
        Kind::Target
    } else {
        Kind::Service(Box::new(empty_service()))
    };
    Unit {
        name: name.to_string(),
        source: source.to_owned(),
        description: name.to_string(),
        after: Vec::new(),
        before: Vec::new(),
        requires: Vec::new(),
        wants: Vec::new(),
        conditions: Vec::new(),
        stage: None,
        kind,
    }
}

/// A service before its first directive: systemd's defaults, except that the restart delay grows.
fn empty_service() -> Service {
    Service {
        service_type: ServiceType::Exec,
        commands: Vec::new(),
        restart: Restart::No,
        restart_delay: Duration::from_millis(250),
        restart_max_delay: Duration::from_secs(30),
        start_timeout: Some(Duration::from_secs(90)),
        stop_timeout: Duration::from_secs(10),
        watchdog: None,
        remain_after_exit: false,
        privileges: Privileges {
            user: None,
            group: None,
            supplementary_groups: Vec::new(),
            bounding: None,
            ambient: 0,
            no_new_privileges: false,
            private_network: false,
            umask: 0o022,
        },
        environment: Vec::new(),
        working_directory: None,
        runtime_directories: Directories::default(),
        state_directories: Directories::default(),
        listen: Vec::new(),
        descriptor_store_max: 0,
        output: Output::Journal,
        oom_score_adjust: None,
        limits: Limits::default(),
        cgroup: CgroupLimits::default(),
    }
}

fn check_service(service: &Service) -> Result<(), Refusal> {
    match service.commands.len() {
        0 => Err(Refusal::NoCommand),
        1 => Ok(()),
        _ if service.service_type == ServiceType::Oneshot => Ok(()),
        _ => Err(Refusal::ManyCommands),
    }
}

/// Replaces the specifiers in a value; any other `%` is refused, except that of a percentage.
fn expand(assignment: &mut Assignment, name: &UnitName) -> Result<(), Refusal> {
    let memory = assignment.key.starts_with("Memory");
    if memory || !assignment.value.contains('%') {
        return Ok(());
    }
    let mut expanded = String::new();
    let mut letters = assignment.value.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            expanded.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => expanded.push('%'),
            Some('i') => expanded.push_str(name.instance().unwrap_or_default()),
            Some('p') => expanded.push_str(name.prefix()),
            Some('n') => expanded.push_str(&name.to_string()),
            _ => return Err(invalid(assignment, "the specifiers %i, %p, %n and %%")),
        }
    }
    assignment.value = expanded;
    Ok(())
}

fn apply(unit: &mut Unit, assignment: &Assignment) -> Result<(), Refusal> {
    match (assignment.section.as_str(), &mut unit.kind) {
        ("Unit", _) => unit_directive(unit, assignment),
        ("Service", Kind::Service(service)) => service_directive(service, assignment),
        (section, _) => Err(Refusal::UnknownSection(section.to_owned())),
    }
}

fn invalid(assignment: &Assignment, expected: &'static str) -> Refusal {
    Refusal::Value {
        key: assignment.key.clone(),
        value: assignment.value.clone(),
        expected,
    }
}

/// `parsed`, or the refusal that names the key, the value and what was expected.
fn valid<T>(
    assignment: &Assignment,
    expected: &'static str,
    parsed: Option<T>,
) -> Result<T, Refusal> {
    parsed.ok_or_else(|| invalid(assignment, expected))
}

fn unit_directive(unit: &mut Unit, line: &Assignment) -> Result<(), Refusal> {
    match line.key.as_str() {
        "Description" => unit.description.clone_from(&line.value),
        "Documentation" => {}
        "After" => unit.after.extend(unit_names(line)?),
        "Before" => unit.before.extend(unit_names(line)?),
        "Requires" => unit.requires.extend(unit_names(line)?),
        "Wants" => unit.wants.extend(unit_names(line)?),
        "X-MnemosStage" => {
            unit.stage = Some(valid(line, "a word of a-z and -", stage(&line.value))?)
        }
        "ConditionPathExists" | "ConditionCPUFeature" | "ConditionKernelCommandLine" => {
            unit.conditions.push(condition(line)?);
        }
        _ => return Err(Refusal::UnknownDirective(line.key.clone())),
    }
    Ok(())
}

fn unit_names(line: &Assignment) -> Result<Vec<String>, Refusal> {
    let names: Vec<String> = line.value.split_whitespace().map(str::to_owned).collect();
    let all_valid = !names.is_empty() && names.iter().all(|name| name.parse::<UnitName>().is_ok());
    valid(line, "names of units", all_valid.then_some(names))
}

fn stage(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    fits.then(|| text.to_owned())
}

fn condition(line: &Assignment) -> Result<Condition, Refusal> {
    let (negated, value) = match line.value.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line.value.as_str()),
    };
    let test = match line.key.as_str() {
        "ConditionPathExists" => {
            valid(line, "an absolute path", absolute(value)).map(ConditionTest::PathExists)?
        }
        "ConditionCPUFeature" if crate::condition::is_known_cpu_feature(value) => {
            ConditionTest::CpuFeature(value.to_owned())
        }
        "ConditionKernelCommandLine" if !value.is_empty() => {
            ConditionTest::KernelCommandLine(value.to_owned())
        }
        _ => return Err(invalid(line, "a name this condition knows")),
    };
    Ok(Condition { negated, test })
}

/// A path that starts at the root and has no `..`.
fn absolute(text: &str) -> Option<PathBuf> {
    let clean =
        text.starts_with('/') && text.split('/').all(|part| part != "..") && !text.contains('\0');
    clean.then(|| PathBuf::from(text))
}

/// A relative path without empty parts, `.` or `..`.
fn relative(text: &str) -> Option<String> {
    let clean =
        text.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0');
    clean.then(|| text.to_owned())
}

fn service_directive(service: &mut Service, line: &Assignment) -> Result<(), Refusal> {
    let value = line.value.as_str();
    match line.key.as_str() {
        "Type" => {
            service.service_type =
                valid(line, "exec, simple, notify or oneshot", service_type(value))?
        }
        "ExecStart" => service.commands.push(valid(
            line,
            "an absolute path and arguments",
            value::command(value),
        )?),
        "Restart" => service.restart = valid(line, "no, on-failure or always", restart(value))?,
        "RestartSec" => service.restart_delay = finite(line)?,
        "RestartMaxDelaySec" => service.restart_max_delay = finite(line)?,
        "TimeoutStartSec" => {
            service.start_timeout = valid(line, "a time span", value::duration(value))?
        }
        "TimeoutStopSec" => service.stop_timeout = finite(line)?,
        "WatchdogSec" => service.watchdog = Some(finite(line)?),
        "RemainAfterExit" => service.remain_after_exit = boolean(line)?,
        "Environment" => {
            service
                .environment
                .extend(valid(line, "NAME=value words", environment(value))?)
        }
        "WorkingDirectory" => {
            service.working_directory = Some(valid(line, "an absolute path", absolute(value))?)
        }
        "RuntimeDirectory" => service.runtime_directories.names.extend(directories(line)?),
        "RuntimeDirectoryMode" => service.runtime_directories.mode = mode(line)?,
        "StateDirectory" => service.state_directories.names.extend(directories(line)?),
        "StateDirectoryMode" => service.state_directories.mode = mode(line)?,
        "X-MnemosListenStream" => service.listen.push(listen(ListenKind::Stream, line)?),
        "X-MnemosListenDatagram" => service.listen.push(listen(ListenKind::Datagram, line)?),
        "StandardOutput" => service.output = valid(line, "journal, kmsg or null", output(value))?,
        _ => {
            return privilege_directive(&mut service.privileges, line)
                .or_else(|refusal| otherwise(refusal, || limit_directive(service, line)));
        }
    }
    Ok(())
}

/// Tries the next group of directives when the last one did not know the key.
fn otherwise(refusal: Refusal, next: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    match refusal {
        Refusal::UnknownDirective(_) => next(),
        refusal => Err(refusal),
    }
}

fn privilege_directive(privileges: &mut Privileges, line: &Assignment) -> Result<(), Refusal> {
    let value = line.value.as_str();
    match line.key.as_str() {
        "User" => privileges.user = Some(account(line)?),
        "Group" => privileges.group = Some(account(line)?),
        "SupplementaryGroups" => {
            for name in value.split_whitespace() {
                privileges.supplementary_groups.push(name.to_owned());
            }
        }
        "CapabilityBoundingSet" => {
            privileges.bounding = Some(valid(line, "CAP_ names", value::capabilities(value))?);
        }
        "AmbientCapabilities" => {
            privileges.ambient = valid(line, "CAP_ names", value::capabilities(value))?
        }
        "NoNewPrivileges" => privileges.no_new_privileges = boolean(line)?,
        "PrivateNetwork" => privileges.private_network = boolean(line)?,
        "UMask" => privileges.umask = mode(line)?,
        _ => return Err(Refusal::UnknownDirective(line.key.clone())),
    }
    Ok(())
}

fn limit_directive(service: &mut Service, line: &Assignment) -> Result<(), Refusal> {
    let value = line.value.as_str();
    let memory = || valid(line, "bytes, percent or infinity", value::memory(value)).map(Some);
    let size = || valid(line, "bytes or infinity", value::bytes_or_infinity(value)).map(Some);
    match line.key.as_str() {
        "OOMScoreAdjust" => {
            let score = value
                .parse()
                .ok()
                .filter(|score| (-1000..=1000).contains(score));
            service.oom_score_adjust = Some(valid(line, "-1000 to 1000", score)?);
        }
        "LimitNOFILE" => {
            service.limits.open_files = Some(valid(line, "a number", value::number(value))?)
        }
        "FileDescriptorStoreMax" => {
            let max = value::number(value).and_then(|max| max.try_into().ok());
            service.descriptor_store_max = valid(line, "a number", max)?;
        }
        "LimitCORE" => service.limits.core_bytes = size()?,
        "LimitMEMLOCK" => service.limits.memlock_bytes = size()?,
        "MemoryMax" => service.cgroup.memory_max = memory()?,
        "MemoryHigh" => service.cgroup.memory_high = memory()?,
        "MemoryMin" => service.cgroup.memory_min = memory()?,
        "TasksMax" => {
            service.cgroup.tasks_max = Some(valid(line, "a number", value::number(value))?)
        }
        "CPUWeight" => {
            let weight = value::number(value).filter(|weight| (1..=10_000).contains(weight));
            service.cgroup.cpu_weight = Some(valid(line, "1 to 10000", weight)?);
        }
        _ => return Err(Refusal::UnknownDirective(line.key.clone())),
    }
    Ok(())
}

fn service_type(text: &str) -> Option<ServiceType> {
    match text {
        "simple" | "exec" => Some(ServiceType::Exec),
        "notify" => Some(ServiceType::Notify),
        "oneshot" => Some(ServiceType::Oneshot),
        _ => None,
    }
}

fn restart(text: &str) -> Option<Restart> {
    match text {
        "no" => Some(Restart::No),
        "on-failure" => Some(Restart::OnFailure),
        "always" => Some(Restart::Always),
        _ => None,
    }
}

fn listen(kind: ListenKind, line: &Assignment) -> Result<Listen, Refusal> {
    // sun_path of unix(7) holds 108 bytes with the NUL.
    let path = absolute(&line.value).filter(|_| line.value.len() < 108);
    Ok(Listen {
        kind,
        path: valid(line, "an absolute path of at most 107 bytes", path)?,
    })
}

fn output(text: &str) -> Option<Output> {
    match text {
        "journal" => Some(Output::Journal),
        "kmsg" => Some(Output::Kmsg),
        "null" => Some(Output::Null),
        _ => None,
    }
}

fn boolean(line: &Assignment) -> Result<bool, Refusal> {
    valid(line, "yes or no", value::boolean(&line.value))
}

fn finite(line: &Assignment) -> Result<Duration, Refusal> {
    valid(
        line,
        "a finite time span",
        value::duration(&line.value).flatten(),
    )
}

fn mode(line: &Assignment) -> Result<u32, Refusal> {
    valid(line, "octal permission bits", value::mode(&line.value))
}

fn account(line: &Assignment) -> Result<String, Refusal> {
    let fits = !line.value.is_empty()
        && line
            .value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    valid(
        line,
        "a name of /etc/passwd or /etc/group",
        fits.then(|| line.value.clone()),
    )
}

fn directories(line: &Assignment) -> Result<Vec<String>, Refusal> {
    let names: Option<Vec<String>> = line.value.split_whitespace().map(relative).collect();
    valid(
        line,
        "relative paths",
        names.filter(|names| !names.is_empty()),
    )
}

fn environment(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |word: String| {
        let (name, value) = word.split_once('=')?;
        (!name.is_empty() && !word.contains('\0')).then(|| (name.to_owned(), value.to_owned()))
    };
    value::words(text)?.into_iter().map(pair).collect()
}
