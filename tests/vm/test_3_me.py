"""fairslice me, run by the user who is limited: each figure is the kernel's, and each limit has its line."""

import contextlib
import json
import time
from pathlib import Path

import jsonschema
import pytest

SLICE = "/sys/fs/cgroup/user.slice/user-1000.slice"
FRAGMENT, DROP_IN = "/etc/fairslice/policy.d/50-me.toml", "/etc/systemd/system/user-.slice.d/50-tenant.conf"
POLICY = '[logins]\nmemory_high = "96M"\n[logins.user.alice]\ntasks_max = 60\n'
TENANT = "[Slice]\nCPUQuota=40%\nMemoryMax=100M\n"
# Until the last of her slice has gone, it keeps what it had.
STOP_ALICE = (
    "loginctl terminate-user alice 2>&1; systemctl stop user@1000 user-1000.slice;"
    f" while [ -d {SLICE} ] && ! grep -q 'populated 0' {SLICE}/cgroup.events; do sleep 0.2; done;"
)
FORKS = (
    "dash -c 'trap \"kill \\$all\" EXIT; for i in $(seq 100); do sleep 60 & all=\"$all $!\"; done' > /dev/null 2>&1 < /dev/null"
)
DEADLINE = 300

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def limited(installed):
    clean = f"rm -f {FRAGMENT} {DROP_IN} /home/alice/big; {STOP_ALICE} fairslice apply || true; systemctl daemon-reload"
    installed.root(clean)
    installed.put({FRAGMENT: POLICY, DROP_IN: TENANT})
    installed.root("systemctl daemon-reload; fairslice apply || true")
    yield installed
    installed.root(clean)


def attribute(session, name: str) -> str:
    return session.run(f"cat {SLICE}/{name} < /dev/null").strip()


def value(text: str, key: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key)


def wait_for(machine, name: str, key: str) -> None:
    """Asked as root: what runs in her slice may stand still at memory.high."""
    deadline = time.monotonic() + DEADLINE
    while value(text := machine.root(f"cat {SLICE}/{name}"), key) == 0:
        assert time.monotonic() < deadline, text
        time.sleep(0.3)


def test_each_figure_is_the_kernels_and_each_limit_has_its_line(limited):
    with contextlib.closing(limited.session("alice")) as session:
        assert session.run("id -u").strip() == "1000"
        # Stopped at the quota.
        session.run("(while :; do :; done) > /dev/null 2>&1 < /dev/null & loop=$!")
        wait_for(limited, "cpu.stat", "nr_throttled")
        session.run("kill $loop; wait $loop 2> /dev/null")
        # Reclaimed above memory.high: page cache.
        session.run("head -c 150M /dev/zero > ~/big < /dev/null; sync ~/big", DEADLINE)
        wait_for(limited, "memory.events.local", "high")
        # Killed at memory.max: tail keeps a line that has no end.
        session.run("(tail /dev/zero > /dev/null 2>&1 < /dev/null &) 2> /dev/null")
        wait_for(limited, "memory.events", "oom_kill")
        # Refused: dash gives up at the first, and makes room again.
        session.run(FORKS)
        wait_for(limited, "pids.events.local", "max")
        names = ["cpu.stat", "memory.events", "memory.events.local", "memory.pressure", "pids.events.local"]
        before = {name: attribute(session, name) for name in names}
        said = json.loads(session.run("fairslice me --json < /dev/null"))
        after = {name: attribute(session, name) for name in names}
        text = session.run("fairslice me < /dev/null")
        pid = int(session.run("echo $$").strip())
        current = int(attribute(session, "memory.current"))
        of_process = json.loads(session.run(f"fairslice explain process {pid} --json < /dev/null"))
        beside = limited.root(
            "cd /sys/fs/cgroup; for parent in . user.slice; do for one in $parent/*/; do"
            ' grep -q "populated 1" $one/cgroup.events && [ -e $one/cpu.weight ] && echo /${one#./}; done; done'
        ).split()
        busy = ",".join(one.rstrip("/") for one in beside if one.rstrip("/") != "/user.slice")
        chain = json.loads(limited.root(f"fairslice explain share user-1000.slice --busy {busy} --json"))["chain"]
        # Who logs in now changes what she is due.
        with contextlib.closing(limited.session("bob")) as other:
            of_bob = json.loads(other.run(f"fairslice explain process {pid} --json < /dev/null"))
    schema = json.loads((Path(__file__).parents[2] / "docs/json/explain-process.schema.json").read_text())
    jsonschema.validate(said, schema)

    def is_between(told: int, name: str, key: str) -> None:
        assert value(before[name], key) <= told <= value(after[name], key), (name, key, told, text)

    own = "/user.slice/user-1000.slice"
    assert said["of"] == own and said["uid"] == 1000 and said["user"] == "alice", text
    limits = {limit["attribute"]: limit for limit in said["limits"] if limit["cgroup"] == own and limit["tightest"]}
    expected = {"cpu.max": 40000, "memory.high": 96 << 20, "memory.max": 100 << 20, "pids.max": 60}
    assert {name: limit["limit"] for name, limit in limits.items()} == expected, text
    for name, event, key in [
        ("cpu.max", "cpu.stat", "nr_throttled"),
        ("memory.high", "memory.events.local", "high"),
        ("memory.max", "memory.events.local", "oom"),
        ("pids.max", "pids.events.local", "max"),
    ]:
        assert limits[name]["times"] > 0, text
        is_between(limits[name]["times"], event, key)
    is_between(limits["cpu.max"]["periods"], "cpu.stat", "nr_periods")
    is_between(limits["cpu.max"]["waited_us"], "cpu.stat", "throttled_usec")
    is_between(said["cpu_used_us"], "cpu.stat", "usage_usec")
    waited = [int(read["memory.pressure"].splitlines()[0].rsplit("=")[-1]) for read in (before, after)]
    assert waited[0] <= limits["memory.high"]["waited_us"] <= waited[1], text
    assert said["killed"]["count"] > 0 and own in said["killed"]["at"], text
    is_between(said["killed"]["count"], "memory.events", "oom_kill")
    assert abs(said["memory_used"] - current) < 16 << 20, text

    # Who has set each: a drop-in, the policy by its generator, the policy at her login.
    set_by = {name: limit["set_by"] for name, limit in limits.items()}
    lines = {name: (by["kind"], by["file"], by["line"]) for name, by in set_by.items()}
    assert lines == {
        "cpu.max": ("file", DROP_IN, 2), "memory.max": ("file", DROP_IN, 3),
        "memory.high": ("policy", FRAGMENT, 2), "pids.max": ("policy", FRAGMENT, 4),
    }, text  # fmt: skip
    assert all(limit["in_force"] for limit in limits.values()), text
    assert f"at most 40% of a CPU: cpu.max of user-1000.slice (CPUQuota=40%, {DROP_IN}:2); throttled" in text, text
    assert len(text.splitlines()) <= 12, text

    # What explain share computes of the whole tree; and anybody may look at a process.
    assert abs(chain[-1]["share"] - said["share"]) < 0.02, (chain, said)
    for told in of_process, of_bob:
        assert told["pid"] == pid and told["user"] == "alice"
        held = {limit["attribute"]: limit["limit"] for limit in told["limits"] if limit["cgroup"] == own}
        assert held == expected, told
