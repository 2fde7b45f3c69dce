"""Every share and ceiling that a policy can say, as the kernel then has it; and what the ceiling of all logins leaves
to a service."""

import json
import re
import statistics
import time
from dataclasses import dataclass

import measure
import pytest

# What a key comes to is the same in both releases, but for keys that 252 does not know.
pytestmark = pytest.mark.thorough

POLICY = "/etc/fairslice/policy.d/70-budgets.toml"
UNITS = "/etc/systemd/system"
NAME = "budget-one.service"
SERVICE = "budget.slice/budget-one.service"
USERS = "user.slice"
ALICE, BOB = f"{USERS}/user-1000.slice", f"{USERS}/user-1001.slice"
MIB = 1 << 20
ZSWAP = "memory.zswap.max"


def policy(device: str, quota: int, rate: int, weight: int) -> str:
    """All new keys. Those of the service that its next start brings do not change."""
    return f"""
[slice."budget.slice"]
match = ["budget-*"]
cpu_quota = "{quota + 100}%"
io_weight = {weight + 200}
io_read_bandwidth_max = "/ {rate + 40}M"
io_write_bandwidth_max = "/ {rate + 30}M"
memory_zswap_max = "{rate}M"
[service.budget-one]
cpu_quota = "{quota}%"
io_weight = {weight + 100}
io_read_bandwidth_max = "{device} {rate + 20}M"
io_write_bandwidth_max = "{device} {rate + 10}M"
memory_zswap_max = 0
allowed_cpus = "0"
oom_policy = "kill"
nice = 5
io_scheduling_class = "idle"
[logins]
cpu_quota = "{quota + 70}%"
io_weight = {weight + 50}
io_read_bandwidth_max = "/ {rate + 60}M"
total_cpu_quota = "{quota + 120}%"
total_io_weight = {weight + 20}
total_memory_min = "64M"
total_memory_low = "128M"
total_memory_high = "1500M"
total_memory_max = "1600M"
total_memory_swap_max = "{rate}M"
total_tasks_max = {weight + 4000}
[logins.user.alice]
cpu_quota = "{quota + 30}%"
io_weight = {weight + 150}
io_write_bandwidth_max = "/ {rate + 5}M"
"""


def declared(quota: int, rate: int, weight: int, disk: str) -> dict[str, str]:
    """What the policy of these numbers is in the kernel's files, written down here a second time."""

    def limits(read: int | None, write: int | None) -> str:
        numbers = [f"{number * 1_000_000}" if number else "max" for number in (read, write)]
        return f"{disk} rbps={numbers[0]} wbps={numbers[1]} riops=max wiops=max"

    def time_of(percent: int) -> str:
        return f"{percent * 1000} 100000"

    return {
        "budget.slice/cpu.max": time_of(quota + 100),
        "budget.slice/io.weight": f"default {weight + 200}",
        "budget.slice/io.max": limits(rate + 40, rate + 30),
        "budget.slice/memory.zswap.max": str(rate * MIB),
        f"{SERVICE}/cpu.max": time_of(quota),
        f"{SERVICE}/io.weight": f"default {weight + 100}",
        f"{SERVICE}/io.max": limits(rate + 20, rate + 10),
        f"{SERVICE}/memory.zswap.max": "0",
        f"{SERVICE}/cpuset.cpus": "0",
        f"{SERVICE}/memory.oom.group": "1",
        f"{USERS}/cpu.max": time_of(quota + 120),
        f"{USERS}/io.weight": f"default {weight + 20}",
        f"{USERS}/memory.min": str(64 * MIB),
        f"{USERS}/memory.low": str(128 * MIB),
        f"{USERS}/memory.high": str(1500 * MIB),
        f"{USERS}/memory.max": str(1600 * MIB),
        f"{USERS}/memory.swap.max": str(rate * MIB),
        f"{USERS}/pids.max": str(weight + 4000),
        f"{BOB}/cpu.max": time_of(quota + 70),
        f"{BOB}/io.weight": f"default {weight + 50}",
        f"{BOB}/io.max": limits(rate + 60, None),
        f"{ALICE}/cpu.max": time_of(quota + 30),
        f"{ALICE}/io.weight": f"default {weight + 150}",
        f"{ALICE}/io.max": limits(rate + 60, rate + 5),
    }


def live(machine, files) -> dict[str, str]:
    """The first line of each."""
    answer = machine.root(f"cd /sys/fs/cgroup; for f in {' '.join(files)}; do echo \"$f=$(head -n 1 $f 2>&1)\"; done")
    return dict(line.split("=", 1) for line in answer.splitlines())


def differing(machine, lacking: tuple[str, ...] = ()) -> list[str]:
    """What status says is not as declared, but for what this kernel does not have."""
    answer = json.loads(machine.root("fairslice status --json || true"))
    return [
        f"{unit['unit']} {setting['setting']}: {setting['live']}, declared {setting['declared']}"
        for unit in answer["units"]
        for setting in unit["settings"]
        if unit["active"] and not setting["holds"] and setting["setting"].replace("_", ".") not in lacking
    ]


CLEAN = (
    f"rm -f {POLICY}; systemctl stop '{NAME}' budget-reader.service 2>/dev/null; rm -rf {UNITS}/budget-*"
    f" {UNITS}.control/budget-*; pkill -x 'hog-alice|hog-bob'; rm -f /tmp/hog-* /var/tmp/budget /run/budget-passes;"
    " fairslice apply > /dev/null 2>&1; true"
)


@pytest.fixture
def budgets(installed):
    """Alice and bob are logged in, and the service was started before the policy says anything of it."""
    installed.root(CLEAN)
    installed.put({f"{UNITS}/{NAME}": "[Service]\nExecStart=/usr/bin/sleep infinity\n"})
    installed.root(f"systemctl daemon-reload; systemctl start {NAME}")
    sessions = [installed.session("alice"), installed.session("bob")]
    for session in sessions:
        session.run("true")
    yield installed
    for session in sessions:
        session.close()
    installed.root(CLEAN)


def test_every_key_is_in_the_kernels_files(budgets, capsys):
    machine = budgets
    # The file system lies on a disk without partitions.
    device, disk = machine.root("findmnt -n -o SOURCE /; mountpoint -d /").split()
    # Debian's kernel for virtual machines has no zswap.
    lacking = () if ZSWAP in machine.root("ls /sys/fs/cgroup/user.slice") else (ZSWAP,)

    def here(all: dict[str, str]) -> dict[str, str]:
        return {file: value for file, value in all.items() if file.rsplit("/", 1)[1] not in lacking}

    machine.put({POLICY: policy(device, 50, 20, 50)})
    warnings = [line for line in machine.root("fairslice check 2>&1 || true").splitlines() if "warning" in line]
    # The machine has no swap, and no disk that goes by weights.
    assert all(re.search("(limits nothing: this machine has no swap|decides nothing on any disk)", line) for line in warnings)
    said = machine.root("fairslice apply 2>&1; echo exit $?")
    # The service was started in another slice, and less nice: a restart brings both.
    for waits in ("slice", "nice is 0, declared 5", "io_scheduling_class is none, declared idle"):
        assert waits in said, said
    machine.root("fairslice apply --restart 2>&1 || true")
    wanted = here(declared(50, 20, 50, disk))
    found = live(machine, wanted)
    with capsys.disabled():
        print(f"\n{'file':44} {'declared':52} measured")
        for file, value in wanted.items():
            print(f"{file:44} {value:52} {found[file] if found[file] != value else 'the same'}")
    assert found == wanted
    process = machine.root(f"pid=$(systemctl show --value -p MainPID {NAME}); ps -o ni= -p $pid; ionice -p $pid")
    assert process.split() == ["5", "idle"]
    assert differing(machine, lacking) == []
    assert "nothing to change" in machine.root("fairslice apply --dry-run || true")

    # Other numbers, by a reload alone: PID 1 writes them when a unit is started there, a login its own.
    machine.put({POLICY: policy(device, 60, 30, 70)})
    machine.root("systemctl daemon-reload")
    machine.root("for slice in budget user; do systemd-run --quiet --wait --slice=$slice.slice true; done")
    machine.session("alice").run("true")
    wanted = here(declared(60, 30, 70, disk))
    # What alice has beside all users is what was applied, and what bob has is written when he has a new unit.
    of_logins = [file for file in wanted if file.startswith((ALICE, BOB))]
    rest = [file for file in wanted if file not in of_logins]
    assert {file: value for file, value in live(machine, rest).items() if value != wanted[file]} == {}
    machine.root("fairslice apply || true")
    assert live(machine, wanted) == wanted
    assert differing(machine, lacking) == []


def test_what_others_set_and_what_a_start_brings_is_found(budgets):
    machine = budgets
    machine.put({POLICY: '[service.budget-one]\ncpu_quota = "50%"\nnice = 5\n'})
    machine.root("fairslice apply || true")

    def found() -> dict[str, dict]:
        findings = json.loads(machine.root("fairslice doctor --json || true"))["findings"]
        return {one["code"]: one for one in findings if NAME in re.split("[, ]+", one["subject"])}

    waits = found()["FS048"]
    assert waits["fix"]["kind"] == "restart" and "nice 0, not 5" in waits["what"], waits
    machine.root(f"systemctl set-property {NAME} CPUQuota=30%")
    over = found()["FS012"]
    assert "cpu_quota 50% is overridden by 30%" in over["what"], over
    assert any("cpu_quota" in line for line in differing(machine))
    machine.root(f"rm -r {UNITS}.control/{NAME}.d; systemctl daemon-reload; systemctl restart {NAME}; fairslice apply")
    assert found() == {}
    # What was given is taken back.
    machine.root(f"rm {POLICY}; fairslice apply")
    (left,) = live(machine, [f"system.slice/{NAME}/cpu.max"]).values()
    # The controller goes where nothing needs it.
    assert left == "max 100000" or "No such file" in left


@dataclass
class Kept:
    """What a service kept of the file that it reads while two users eat memory, and how long it took to read it."""

    before: int
    least: int
    passes: list[float]
    killed: list[str]

    def __str__(self) -> str:
        latency = statistics.median(self.passes) if self.passes else float("nan")
        killed = ", ".join(self.killed) or "nobody"
        return f"kept {self.least:4} of {self.before} MiB, a pass takes {latency:6.2f} s, killed: {killed}"


FILE_MIB = 500
# Less, and the machine does nothing but read what it runs, again and again.
LEFT_MIB = 240
READER = f"""[Service]
Slice=system.slice
ExecStart=/bin/bash -c 'while :; do begun=$EPOCHREALTIME; cat /var/tmp/budget > /dev/null; \\
    echo "$begun $EPOCHREALTIME" >> /run/budget-passes; done'
"""


def eaten(machine, sessions) -> Kept:
    """Alice and bob want all but LEFT_MIB of what there is."""
    machine.root(
        # Whose it is, is decided by who reads it first.
        f"head -c {FILE_MIB}M /dev/zero > /var/tmp/budget; sync; echo 3 > /proc/sys/vm/drop_caches;"
        " systemctl daemon-reload;"
        " rm -f /run/budget-passes; systemctl start budget-reader;"
        " for i in $(seq 600); do [ $(cat /run/budget-passes 2>/dev/null | wc -l) -ge 2 ] && break; sleep 0.5; done"
    )
    before = cached(machine)
    available = int(machine.root("awk '/MemAvailable/ {print $2}' /proc/meminfo")) // 1024 - LEFT_MIB
    mark = measure.journal_mark(machine)
    for session, part in zip(sessions, (0.55, 0.45), strict=True):
        user = session.user
        session.run(f"load --name hog-{user} --hold {int(available * part)} > /tmp/hog-{user} 2>&1 & hog=$!")
    settled = "for u in alice bob; do grep -q holds /tmp/hog-$u || ! pgrep -x hog-$u > /dev/null || exit 1; done"
    for _ in range(300):
        if machine.root(f"({settled}); echo $?").strip() == "0":
            break
        time.sleep(1)
    else:
        raise AssertionError(machine.root("cat /tmp/hog-*; free -m; grep . /sys/fs/cgroup/user.slice/memory.*"))
    passes = int(machine.root("wc -l < /run/budget-passes"))
    least = []
    # Two whole passes, of which the first may have begun before.
    for _ in range(600):
        least.append(cached(machine))
        if int(machine.root("wc -l < /run/budget-passes")) >= passes + 3:
            break
    lines = machine.root(f"tail -n +{passes + 2} /run/budget-passes").splitlines()
    times = [float(end) - float(begun) for begun, end in (line.split() for line in lines)]
    killed = measure.journal_since(machine, mark, "oom-kill:")
    names = [re.search(r"task=([^,]*),", line)[1] for line in killed]
    for session in sessions:
        session.run("kill $hog; wait $hog")
    machine.root("systemctl stop budget-reader; rm -f /run/budget-passes /tmp/hog-*")
    return Kept(before, min(least), times, names)


def cached(machine) -> int:
    """How much of the file is in memory, in MiB."""
    stat = "/sys/fs/cgroup/system.slice/budget-reader.service/memory.stat"
    return int(machine.root(f"awk '/^file / {{print $2}}' {stat}")) // MIB


def test_the_ceiling_of_all_logins_leaves_a_service_its_file(budgets, capsys):
    machine = budgets
    machine.put({f"{UNITS}/budget-reader.service": READER})
    sessions = [machine.session("alice"), machine.session("bob")]
    results = {}
    try:
        for high, most in (("infinity", "infinity"), ("50%", "52%")):
            machine.put({POLICY: f'[logins]\ntotal_memory_high = "{high}"\ntotal_memory_max = "{most}"\n'})
            machine.root("fairslice apply")
            results[high] = eaten(machine, sessions)
    finally:
        for session in sessions:
            session.close()
    with capsys.disabled():
        print(f"\ntotal_memory_high, a service that reads {FILE_MIB} MiB again and again beside two users' hogs")
        for high, kept in results.items():
            print(f"  {high:9} {kept}")
    without, with_it = results["infinity"], results["50%"]
    assert without.before > FILE_MIB * 0.9 and with_it.before > FILE_MIB * 0.9
    assert with_it.least > FILE_MIB * 0.9
    assert without.least < FILE_MIB * 0.6
