"""What the kernel still has of limits that PID 1 has no more, of units that no policy names; each fix is run."""

import json

import measure

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
    """But for I/O weights that no disk of the machine goes by."""
    findings = json.loads(machine.root("fairslice doctor --json; true"))["findings"]
    return [finding for finding in findings if finding["code"] != "FS079"]


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
