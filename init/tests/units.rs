//! The unit files of the node, and what the loader says about files that are wrong.
#![expect(
    clippy::unwrap_used,
    reason = "a set-up that fails is a test that fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

use mnemos_init::accounts::Accounts;
use mnemos_init::chain;
use mnemos_init::unit::{Kind, Unit, UnitName, load_dir, parse_unit};
use proptest::prelude::*;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn load(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let names =
        |units: mnemos_init::UnitSet| units.iter().map(|(_, unit)| unit.name.clone()).collect();
    let prefix = format!("{}/", dir.path().display());
    load_dir(dir.path())
        .map(names)
        .map_err(|error| chain(&error).replace(&prefix, ""))
}

#[test]
fn the_nodes_units_load_and_name_accounts_that_exist() {
    let units = load_dir(&repository("units")).unwrap();
    let read = |path: &str| fs::read_to_string(repository(path)).unwrap();
    let accounts = Accounts::parse(
        &read("overlays/base/etc/passwd"),
        &read("overlays/base/etc/group"),
    );
    for (_, unit) in units.iter() {
        let Kind::Service(service) = &unit.kind else {
            continue;
        };
        let privileges = &service.privileges;
        if let Some(user) = &privileges.user {
            accounts.user(user).unwrap();
        }
        for group in privileges
            .group
            .iter()
            .chain(&privileges.supplementary_groups)
        {
            accounts.gid(group).unwrap();
        }
        let limited = privileges.no_new_privileges || unit.name.contains("udev");
        assert!(limited, "{} may gain privileges", unit.name);
    }
    let target = units.find("mnemos.target").unwrap();
    assert_eq!(
        units.pulled_in_by(target).len(),
        units.len(),
        "a unit that nothing starts"
    );
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    let cases = [
        (
            "[Service]\nExecStart=/a\nProtectHome=yes\n",
            "a.service:3: directive ProtectHome= is not supported",
        ),
        (
            "[Install]\nWantedBy=x\n",
            "a.service:2: section [Install] is not supported for this unit",
        ),
        (
            "[Service]\nType=forking\n",
            "a.service:2: Type=forking is not valid, expected exec, simple, notify or oneshot",
        ),
        (
            "[Service]\nExecStart=a\n",
            "a.service:2: ExecStart=a is not valid, expected an absolute path and arguments",
        ),
        (
            "[Service]\nUser=a\nUser=b\n",
            "a.service:3: User= is given twice",
        ),
        (
            "[Service]\nExecStart=/a\nExecStart=/b\n",
            "a.service:0: only Type=oneshot takes more than one ExecStart=",
        ),
        ("[Unit]\n", "a.service:0: the service has no ExecStart="),
        (
            "[Service]\nExecStart=/a %h\n",
            "a.service:2: ExecStart=/a %h is not valid, expected the specifiers %i, %p, %n and %%",
        ),
        (
            "[Unit]\nAfter=b\n[Service]\nExecStart=/a\n",
            "a.service:2: After=b is not valid, expected names of units",
        ),
        (
            "[Service]\nRuntimeDirectory=../etc\n",
            "a.service:2: RuntimeDirectory=../etc is not valid, expected relative paths",
        ),
        (
            "[Service]\nTimeoutStopSec=infinity\n",
            "a.service:2: TimeoutStopSec=infinity is not valid, expected a finite time span",
        ),
        (
            "[Unit]\nConditionCPUFeature=avx3\n",
            "a.service:2: ConditionCPUFeature=avx3 is not valid, expected a name this condition knows",
        ),
        (
            "[Unit]\nAfter=b.service\n[Service]\nExecStart=/a\n",
            "unit a.service names b.service in After=, and there is no such unit",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            load(&[("a.service", text)]),
            Err(expected.to_owned()),
            "{text}"
        );
    }
    let stray = load(&[("README.md", "")]).unwrap_err();
    assert!(
        stray.starts_with("README.md is not named like a unit"),
        "{stray}"
    );
}

#[test]
fn a_cycle_is_shown_and_nothing_but_the_cycle() {
    let service = |rest: &str| format!("[Unit]\n{rest}\n[Service]\nExecStart=/x\n");
    let error = load(&[
        ("a.service", &service("After=b.service")),
        ("b.service", &service("Before=c.service\nAfter=c.service")),
        ("c.service", &service("Documentation=x")),
    ]);
    assert_eq!(
        error,
        Err("units form a dependency cycle: b.service -> c.service -> b.service".to_owned())
    );
}

#[test]
fn templates_become_units_by_being_named() {
    let units = load(&[
        ("n@.service", "[Service]\nExecStart=/n %i %p %n %%\n"),
        (
            "t.target",
            "[Unit]\nWants=n@one.service\nAfter=n@two.service\n",
        ),
    ]);
    assert_eq!(
        units,
        Ok(["n@one.service", "n@two.service", "t.target"]
            .map(str::to_owned)
            .to_vec())
    );
    let name: UnitName = "n@one.service".parse().unwrap();
    let unit = parse_unit(
        &name,
        Path::new("n@.service"),
        "[Service]\nExecStart=/n %i %p %n %%\n",
    )
    .unwrap();
    assert_eq!(argv(&unit), ["/n", "one", "n", "n@one.service", "%"]);
    assert!(
        load(&[("n@.service", "[Service]\nNonsense=1\n")]).is_err(),
        "an unused template is checked too"
    );
}

fn argv(unit: &Unit) -> Vec<String> {
    let Kind::Service(service) = &unit.kind else {
        panic!("a service")
    };
    service.commands[0].argv.clone()
}

proptest! {
    #[test]
    fn any_text_is_a_unit_or_refused(text in "(\\[(Unit|Service)\\]\n)?([A-Z][A-Za-z]{0,12}=[ -~]{0,20}\\\\?\n){0,6}") {
        let _ = parse_unit(&"a@b.service".parse().unwrap(), Path::new("a@.service"), &text);
    }

    #[test]
    fn any_value_of_a_known_directive_is_taken_or_refused(
        directive in "(ExecStart|MemoryMax|TimeoutStartSec|Environment|CapabilityBoundingSet|UMask|After|User)",
        value in "\\PC{0,30}",
    ) {
        for section in ["Unit", "Service"] {
            let text = format!("[{section}]\n{directive}={value}\n");
            let _ = parse_unit(&"a.service".parse().unwrap(), Path::new("a.service"), &text);
        }
    }
}
