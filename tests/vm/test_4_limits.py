"""Limits that the kernel holds units to: `fairslice doctor` finds them, and its fix, done as it is printed, ends it."""

import json
import re

import pytest

pytestmark = pytest.mark.thorough("bookworm")

UNITS = "/etc/systemd/system"


def findings(machine, subject: str) -> dict[str, dict]:
    """What is found about a unit, by code."""
    found = json.loads(machine.root("fairslice doctor --no-policy --json || true"))["findings"]
    return {one["code"]: one for one in found if subject in re.split("[, ]+", one["subject"])}


def apply(machine, fix: dict):
    """Does what a fix says: a command, or lines of files that get another value."""
    if fix["kind"] == "command":
        machine.root(fix["command"])
        return
    edits, after = fix["text"].split("; or ")[0].rsplit(", then: ", 1)
    for edit in edits.split("; "):
        if match := re.fullmatch(r"(\w+=\S*) at (\S+):(\d+)", edit):
            setting, file, line = match.groups()
            machine.root(f"sed -i '{line}s/.*/{setting}/' {file}")
        else:
            machine.root(edit)
    machine.root(after)


@pytest.fixture
def unit(installed):
    """A service of its own, with these lines, that runs this command."""
    made = []

    def start(name: str, command: str, lines: str, file: str | None = None):
        drop_in = file or f"{UNITS}/{name}.service.d/limits.conf"
        made.append(name)
        installed.put({f"{UNITS}/{name}.service": f"[Service]\nExecStart={command}\n", drop_in: f"[Service]\n{lines}"})
        installed.root(f"systemctl daemon-reload; systemctl start --no-block {name}")
        return drop_in

    yield start
    for name in made:
        installed.root(
            f"systemctl stop {name} 2>&1; rm -rf {UNITS}/{name}.service*"
            f" {UNITS}.control/{name}.service.d; systemctl daemon-reload; systemctl reset-failed"
        )


def until(machine, name: str, code: str) -> dict:
    """The finding, once what it goes by has been so for a while."""
    for _ in range(20):
        if found := findings(machine, f"{name}.service").get(code):
            return found
        machine.root("sleep 2")
    raise AssertionError(machine.root(f"cd /sys/fs/cgroup/system.slice/{name}.service; grep . memory.* pids.* cpu.*"))


def test_a_service_that_stands_still_at_memory_high(installed, unit):
    # It wants more than it is slowed down at and less than it is killed at, and there is no swap.
    file = unit("stuck", "/usr/local/bin/load --name stuck --hold 130", "MemoryHigh=100M\nMemoryMax=150M\n")
    found = until(installed, "stuck", "FS036")
    assert (found["file"], found["line"]) == (file, 2), found
    assert "at memory.high = 100M" in found["what"]
    apply(installed, found["fix"])
    # It gets what it wants: load calls pause(2), number 34, once it holds it.
    installed.root(
        "for i in $(seq 100); do grep -q '^34 ' /proc/$(systemctl show --value -p MainPID stuck)/syscall && exit;"
        " sleep 0.2; done; exit 1"
    )
    assert "FS036" not in findings(installed, "stuck.service")


def test_a_service_of_which_processes_are_killed(installed, unit):
    # Its one process is killed again and again, and the unit's cgroup counts it.
    command = "/bin/sh -c 'while :; do /usr/local/bin/load --name killed --hold 90; sleep 1; done'"
    file = unit("killed", command, "MemoryMax=60M\nOOMPolicy=continue\n")
    found = until(installed, "killed", "FS037")
    assert (found["file"], found["line"], found["severity"]) == (file, 2, "moderate"), found
    apply(installed, found["fix"])
    assert "FS037" not in findings(installed, "killed.service")


def test_forks_that_are_refused(installed, unit):
    # The shell that cannot fork ends, and leaves what it has started.
    command = "/bin/sh -c '(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done); exec sleep 600'"
    file = unit("forking", command, "TasksMax=8\n")
    found = until(installed, "forking", "FS038")
    assert (found["file"], found["line"]) == (file, 2), found
    assert found["fix"]["text"].startswith(f"TasksMax=16 at {file}:2, then: "), found
    apply(installed, found["fix"])
    assert "FS038" not in findings(installed, "forking.service")


def test_a_quota_that_stops_a_service(installed, unit):
    file = unit("slow", "/usr/local/bin/load --name slow --busy 1", "CPUQuota=10%\n")
    found = until(installed, "slow", "FS039")
    assert (found["file"], found["line"], found["severity"]) == (file, 2, "minor"), found
    apply(installed, found["fix"])
    assert "FS039" not in findings(installed, "slow.service")


def test_a_controller_that_a_slice_with_an_odd_name_disables(installed, unit):
    slice, other = "app\\x2dteam.slice", "/etc/systemd/system/heavy.service.d/limits.conf"
    file = f"{UNITS}/{slice}.d/50-off.conf"
    installed.put({file: "[Slice]\nDisableControllers=cpu\n"})
    try:
        assert unit("heavy", "/usr/bin/sleep infinity", f"CPUWeight=300\nSlice={slice}\n") == other
        found = until(installed, "heavy", "FS020")
        assert (found["file"], found["line"]) == (file, 2), found
        remove = re.fullmatch(r"remove DisableControllers=cpu at (\S+):(\d+), then: (.*)", found["fix"]["text"])
        assert remove, found
        installed.root(f"sed -i '{remove[2]}d' '{remove[1]}'; {remove[3]}")
        assert "FS020" not in findings(installed, "heavy.service")
        assert installed.root(f"cat '/sys/fs/cgroup/{slice}/heavy.service/cpu.weight'").strip() == "300"
    finally:
        installed.root(f"systemctl stop heavy; rm -r '{UNITS}/{slice}.d'")
