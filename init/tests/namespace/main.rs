//! The real binary as PID 1 of its own user-visible name spaces: pid, mount and cgroup. Needs root, as the tests of
//! this tier do.
#![expect(
    clippy::unwrap_used,
    reason = "a set-up that fails is a test that fails"
)]

mod harness;

use std::time::Duration;

use harness::{Init, wait_for};

const TARGET: &str = "[Unit]\nWants=";

#[test]
fn five_hundred_orphans_leave_no_zombie() {
    let mut init = Init::prepare();
    let storm = init.script(
        "storm",
        "i=0; while [ $i -lt 500 ]; do (true & ) ; i=$((i+1)); done",
    );
    init.unit(
        "storm.service",
        &format!("[Service]\nType=oneshot\nExecStart={storm}\n"),
    );
    init.unit("mnemos.target", &format!("{TARGET}storm.service\n"));
    init.start();
    init.wait_until("the storm is over", |report| {
        report.unit("storm.service")["state"] == "exited"
    });
    wait_for("no child of PID 1 is left", || init.children().is_empty());
    init.stop();
}

#[test]
fn a_crash_loop_slows_down_and_goes_on() {
    let mut init = Init::prepare();
    let crash = init.script("crash", "date +%s%N >> $0.log; exit 3");
    let text = format!(
        "[Service]\nExecStart={crash}\nRestart=always\nRestartSec=20ms\nRestartMaxDelaySec=10\n"
    );
    init.unit("crash.service", &text);
    init.unit("mnemos.target", &format!("{TARGET}crash.service\n"));
    init.start();
    init.wait_until("it was started six times", |report| {
        report.unit("crash.service")["restarts"].as_u64() >= Some(6)
    });
    let detail = init.report().unit("crash.service")["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(detail, "exited with status 3");
    init.stop();
    let times: Vec<u64> = init
        .lines("crash.log")
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits[4] > 4 * 15_000_000,
        "the fifth wait is at least 16 times 75 % of 20 ms: {waits:?}"
    );
    assert!(waits[4] > waits[0], "{waits:?}");
}

#[test]
fn shutdown_goes_in_reverse_and_kills_the_deaf() {
    let mut init = Init::prepare();
    for (name, after, trap) in [
        ("a", "", "echo a >> $D/order; exit 0"),
        ("b", "After=a.service", "echo b >> $D/order"),
        ("c", "After=b.service", "echo c >> $D/order; exit 0"),
    ] {
        let body = format!(
            "D=$(dirname $0); trap '{trap}' TERM; touch $D/{name}.up; while :; do wait_a_bit; done"
        );
        let body = body.replace("wait_a_bit", "read -t 1 x < $D/never || true");
        let script = init.script(name, &body);
        init.unit(
            &format!("{name}.service"),
            &format!("[Unit]\n{after}\n[Service]\nExecStart={script}\nTimeoutStopSec=700ms\n"),
        );
    }
    init.fifo("never");
    init.unit(
        "mnemos.target",
        &format!("{TARGET}a.service b.service c.service\n"),
    );
    init.start();
    wait_for("all have set their traps", || {
        ["a.up", "b.up", "c.up"].iter().all(|file| init.has(file))
    });
    let took = init.stop();
    assert_eq!(init.lines("order"), ["c", "b", "a"]);
    assert!(
        took >= Duration::from_millis(700),
        "b does not listen and gets its time: {took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        init.stdout().contains(r#""stage":"shutdown","state":"ok""#),
        "{}",
        init.stdout()
    );
}

#[test]
fn ready_means_that_the_service_said_so() {
    let mut init = Init::prepare();
    let gate = init.path("gate");
    let (program, marker) = harness::notifier();
    let service = format!(
        "[Service]\nType=notify\nExecStart={program}\nEnvironment={marker}={}\n",
        gate.display()
    );
    init.unit("slow.service", &service);
    let next = init.script("next", "exit 0");
    init.unit(
        "next.service",
        &format!("[Unit]\nAfter=slow.service\n[Service]\nType=oneshot\nExecStart={next}\n"),
    );
    init.unit(
        "mnemos.target",
        &format!("{TARGET}slow.service next.service\n"),
    );
    init.start();
    init.wait_until("it says what it does", |report| {
        report.unit("slow.service")["status"] == "waiting at the gate"
    });
    let report = init.report();
    assert_eq!(report.unit("slow.service")["state"], "starting");
    assert_eq!(
        report.unit("next.service")["detail"],
        "waits for slow.service"
    );
    std::fs::write(&gate, "").unwrap();
    init.wait_until("the next one ran", |report| {
        report.unit("next.service")["state"] == "exited"
    });
    assert_eq!(init.report().unit("slow.service")["state"], "running");
    init.stop();
}

/// A notification counts from the main process alone.
#[test]
fn a_helper_process_cannot_say_ready() {
    harness::act_as_notifier();
}

#[test]
fn a_missing_program_is_reported_with_its_path() {
    let mut init = Init::prepare();
    let service = "[Service]\nExecStart=/no/such/program\nRestart=always\n";
    init.unit("missing.service", service);
    init.unit(
        "user.service",
        "[Service]\nExecStart=/bin/true\nUser=nosuchuser\n",
    );
    init.unit(
        "mnemos.target",
        &format!("{TARGET}missing.service user.service\n"),
    );
    init.start();
    init.wait_until("both have failed", |report| {
        report.unit("missing.service")["state"] == "backoff"
            && report.unit("user.service")["state"] == "failed"
    });
    let report = init.report();
    assert_eq!(
        report.unit("missing.service")["detail"],
        "cannot execute /no/such/program: No such file or directory (os error 2)"
    );
    assert_eq!(
        report.unit("user.service")["detail"],
        "no user nosuchuser in /etc/passwd"
    );
    init.stop();
}

#[test]
fn what_a_service_leaves_behind_dies_with_it() {
    let mut init = Init::prepare();
    // Restarted after its group was killed: the second start must live in spite of that.
    let script = init.script(
        "leaver",
        "(exec sleep 1000) & echo started >> $0.log; exit 0",
    );
    let service = format!("[Service]\nExecStart={script}\nRestart=always\n");
    init.unit(
        "leaver.service",
        &format!("{service}RestartSec=10ms\nRestartMaxDelaySec=100ms\n"),
    );
    init.unit("mnemos.target", &format!("{TARGET}leaver.service\n"));
    init.start();
    init.wait_until("it was started ten times", |_| {
        init.lines("leaver.log").len() >= 10
    });
    assert!(
        init.children().len() < 4,
        "what it leaves behind piles up: {:?}",
        init.children()
    );
    let stderr = init.stderr();
    assert!(!stderr.contains("killed by signal"), "{stderr}");
    init.stop();
}

#[test]
fn a_service_gets_the_privileges_of_its_unit_and_no_others() {
    let mut init = Init::prepare();
    let script = init.script(
        "look",
        "cat /proc/self/status > /run/mnemos-test-look/status; cat /proc/self/cgroup > /run/mnemos-test-look/cgroup; \
         cat /sys/class/net/*/ifindex | wc -l > /run/mnemos-test-look/links; cut -d' ' -f4-6 /proc/self/stat \
         > /run/mnemos-test-look/session; ulimit -n > /run/mnemos-test-look/files; \
         cat /proc/net/dev > /run/mnemos-test-look/dev; stat -c '%a %u' /run/mnemos-test-look > /run/mnemos-test-look/mode",
    );
    init.unit(
        "look.service",
        &format!(
            "[Service]\nType=oneshot\nExecStart={script}\nUser=nobody\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n\
             CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nNoNewPrivileges=yes\nPrivateNetwork=yes\nLimitNOFILE=123\n\
             RuntimeDirectory=mnemos-test-look\nRuntimeDirectoryMode=0750\n"
        ),
    );
    init.unit("mnemos.target", &format!("{TARGET}look.service\n"));
    init.start();
    init.wait_until("it has looked", |report| {
        report.unit("look.service")["state"] == "exited"
    });
    let status = init.inside("/run/mnemos-test-look/status");
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "CapPrm:\t0000000000000400",
        "CapEff:\t0000000000000400",
        "CapBnd:\t0000000000000400",
        "CapAmb:\t0000000000000400",
        "NoNewPrivs:\t1",
        "SigBlk:\t0000000000000000",
    ] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
    assert_eq!(
        init.inside("/run/mnemos-test-look/mode").trim(),
        "750 65534"
    );
    assert_eq!(init.inside("/run/mnemos-test-look/files").trim(), "123");
    let interfaces = init.inside("/run/mnemos-test-look/dev");
    assert_eq!(
        interfaces.lines().skip(2).count(),
        1,
        "nothing but lo: {interfaces}"
    );
    assert!(
        init.inside("/run/mnemos-test-look/cgroup")
            .contains("/system.slice/look.service")
    );
    init.stop();
}

/// The first start crashes with a message waiting in its socket; the second one finds it.
#[test]
fn sockets_outlive_their_service() {
    let mut init = Init::prepare();
    let (stream, datagram) = (init.path("stream.sock"), init.path("datagram.sock"));
    let script = init.script(
        "listener",
        "echo \"$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$)) $(stat -Lc %F /dev/fd/3 /dev/fd/4 | uniq)\" >> $0.log
         if [ $(wc -l < $0.log) = 1 ]; then exit 1; fi
         exec sleep 1000",
    );
    let service = format!("[Service]\nExecStart={script}\nRestart=always\nRestartSec=10ms\n");
    let sockets = format!(
        "X-MnemosListenStream={}\nX-MnemosListenDatagram={}\n",
        stream.display(),
        datagram.display()
    );
    init.unit("listener.service", &format!("{service}{sockets}"));
    init.unit("mnemos.target", &format!("{TARGET}listener.service\n"));
    init.start();
    let _client = std::os::unix::net::UnixStream::connect(&stream).unwrap();
    init.wait_until("it runs again", |report| {
        report.unit("listener.service")["restarts"] == 1
            && report.unit("listener.service")["state"] == "running"
    });
    wait_for("both starts have written", || {
        init.lines("listener.log").len() == 2
    });
    assert_eq!(
        init.lines("listener.log"),
        ["2 stream.sock:datagram.sock 0 socket"; 2]
    );
    init.stop();
}

#[test]
fn poweroff_by_name_ends_everything() {
    let mut init = Init::prepare();
    let poweroff = init.program_as("poweroff");
    let sleeper = init.script("sleeper", "exec sleep 1000");
    init.unit(
        "sleeper.service",
        &format!("[Service]\nExecStart={sleeper}\n"),
    );
    let text =
        format!("[Unit]\nAfter=sleeper.service\n[Service]\nType=oneshot\nExecStart={poweroff}\n");
    init.unit("poweroff.service", &text);
    init.unit(
        "mnemos.target",
        &format!("{TARGET}sleeper.service poweroff.service\n"),
    );
    init.ends_by_itself();
    assert!(
        init.stderr().contains("SIGRTMIN+4: going down"),
        "{}",
        init.stderr()
    );
}

#[test]
fn sigterm_does_not_end_pid_1() {
    let mut init = Init::prepare();
    let sleeper = init.script("sleeper", "exec sleep 1000");
    init.unit(
        "sleeper.service",
        &format!("[Service]\nExecStart={sleeper}\n"),
    );
    init.unit("mnemos.target", &format!("{TARGET}sleeper.service\n"));
    init.start();
    init.terminate();
    wait_for("it says so", || init.stderr().contains("signal 15 ignored"));
    init.wait_until("its service runs on", |report| {
        report.unit("sleeper.service")["state"] == "running"
    });
    init.stop();
}

#[test]
fn a_broken_unit_is_refused_with_file_and_line() {
    let mut init = Init::prepare();
    init.unit("bad.service", "[Service]\nExecStart=/x\nTypo=1\n");
    init.unit("mnemos.target", &format!("{TARGET}bad.service\n"));
    let stderr = init.fails_to_start();
    assert!(
        stderr.contains("bad.service:3: directive Typo= is not supported"),
        "{stderr}"
    );
}
