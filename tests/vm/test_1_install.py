"""Installed with apt: what systemd then makes of the policy, and the services started under it."""

import conftest
import measure

SCORES = {"local-fs": -500, "local-doorman": -300, "local-content": 0, "local-slm": 500}


def test_doctor_finds_nothing_wrong_with_debian_as_it_comes(machine):
    assert machine.doctor.splitlines()[-1] == "exit 0", machine.doctor


def test_apt_installs_it_without_a_warning(installed):
    assert "Setting up fairslice" in installed.apt
    for word in ("warning:", "error:", "W:", "E:", "not registered"):
        assert word not in installed.apt
    # What it comes to here, and what to do.
    said = [line for line in installed.apt.splitlines() if line.startswith("fairslice: ")]
    assert said[0].startswith("fairslice: in force: "), installed.apt
    assert len(said) == 1 or (len(said) == 2 and said[1].endswith(": fairslice doctor")), installed.apt
    assert installed.root("dpkg --audit") == ""
    assert installed.root("systemctl --failed --no-legend") == ""


def test_the_default_policy_is_right(installed):
    assert installed.root("fairslice check; echo exit $?").splitlines()[-1] == "exit 0"
    assert "foundry-services.slice" in installed.root("fairslice policy")


def test_the_generator_made_the_drop_ins(installed):
    drop_ins = measure.drop_ins(installed)
    for unit, setting in {
        "foundry.slice": "CPUWeight=200",
        "foundry-services.slice": "CPUWeight=200",
        "user.slice": "CPUWeight=100",
        "user-.slice": "CPUWeight=100",
        "local-.service": "Slice=foundry-services.slice",
        "local-fs.service": "OOMScoreAdjust=-500",
        "local-doorman.service": "OOMScoreAdjust=-300",
        "local-slm.service": "OOMScoreAdjust=500",
    }.items():
        assert setting in drop_ins.get(unit, "").splitlines(), unit
    assert {"MemoryHigh=70%", "MemoryMax=72%"} <= set(drop_ins["user.slice"].splitlines())
    # sshd would hand it on to every login (F10).
    assert "ssh.service" not in drop_ins


def test_weights_and_ceilings_are_live(installed):
    measure.make_pid1_write_weights(installed)
    for group, weight in {
        "foundry.slice": 200,
        "foundry.slice/foundry-services.slice": 200,
        "user.slice": 100,
    }.items():
        assert measure.cpu_weight(installed, group) == weight, group
    high, total = installed.root(
        "cat /sys/fs/cgroup/foundry.slice/foundry-services.slice/memory.high;"
        " awk '/^MemTotal/ { print $2 * 1024 }' /proc/meminfo"
    ).split()
    assert abs(int(high) / int(total) - 0.6875) < 0.001


def test_services_are_in_their_slice_with_their_score(installed):
    # Their unit files say nothing of either.
    assert installed.root(f"grep -E 'Slice=|OOM' {measure.UNITS}/local-*.service || true") == ""
    services = measure.services(installed, measure.SERVICES)
    for unit, score in SCORES.items():
        assert services[unit], f"{unit} does not run"
        assert services[unit].cgroup == f"foundry.slice/foundry-services.slice/{unit}.service"
        assert services[unit].oom_score_adj == score
    assert services["local-doorman"].user == "foundry"


def test_an_unprivileged_service_has_no_capability_left(installed):
    pid = measure.services(installed, ["local-doorman"])["local-doorman"].pid
    status = installed.root(f"grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/{pid}/status")
    assert status.split() == [
        "CapInh:", "0000000000000000", "CapPrm:", "0000000000000000", "CapEff:", "0000000000000000",
        "CapAmb:", "0000000000000000", "NoNewPrivs:", "1",
    ]  # fmt: skip


def test_the_launcher_had_nothing_to_complain_about(installed):
    assert "fairslice-launch" not in installed.root("journalctl -b -o cat -u 'local-*'")


def test_a_misplaced_service_that_cannot_be_moved_is_reported_and_refused_with_strict(installed):
    def launch(options: str) -> tuple[str, list[str]]:
        """What systemd made of it, and the lines of the launcher and its command."""
        mark = measure.journal_mark(installed)
        status = installed.root(
            "systemd-run --quiet --wait --unit stray -p User=foundry"
            f" fairslice-launch --unit local-content {options} -- echo it-ran;"
            " echo exit $?; systemctl reset-failed stray 2> /dev/null",
            check=False,
        )
        said = [line.split("]: ", 1)[1] for line in measure.journal_since(installed, mark, " fairslice-launch[")]
        return status.splitlines()[-1], said

    status, said = launch("")
    assert status == "exit 0"
    assert len(said) == 2
    assert "foundry-services.slice" in said[0]
    assert said[1] == "it-ran"
    status, said = launch("--strict")
    assert status == "exit 219"
    assert len(said) == 1
    assert "foundry-services.slice" in said[0]


def test_a_granted_capability_is_used_and_then_gone(installed):
    # As a service that PID 1 gave no score: the launcher sets the one of local-fs.
    answer = installed.root(
        "systemd-run --quiet --wait --collect --pipe --unit local-granted"
        " -p User=foundry -p AmbientCapabilities=CAP_SYS_RESOURCE"
        " fairslice-launch --strict --unit local-fs --"
        " sh -c 'cat /proc/self/oom_score_adj; grep -E ^Cap[IPEA] /proc/self/status'"
    )
    none = "0000000000000000"
    assert answer.split() == ["-500", "CapInh:", none, "CapPrm:", none, "CapEff:", none, "CapAmb:", none]
    # Without the capability the kernel refuses, and the journal has the remedy.
    answer = installed.root(
        "systemd-run --quiet --wait --collect --pipe --unit local-bare -p User=foundry"
        " fairslice-launch --strict --unit local-fs -- true 2>&1; echo exit $?"
    )
    assert "AmbientCapabilities=CAP_SYS_RESOURCE" in answer
    assert answer.splitlines()[-1] == "exit 206"


def test_sshd_keeps_the_score_it_gave_itself(installed):
    assert measure.sshd_listener_score(installed) == -1000
    assert measure.properties(installed, "ssh.service", "OOMScoreAdjust") == {"OOMScoreAdjust": "0"}


def test_an_admins_line_in_common_session_is_still_there(installed):
    for name, ours in (("common-session", 1), ("common-session-noninteractive", 1)):
        text = installed.root(f"cat /etc/pam.d/{name}")
        assert text.count("pam_fairslice.so") == ours, name
    text = installed.root("cat /etc/pam.d/common-session")
    assert conftest.ADMINS_LINE in text.splitlines()
    # It has to come after pam_systemd, which makes the session's cgroup (F12).
    assert text.index("pam_systemd.so") < text.index("pam_fairslice.so")


def test_status_finds_everything_in_force(installed):
    answer = installed.root("fairslice status; echo exit $?", check=False)
    assert answer.splitlines()[-1] == "exit 0", answer
