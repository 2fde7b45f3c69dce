"""earlyoom and systemd-oomd: `fairslice explain oom` says what each takes first, and then each takes that."""

import contextlib
import json
import re

import pytest

# In the image, one is disabled and the other masked.
pytestmark = pytest.mark.thorough("bookworm")

ARGUMENTS = "/etc/default/earlyoom"
LIMITS = "/run/systemd/oomd.conf.d/zz-test.conf"
SLICE = "oomdtest.slice"


def explain(machine) -> dict:
    return json.loads(machine.root("fairslice explain oom --json"))


def started(names: dict[str, str]) -> str:
    """Commands that start these services and wait until they hold their memory: name, options and size."""
    run = [f"systemd-run --quiet --unit={name} {how.format(name=name)}" for name, how in names.items()]
    # load calls pause(2), number 34, once it holds what it was told to.
    wait = [f"until grep -q '^34 ' /proc/$({MAIN} {name})/syscall; do sleep 0.2; done" for name in names]
    return "; ".join(run + wait)


MAIN = "systemctl show --value -p MainPID"
LOAD = "/usr/local/bin/load --name {name} --hold"


def ended(machine, name: str) -> str:
    """How a service ended; nothing where it has not, after 20 s."""
    return machine.root(
        f"for i in $(seq 100); do systemctl is-active -q {name} || break; sleep 0.2; done;"
        f" systemctl is-active -q {name} || systemctl show --value -p Result {name}; sleep 1"
    ).strip()


def test_earlyoom_takes_whom_explain_oom_names(installed):
    # With 300 points for its name, picked is before local-slm too, which has a score of 500.
    installed.put({f"{ARGUMENTS}.idle": 'EARLYOOM_ARGS="-r 0 -m 1 --prefer ^picked$"\n'})
    pids = installed.root(
        f"cp -p {ARGUMENTS} /tmp/earlyoom; cp {ARGUMENTS}.idle {ARGUMENTS};"
        f" {started({'largest': f'{LOAD} 500', 'picked': f'{LOAD} 400'})}; systemctl start earlyoom; sleep 0.5;"
        f" {MAIN} earlyoom picked"
    ).split()
    try:
        said = explain(installed)
        assert said["earlyoom"] == {"pid": int(pids[0]), "takes": int(pids[1])}
        assert not said["oomd"]["runs"]
        text = installed.root("fairslice explain oom")
        assert f"earlyoom runs (pid {pids[0]}): takes picked (pid {pids[1]}) of picked.service, " in text, text
        # When picked's memory is free again, there is more than the limit: nobody else is taken.
        meminfo = installed.root("cat /proc/meminfo")
        total, available = (int(re.search(rf"{name}: +(\d+)", meminfo)[1]) for name in ("MemTotal", "MemAvailable"))
        limit = round(100 * (available + (200 << 10)) / total)
        installed.root(f"sed -i 's/-m 1/-m {limit}/' {ARGUMENTS}; systemctl restart earlyoom")
        assert ended(installed, "picked") == "success"
        words = installed.root("systemctl is-active largest; journalctl -b -u earlyoom -o cat -g 'sending SIG.* to process'")
        active, *killed = words.splitlines()
        assert active == "active"
        assert len(killed) == 1 and f"process {pids[1]} " in killed[0], killed
    finally:
        installed.root(
            f"systemctl stop earlyoom; systemctl stop largest picked 2> /dev/null; mv /tmp/earlyoom {ARGUMENTS};"
            f" rm {ARGUMENTS}.idle; systemctl reset-failed 2> /dev/null; true"
        )
    assert explain(installed)["earlyoom"] is None


def watched(machine) -> set[tuple[str, str]]:
    """What oomd itself says that it watches: unit and property."""
    found, property = set(), ""
    for line in machine.root("oomctl --no-pager").splitlines():
        if line.startswith("Swap Monitored"):
            property = "ManagedOOMSwap"
        elif line.startswith("Memory Pressure Monitored"):
            property = "ManagedOOMMemoryPressure"
        elif line.strip().startswith("Path:"):
            found.add((line.split()[1].rsplit("/", 1)[1] or "-.slice", property))
    return found


@contextlib.contextmanager
def oomd(machine, config: str, services: dict[str, str], begin: str = "true", end: str = "true"):
    """systemd-oomd with this configuration, and what it may take."""
    machine.put({LIMITS: config})
    units = "systemd-oomd.service systemd-oomd.socket"
    machine.root(f"{begin}; systemctl unmask --quiet {units}; {started(services)}; systemctl start systemd-oomd")
    try:
        yield
    finally:
        print(machine.root(
            "journalctl -b -u systemd-oomd -o cat | tail;"
            f" systemctl mask --quiet --now {units}; systemctl stop {' '.join(services)} {SLICE} 2>&1; {end};"
            f" rm -r {LIMITS} /run/systemd/system.control/{SLICE}.d; systemctl reset-failed; systemctl daemon-reload"
        ))
    assert not explain(machine)["oomd"]["runs"]


def takes(machine) -> dict[tuple[str, str], str]:
    """What "explain oom" says is taken first, by what oomd watches."""
    said = explain(machine)["oomd"]
    assert said["runs"]
    first = {(one["unit"], one["property"]): one["takes"] for one in said["watched"]}
    assert watched(machine) == set(first)
    return first


def killed(machine, alive: list[str]) -> list[str]:
    """The words of the systemd-oomd that runs about what it has killed, while these are alive."""
    run = "_SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID systemd-oomd)"
    words = machine.root(f"systemctl is-active {' '.join(alive)}; journalctl -b {run} -o cat -g ^Killed")
    lines = words.splitlines()
    assert lines[: len(alive)] == ["active"] * len(alive)
    return lines[len(alive) :]


def test_systemd_oomd_takes_by_swap_what_explain_oom_names(installed):
    load = f"--slice={SLICE} -p MemoryMax={{limit}}M {LOAD} {{hold}}"
    services = {
        "most": load.format(name="{name}", limit=40, hold=140),
        "less": load.format(name="{name}", limit=40, hold=75),
        # RAM has to be used too.
        "ballast": f"-p MemorySwapMax=0 {LOAD} 200",
    }
    begin = (
        "fallocate -l 256M /swap; chmod 600 /swap; mkswap -q /swap; swapon /swap;"
        f" systemctl set-property --runtime {SLICE} ManagedOOMSwap=kill"
    )
    config = "[OOM]\nSwapUsedLimit=99%\nDefaultMemoryPressureLimit=99%\n"
    with oomd(installed, config, services, begin, "swapoff /swap; rm /swap"):
        assert takes(installed)[SLICE, "ManagedOOMSwap"] == "most.service"
        installed.root(f"sed -i s/SwapUsedLimit=99%/SwapUsedLimit=25%/ {LIMITS}; systemctl restart systemd-oomd")
        assert ended(installed, "most") == "oom-kill", installed.root("journalctl -b -u systemd-oomd; oomctl")
        # That of systemd 252 says it twice.
        lines, taken = killed(installed, ["less", "ballast"]), f"Killed /{SLICE}/most.service due to memory used"
        assert lines and all(line.startswith(taken) for line in lines), lines


def test_systemd_oomd_takes_by_pressure_what_explain_oom_names(installed):
    # One reads more than it may keep, again and again, and so is reclaimed from and waits; the larger one does not.
    services = {
        "calm": f"--slice={SLICE} -p MemoryMax=200M {LOAD} 120",
        "thrash": f"--slice={SLICE} -p MemoryMax=40M {LOAD} 1",
    }
    # What is in the cache already is charged to whoever wrote it.
    begin = (
        "dd if=/dev/zero of=/var/tmp/pages bs=1M count=100 conv=fsync status=none; echo 1 > /proc/sys/vm/drop_caches;"
        f" systemctl set-property --runtime {SLICE} ManagedOOMMemoryPressure=kill ManagedOOMMemoryPressureLimit=99%"
    )
    config = "[OOM]\nDefaultMemoryPressureDurationSec=1s\n"
    with oomd(installed, config, services, begin, "rm /var/tmp/pages"):
        # It is in its place when it begins.
        installed.root(
            "(sleep 1; while cat /var/tmp/pages; do :; done) > /dev/null 2>&1 &"
            f" echo $! > /sys/fs/cgroup/{SLICE}/thrash.service/cgroup.procs; sleep 4"
        )
        assert takes(installed)[SLICE, "ManagedOOMMemoryPressure"] == "thrash.service"
        installed.root(f"systemctl set-property --runtime {SLICE} ManagedOOMMemoryPressureLimit=1%")
        assert ended(installed, "thrash") == "oom-kill", installed.root("journalctl -b -u systemd-oomd; oomctl")
        lines, taken = killed(installed, ["calm"]), f"Killed /{SLICE}/thrash.service due to memory pressure"
        assert lines and all(line.startswith(taken) for line in lines), lines
