"""fairslice import: services that were set up by hand have the same from the policy alone, and /etc is as it was after."""

import contextlib
import re

import pytest

UNITS = "/etc/systemd/system"
pytestmark = pytest.mark.thorough("bookworm")

IMPORTED = "/etc/fairslice/policy.d/60-imported.toml"
SERVICES = ["forge-ledger", "forge-gate", "forge-index", "forge-web", "forge-render@big"]
SLICES = ["forge.slice", "forge-batch.slice", "user.slice", "user-1000.slice"]
# As a team sets them up over the years, without any plan of ours.
HAND_MADE = {
    f"{UNITS}/forge.slice": "[Slice]\nCPUWeight=300\nMemoryHigh=1200M\n",
    f"{UNITS}/forge-batch.slice": "[Slice]\nCPUWeight=50\nMemoryMax=600M\nTasksMax=200\n",
    f"{UNITS}/forge-ledger.service": "[Service]\nExecStart=/bin/sleep inf\nMemoryMin=64M\nMemoryMax=512M\nCPUQuota=80%\n",
    f"{UNITS}/forge-ledger.service.d/oom.conf": "[Service]\nSlice=forge.slice\nOOMScoreAdjust=-500\n",
    f"{UNITS}/forge-gate.service": "[Service]\nExecStart=/bin/sleep inf\nSlice=forge.slice\n",
    f"{UNITS}/forge-gate.service.d/10-early.conf": "[Service]\nOOMScoreAdjust=-300\nIOWeight=50\n",
    f"{UNITS}/forge-index.service": "[Service]\nExecStart=/bin/sleep inf\n",
    f"{UNITS}/forge-index.service.d/limits.conf": "[Service]\nSlice=forge-batch.slice\nMemoryHigh=10%\nOOMScoreAdjust=700\n",
    f"{UNITS}/forge-web.service": "[Service]\nExecStart=/bin/sleep inf\n",
    f"{UNITS}/forge-render@.service": "[Service]\nExecStart=/bin/sleep inf\nSlice=forge-batch.slice\nMemoryMax=200M\n",
    f"{UNITS}/forge-render@big.service.d/big.conf": "[Service]\nMemoryMax=400M\n",
    f"{UNITS}/user-.slice.d/50-limits.conf": "[Slice]\nTasksMax=3000\nMemoryHigh=70%\n",
    f"{UNITS}/user-1000.slice.d/60-alice.conf": "[Slice]\nCPUWeight=250\n",
    "/etc/profile.d/forge-go.sh": "# Go builds into the home.\nexport GOCACHE=$HOME/.cache/forge-go\n",
}
SET = "systemctl set-property forge-web.service CPUWeight=400 MemoryHigh=300M"
# What goes.
MOVED = [
    "/etc/profile.d/forge-go.sh",
    f"{UNITS}.control/forge-web.service.d/50-CPUWeight.conf",
    f"{UNITS}.control/forge-web.service.d/50-MemoryHigh.conf",
    f"{UNITS}/forge-batch.slice",
    f"{UNITS}/forge-gate.service.d/10-early.conf",
    f"{UNITS}/forge-index.service.d/limits.conf",
    f"{UNITS}/forge-ledger.service.d/oom.conf",
    f"{UNITS}/forge-render@big.service.d/big.conf",
    f"{UNITS}/forge.slice",
    f"{UNITS}/user-.slice.d/50-limits.conf",
    f"{UNITS}/user-1000.slice.d/60-alice.conf",
]
PROPERTIES = "CPUWeight,IOWeight,MemoryMin,MemoryLow,MemoryHigh,MemoryMax,MemorySwapMax,TasksMax,Slice,OOMScoreAdjust,CPUQuotaPerSecUSec"
# PID 1's values, the kernel's, and those of the processes.
LOOK = f"""
for unit in {" ".join(SERVICES)} {" ".join(SLICES)}; do
    systemctl show -p {PROPERTIES},MainPID "$unit" | sort | sed "s/^/$unit /"
    cd "/sys/fs/cgroup$(systemctl show --value -p ControlGroup "$unit")"
    grep -s . cpu.weight cpu.max cpu.idle io.weight memory.min memory.low memory.high memory.max memory.swap.max pids.max |
        sed "s/^/$unit /"
done
for unit in {" ".join(SERVICES)}; do cat "/proc/$(systemctl show --value -p MainPID "$unit")/oom_score_adj"; done
"""
# Every file as it is: the same inode has the same attributes, too. Of directories, what does not change with what is in
# them.
TREE = """
cd /etc; find systemd profile.d fairslice ! -type d -printf '%p %i %m %U:%G %T@ %l\\n' | sort
find systemd profile.d fairslice -type d -printf '%p %m %U:%G\\n' | sort
find systemd profile.d fairslice -type f -print0 | sort -z | xargs -0 sha256sum
"""


def words(machine, script: str) -> tuple[int, str]:
    out = machine.root(f"{script} 2>&1; echo exit $?")
    print(out)
    text, _, code = out.rpartition("exit ")
    return int(code), text


@pytest.fixture(scope="module")
def team(installed):
    installed.put(HAND_MADE)
    installed.root(
        f"chmod 600 {UNITS}/forge-index.service.d/limits.conf; systemctl daemon-reload; {SET}; "
        f"systemctl start {' '.join(SERVICES)}"
    )
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        # What PID 1 has read is in the kernel once a unit has started there.
        installed.root("fairslice apply; true")
        installed.root("systemd-run --quiet --wait --slice=forge-batch.slice true")
        yield installed
        installed.root(
            f"fairslice import --restore; rm -f {IMPORTED}; systemctl stop {' '.join(SERVICES)}; "
            f"rm -rf {' '.join(HAND_MADE)} {UNITS}/forge-*.d {UNITS}/user-*.slice.d {UNITS}.control/forge-web.service.d; "
            "fairslice apply; systemctl stop forge.slice forge-batch.slice; systemctl daemon-reload; fairslice apply; true"
        )


def test_from_hand_made_to_the_policy_and_back_every_value_stays(team):
    before, etc = team.root(LOOK), team.root(TREE)
    code, text = words(team, "fairslice import")
    assert code == 0
    for said in (
        f"cpu_weight = 300                # {UNITS}/forge.slice:2",
        f"cpu_weight = 400                # {UNITS}.control/forge-web.service.d/50-CPUWeight.conf:4",
        f"oom_score_adj = -500            # {UNITS}/forge-ledger.service.d/oom.conf:3",
        f"cpu_weight = 250                # {UNITS}/user-1000.slice.d/60-alice.conf:2",
        'path = "{home}/.cache/forge-go"',
        f'cpu_quota = "80%"               # {UNITS}/forge-ledger.service:5',
    ):
        assert said in text, said
    # It is found now, and whatever is done about it is no import's.
    assert "FS023 forge-ledger.service" in text
    assert team.root(TREE) == etc

    assert words(team, "fairslice import --write")[0] == 0
    # What was ignored while it was set by hand still is: the machine's disk has no scheduler.
    code, out = words(team, "fairslice check")
    assert code == 1
    assert re.findall(r"(?:warning|error): [^:]*", out) == ["warning: io_weight = 50 decides nothing on any disk"], out
    code, out = words(team, "fairslice import --retire")
    assert code == 2 and "fairslice apply" in out
    words(team, "fairslice apply")
    assert team.root(LOOK) == before

    code, out = words(team, "fairslice import --retire")
    assert code == 0
    assert sorted(line.split(": ")[0] for line in out.splitlines() if ": moved to " in line) == sorted(MOVED)
    assert f"{UNITS}/forge-ledger.service: stays: it is the unit's own file" in out
    team.root(f"for file in {' '.join(MOVED)}; do ! test -e $file && test -e /etc/fairslice/retired$file; done")
    assert team.root(LOOK) == before
    assert "Nothing is set by hand that the policy does not say" in team.root("fairslice import")
    # Also after PID 1 has made everything anew from what is there.
    team.root(f"systemctl daemon-reload; systemctl restart {' '.join(SERVICES)}")
    assert without_pids(team.root(LOOK)) == without_pids(before)
    login = "echo $GOCACHE; stat -c '%a %U' $GOCACHE; cat /sys/fs/cgroup/user.slice/user-1000.slice/cpu.weight"
    assert team.ssh("alice", login).out.split() == ["/home/alice/.cache/forge-go", "700", "alice", "250"]

    code, out = words(team, "fairslice import --restore")
    assert code == 0 and out.count(": put back\n") == len(MOVED)
    team.root(f"rm {IMPORTED}; fairslice apply; rm -r /home/alice/.cache/forge-go")
    assert team.root(TREE) == etc
    assert without_pids(team.root(LOOK)) == without_pids(before)


def without_pids(look: str) -> list[str]:
    return [line for line in look.splitlines() if not re.search("MainPID=", line)]


def test_where_a_unit_would_have_another_value_all_files_are_back(team):
    """What nobody can foresee: another generator, which goes by whether a file is there."""
    file, generator = f"{UNITS}/forge-index.service.d/limits.conf", "/etc/systemd/system-generators/forge"
    script = f"#!/bin/sh\ntest -e {file} && exit\nmkdir -p $1/forge-index.service.d\n"
    script += "printf '[Service]\\nMemoryHigh=5M\\n' > $1/forge-index.service.d/90-forge.conf\n"
    team.put({generator: script}, mode=0o755)
    try:
        words(team, "fairslice import --write; fairslice apply")
        before, etc = team.root(LOOK), team.root(TREE)
        code, out = words(team, "fairslice import --retire")
        assert code == 2
        assert re.search(r"nothing was moved: forge-index\.service would not keep MemoryHigh=\d+\n", out), out
        assert team.root(TREE) == etc
        assert team.root(LOOK) == before
    finally:
        team.root(f"rm -rf {generator} {IMPORTED}; rmdir --ignore-fail-on-non-empty {generator.rpartition('/')[0]}; fairslice apply; true")
