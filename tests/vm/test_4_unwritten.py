"""What the kernel still has of limits that PID 1 has no more; each fix is run."""

import contextlib
import json

import measure
import pytest

SLEEP = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
# The neighbour keeps the controllers on.
UNITS = {
    "neighbour.service": f"{SLEEP}AllowedCPUs=0-1\nCPUQuota=80%\nIOWeight=200\nIOWriteIOPSMax=/ 5000\n",
    "pinned.service": f"{SLEEP}AllowedCPUs=1\nCPUQuota=30%\nIOWeight=300\nMemoryMax=300M\nTasksMax=50\n"
    "IOReadBandwidthMax=/dev/vda 50M\nIOWriteIOPSMax=/ 5000\n",
    "sandboxes.slice": "[Slice]\nCPUWeight=100\n",
    "sandbox.service": f"{SLEEP}Slice=sandboxes.slice\nMemoryHigh=100M\n",
}
AFTERWARDS = UNITS | {
    "pinned.service": SLEEP,
    "sandboxes.slice": "[Slice]\nCPUWeight=400\n",
    "sandbox.service": f"{SLEEP}Slice=sandboxes.slice\nMemoryHigh=200M\n",
}


def files(units: dict[str, str]) -> dict[str, str]:
    return {f"{measure.UNITS}/{name}": text for name, text in units.items()}


def found(machine) -> list[dict]:
    """But for I/O weights that no disk of the machine goes by, and limits of swap, of which it has none."""
    findings = json.loads(machine.root("fairslice doctor --json; true"))["findings"]
    return [finding for finding in findings if finding["code"] not in ("FS079", "FS083")]


def test_what_a_reload_leaves_in_the_kernel_is_found_and_each_fix_takes_it_away(installed):
    scope = "/sys/fs/cgroup/machines.slice/engine.scope"
    try:
        installed.put(files(UNITS))
        installed.root(
            "systemctl daemon-reload; systemctl start neighbour pinned sandbox;"
            " systemd-run --quiet --scope --unit=engine --slice=machines.slice sleep infinity"
            " > /dev/null 2>&1 < /dev/null & sleep 2"
        )
        before = found(installed)
        installed.put(files(AFTERWARDS))
        # A container engine writes past PID 1. systemd 252 writes what it has at the reload itself.
        installed.root(f"systemctl daemon-reload; echo 1G > {scope}/memory.max")
        after = found(installed)
        limits = {(finding["subject"], finding["file"].rpartition("/")[2]) for finding in after}
        kept = {("engine.scope", "memory.max"), ("pinned.service", "cpuset.cpus"), ("pinned.service", "io.max")}
        assert kept <= limits, after
        for fix in {finding["fix"]["text"] for finding in after}:
            installed.root(fix)
        assert found(installed) == before == []
        assert installed.root("systemctl is-active pinned sandbox engine.scope").split() == ["active"] * 3
    finally:
        installed.root(
            "systemctl stop neighbour pinned sandbox engine.scope;"
            f" cd {measure.UNITS}; rm {' '.join(UNITS)}; systemctl daemon-reload"
        )


# Of a user's slice, of which the policy declares the CPU weight alone.
LOGIN = "user-1000.slice"
THEIRS = f"{measure.UNITS}/{LOGIN}.d/x.conf"
LIMITS = (
    "[Slice]\nCPUWeight=50\nCPUQuota=40%\nAllowedCPUs=0\nMemoryHigh=500M\nMemoryMax=600M\nMemorySwapMax=5M\n"
    "TasksMax=444\n"
)
ATTRIBUTES = "cpu.weight cpu.max cpuset.cpus memory.high memory.max memory.swap.max pids.max"


@pytest.fixture
def alice(installed):
    """A login of hers, without drop-ins of an administrator's for her slice."""
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        installed.root(f"rm -rf {measure.UNITS}/{LOGIN}.d; systemctl daemon-reload; fairslice apply")
        assert found(installed) == []
        yield session
        installed.root(
            f"rm -rf {measure.UNITS}/{LOGIN}.d; systemctl daemon-reload;"
            f" systemd-run --quiet --wait --slice={LOGIN} true; fairslice apply"
        )


def test_a_drop_in_of_a_users_slice_is_followed_when_it_comes_and_when_it_goes(installed, alice):
    def live() -> list[str]:
        return installed.root(f"cd /sys/fs/cgroup/user.slice/{LOGIN}; grep -sH . {ATTRIBUTES}; true").splitlines()

    def attributes(findings: list[dict]) -> set[str]:
        assert {finding["subject"].split()[0] for finding in findings} == {LOGIN}, findings
        return {part.split()[0] for finding in findings for part in finding["what"].split("; ")}

    before = live()
    limits = {"memory_high", "memory_max", "memory_swap_max", "tasks_max"}
    installed.put({THEIRS: LIMITS})
    installed.root("systemctl daemon-reload")
    came = found(installed)
    # systemd 252 has written them; the weight is the policy's, and overridden either way.
    overridden = [finding for finding in came if finding["code"] == "FS011"]
    assert [(one["file"], one["line"]) for one in overridden] == [(THEIRS, 2)], came
    unwritten = attributes(came) - {"cpu_weight"}
    assert unwritten in (set(), limits | {"CPUQuota", "AllowedCPUs"}), came
    # It is written when a unit is started there.
    installed.root(f"systemd-run --quiet --wait --slice={LOGIN} true")
    assert attributes(found(installed)) == {"cpu_weight"} and live() != before

    installed.root(f"rm {THEIRS}; systemctl daemon-reload")
    gone = found(installed)
    if not gone:
        # systemd 252 has written these too.
        assert live() == before
        return
    assert {finding["code"] for finding in gone} == {"FS013"}, gone
    assert "AllowedCPUs" in attributes(gone), gone
    if live()[0] != before[0]:
        assert attributes(gone) == limits | {"cpu_weight", "CPUQuota", "AllowedCPUs"}, gone
    # What the policy can set, apply writes; the rest is doctor's.
    plan = json.loads(installed.root("fairslice apply --dry-run --json; true"))
    changed = {change["setting"] for unit in plan["units"] if unit["unit"] == LOGIN for change in unit["changes"]}
    assert changed == attributes(gone) - {"CPUQuota", "AllowedCPUs"}, plan
    # One after the other, as doctor prints them then: what one has PID 1 write may end others.
    for _ in gone:
        if left := found(installed):
            installed.root(left[0]["fix"]["text"])
    assert found(installed) == [] and set(live()) - set(before) <= {"cpuset.cpus:0-1"}
