"""fairslice drill: what it measures on a live machine is what was declared and predicted; it is refused where others
would feel it; and nothing is left of it."""

import contextlib
import json
import random
import re

import measure
import pytest
from machine import Machine

SEED = 11
TREES = 3
KILLS = 10
LONGEST = 7  # seconds, of a drill on emulated CPUs
FRAGMENT = "/etc/fairslice/policy.d/70-drill.toml"
UNITS = "/run/systemd/system"
# What could be left: cgroups, processes, units.
LEFT = (
    "find /sys/fs/cgroup -name 'fairslice-drill-*'; ps -eo comm | grep fairslice-drill; ls /run/systemd/transient | grep drill;"
    " systemctl list-units --all --plain --no-legend 'fairslice-drill-*'"
)

pytestmark = [pytest.mark.alone, pytest.mark.thorough]


def row(found: dict, unit: str) -> dict:
    return next(row for row in found["cpu"]["rows"] if row["unit"] == unit)


def table(found: dict) -> str:
    rows = found["cpu"]["rows"]
    return "\n".join(
        f"{'  ' * row['depth'] + row['unit']:<40} {row['declared']:.3f} {row['predicted']:.3f} {row['measured']:.3f}"
        for row in rows
    )


def left(machine: Machine) -> str:
    return machine.root(LEFT, check=False)


def test_each_gets_what_is_declared(installed, capsys):
    session = installed.session("alice")
    session.run("true")
    status, found = measure.drill(installed)
    uid = session.run("id -u").strip()
    with capsys.disabled():
        print("", table(found), sep="\n")
    assert status == 0 and found["kill_order"] is None
    assert abs(row(found, "foundry.slice")["measured"] - 2 / 3) < 0.03
    assert row(found, f"user-{uid}.slice")["user"] == "alice"
    assert abs(row(found, f"user-{uid}.slice")["measured"] - 1 / 6) < 0.03
    units = {row["unit"] for row in found["cpu"]["rows"]}
    assert {f"{name}.service" for name in measure.SERVICES} < units
    session.close()
    # For who was not there.
    installed.put({"/tmp/drill.json": json.dumps(found)})
    page = installed.root("fairslice report --drill /tmp/drill.json; rm /tmp/drill.json")
    assert f"Measured by a drill that ended at {found['time']}" in page
    for one in found["cpu"]["rows"]:
        assert f"{one['measured'] * 100:.1f}%" in page, one


def test_a_weight_that_somebody_else_has_set_is_seen(installed):
    installed.root("systemctl set-property --runtime foundry.slice CPUWeight=50")
    try:
        status, found = measure.drill(installed)
    finally:
        installed.root("systemctl set-property --runtime foundry.slice CPUWeight=200; rm -r"
                       " /run/systemd/system.control/foundry.slice.d; systemctl daemon-reload")
    slice = row(found, "foundry.slice")
    assert status == 1 and not slice["ok"]
    assert abs(slice["declared"] - 2 / 3) < 0.001
    assert abs(slice["predicted"] - 1 / 3) < 0.02 and abs(slice["measured"] - 1 / 3) < 0.03


def random_weight(rng: random.Random, of_slice: bool) -> str:
    return f"cpu_weight = {round(10 ** rng.uniform(1, 3))}\n"


def random_memory(rng: random.Random, of_slice: bool) -> str:
    low, more = rng.randint(50, 500 if of_slice else 200), rng.randint(100, 600)
    return f'memory_{rng.choice(["min", "low"])} = "{low}M"\nmemory_{rng.choice(["high", "max"])} = "{low + more}M"\n'


def random_policy(rng: random.Random, name: str, of_one=random_weight) -> tuple[str, list[str]]:
    """Slices in slices, with settings of one kind, and services in them, of which some have one."""
    text, services = "", []
    slices = [f"{name}-a", f"{name}-b", f"{name}-b-c"]
    for slice in slices:
        names = [f"{slice.replace('-', '')}{number}" for number in range(rng.randint(1, 3))]
        services += names
        text += f'[slice."{slice}.slice"]\nmatch = {json.dumps(names)}\n'
        text += of_one(rng, True)
        have = rng.random() < 0.5
        for service in names if have else []:
            text += f"[service.{service}]\n{of_one(rng, False)}"
    return text, services


@contextlib.contextmanager
def living(machine: Machine, policy: str, services: list[str]):
    unit = "[Service]\nExecStart=/usr/local/bin/load --standby --busy 1\n"
    machine.put({FRAGMENT: policy, **{f"{UNITS}/{name}.service": unit for name in services}})
    names = " ".join(services)
    try:
        machine.root(f"systemctl daemon-reload && systemctl start {names} && fairslice apply")
        yield
    finally:
        files = " ".join(f"{UNITS}/{name}.service" for name in services)
        # A slice that stays has what nobody declares any more.
        machine.root(f"systemctl stop {names} '[mr][0-9]*.slice'; rm -f {FRAGMENT} {files}; systemctl daemon-reload")


def test_random_policies_hold_as_declared_and_predicted(installed, capsys):
    rng, worst, said = random.Random(SEED), 0.0, []
    for number in range(TREES):
        policy, services = random_policy(rng, f"r{number}")
        with living(installed, policy, services):
            _, found = measure.drill(installed)
        said.append(table(found))
        for row in found["cpu"]["rows"]:
            worst = max(worst, *(abs(row["measured"] - row[other]) for other in ("declared", "predicted")))
        for service in services:
            assert any(row["unit"] == f"{service}.service" for row in found["cpu"]["rows"]), said[-1]
    with capsys.disabled():
        print("", f"seed {SEED}", *said, f"largest difference {worst:.3f}", sep="\n")
    assert worst <= 0.03


# Scopes differ in what they make of a kill.
@pytest.mark.thorough("trixie", "bookworm")
def test_the_kernel_kills_in_the_order_that_is_declared_and_nobody_else(installed):
    before = measure.services(installed, measure.SERVICES)
    kernel = len(measure.killed_in_order(installed))
    status, found = measure.drill(installed, "--kill-order")
    order = [row["unit"] for row in found["kill_order"]["rows"]]
    assert status == 0 and found["cpu"] is None
    assert order[0] == "local-slm.service" and order[-2:] == ["local-doorman.service", "local-fs.service"]
    assert {"unit": "ssh.service", "why": "its score is -1000: it is never killed"} in found["kill_order"]["left_out"]
    killed = measure.killed_in_order(installed)[kernel:]
    assert len(killed) == len(order)
    assert all(re.fullmatch(r"/system.slice/fairslice-drill-\d+-oom.scope", one.cgroup) for one in killed)
    assert measure.services(installed, measure.SERVICES) == before
    assert left(installed) == ""


def memory_rows(found: dict, what: str) -> dict[str, dict]:
    return {row["unit"]: row for row in found["memory"][what]}


def memory_table(found: dict) -> str:
    mib = 1 << 20
    rows = found["memory"]["protected"] + found["memory"]["ceilings"]
    return "\n".join(
        f"{'  ' * row['depth'] + row['unit']:<40} "
        + " ".join(f"{row[part] * row['of_bytes'] / mib:7.1f}" for part in ("declared", "predicted", "measured"))
        for row in rows
    )


def test_memory_is_protected_and_limited_as_declared(installed, capsys):
    """In the model; and what somebody else has taken away is seen in it."""
    before = measure.services(installed, measure.SERVICES)
    policy = (
        '[slice."foundry-services.slice"]\nmemory_low = "30%"\n[service.local-fs]\nmemory_low = "15%"\n'
        '[service.local-slm]\nmemory_max = "300M"\n[logins]\nmemory_max = "25%"\n'
    )
    session = installed.session("alice")
    session.run("true")
    uid = session.run("id -u").strip()
    installed.put({FRAGMENT: policy})
    try:
        installed.root("fairslice apply")
        status, found = measure.drill(installed, "--memory")
        with capsys.disabled():
            print("", memory_table(found), sep="\n")
        assert status == 0 and found["cpu"] is None
        kept, limited = memory_rows(found, "protected"), memory_rows(found, "ceilings")
        assert {"foundry.slice", "local-fs.service", "local-slm.service", f"user-{uid}.slice"} <= kept.keys()
        assert kept["local-fs.service"]["measured"] > 2 * kept["local-slm.service"]["measured"] > 0.1
        assert kept[f"user-{uid}.slice"]["measured"] < 0.02
        assert {"foundry-services.slice", "local-slm.service", "user.slice", f"user-{uid}.slice"} <= limited.keys()
        assert limited[f"user-{uid}.slice"]["user"] == "alice"
        bytes = limited["local-slm.service"]["measured"] * limited["local-slm.service"]["of_bytes"]
        assert abs(bytes - (300 << 20)) < 10 << 20

        installed.root("systemctl set-property --runtime foundry.slice MemoryLow=0; systemctl set-property --runtime"
                       " user.slice MemoryMax=512M")
        status, found = measure.drill(installed, "--memory")
        kept, limited = memory_rows(found, "protected"), memory_rows(found, "ceilings")
        assert status == 1 and not kept["local-fs.service"]["ok"] and not limited["user.slice"]["ok"]
        assert kept["local-fs.service"]["predicted"] == 0 and kept["local-fs.service"]["measured"] < 0.03
        bytes = limited["user.slice"]["measured"] * limited["user.slice"]["of_bytes"]
        assert abs(bytes - (512 << 20)) < 20 << 20
    finally:
        installed.root(f"rm -rf {FRAGMENT} /run/systemd/system.control/{{foundry,user}}.slice.d; systemctl daemon-reload;"
                       " fairslice apply")
        session.close()
    assert measure.services(installed, measure.SERVICES) == before
    assert left(installed) == ""


def test_random_protections_and_ceilings_hold_in_the_model(installed, capsys):
    rng, worst, said = random.Random(SEED), 0.0, []
    for number in range(TREES):
        policy, services = random_policy(rng, f"m{number}", random_memory)
        with living(installed, policy, services):
            _, found = measure.drill(installed, "--memory")
        said.append(memory_table(found))
        for row in found["memory"]["protected"] + found["memory"]["ceilings"]:
            worst = max(worst, *(abs(row["measured"] - row[other]) for other in ("declared", "predicted")))
    with capsys.disabled():
        print("", f"seed {SEED}", *said, f"largest difference {worst:.3f}", sep="\n")
    assert worst <= 0.03


def test_nothing_is_left_a_second_after_it_was_killed(installed):
    """At any moment: what it has asked PID 1 for meanwhile goes as well."""
    rng = random.Random(SEED)
    for _ in range(KILLS):
        after, options = rng.uniform(0, LONGEST), rng.choice(["", "--kill-order", "--memory"])
        installed.root(
            f"fairslice drill --yes {options} > /dev/null 2>&1 & sleep {after:.2f}; kill -KILL $!; sleep 1; true"
        )
        assert left(installed) == "", f"killed after {after:.2f} s"
    # Its parent.
    installed.root("sh -c 'fairslice drill --yes > /dev/null 2>&1 & sleep 4; kill -KILL $$'; sleep 1", check=False)
    assert left(installed) == ""


def test_it_is_refused_where_it_would_be_felt_and_where_it_cannot_be(installed):
    def refused(command: str) -> str:
        answer = installed.root(f"exec 2>&1; {command}; echo exit $?")
        assert answer.endswith("exit 2\n"), answer
        return answer

    busy = refused(
        "load --name neighbour --busy 4 > /dev/null & sleep 2; fairslice drill --yes; status=$?; kill $!; (exit $status)"
    )
    assert re.search("tasks wait for a CPU [0-9]+ % of the time|is the least busy", busy)
    assert "no terminal" in refused("fairslice drill < /dev/null")
    assert "only root" in refused("runuser -u alice -- fairslice drill --yes")
    without = "unshare --mount sh -c 'mount -t tmpfs none /run/systemd; {} fairslice drill --yes'"
    assert "PID 1 is not systemd here" in refused(without.format(""))
    assert "no such socket" in refused(without.format("mkdir /run/systemd/system;"))
    assert left(installed) == ""


def test_there_is_one_at_a_time(installed):
    # In a loaded machine the first one needs a while to get as far as the lock.
    is_held = "grep -q \":$(stat -c %i /run/fairslice/lock/held) \" /proc/locks"
    answer = installed.root(
        f"fairslice drill --yes > /tmp/first 2>&1 & first=$!; for try in $(seq 100); do {is_held} && break; sleep 0.1; done;"
        " fairslice drill --yes 2>&1; echo exit $?; echo $first; kill $first; wait; cat /tmp/first >&2; rm /tmp/first"
    )
    said, first = answer.split("exit 2\n")
    assert f"fairslice drill --yes (pid {first.strip()}) has been changing the machine" in said
