"""Ceilings that are lowered below what is used: nobody is killed, and they are in force once no more is used."""

import random

import measure
import pytest

FRAGMENT, UNIT = "/etc/fairslice/policy.d/50-ceilings.toml", "local-tight.service"
CGROUP = f"/sys/fs/cgroup/foundry.slice/foundry-services.slice/{UNIT}"
MIB = 1 << 20
HELD = 150  # MiB
SEED = 20262

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def tight(installed):
    """A service that holds so much, and starts a process now and then."""
    installed.put({f"{measure.UNITS}/{UNIT}": f"[Service]\nExecStart=/usr/local/bin/load --hold {HELD}\n"})
    installed.root(f"systemctl daemon-reload; systemctl start {UNIT}")
    holds = f"for i in $(seq 100); do [ $(cat {CGROUP}/memory.current) -gt {HELD * MIB} ] && break; sleep 0.2; done"
    installed.root(holds)
    yield installed
    installed.root(
        f"systemctl stop {UNIT}; rm -f {measure.UNITS}/{UNIT} {FRAGMENT};"
        f" rm -rf /run/systemd/system.control/{UNIT}.d /run/fairslice/properties/{UNIT}; systemctl daemon-reload; fairslice apply"
    )


def declared(machine, lines: str) -> str:
    machine.put({FRAGMENT: f"[service.local-tight]\n{lines}\n"})
    return machine.root("fairslice apply 2>&1; true")


def live(machine, name: str) -> str:
    return machine.root(f"cat {CGROUP}/{name}").strip()


def killed(machine) -> int:
    return int(machine.root(f"grep ^oom_kill' ' {CGROUP}/memory.events").split()[1])


def test_what_does_not_fit_waits_and_no_reload_changes_that(tight):
    said = declared(tight, 'memory_max = "60M"\ntasks_max = 1')
    assert f"{UNIT}: memory_max: max, declared 60M: waits" in said, said
    assert live(tight, "memory.max") == "max"
    # What the kernel writes when a unit starts there is what PID 1 has.
    measure.make_pid1_write_weights(tight)
    assert (live(tight, "memory.max"), killed(tight)) == ("max", 0)
    found = tight.root("fairslice doctor; true")
    assert "FS049 minor" in found and "lowers no ceiling below that" in found, found
    assert "differs" in tight.root("fairslice status local-tight; true")
    assert "nothing to change" in tight.root("fairslice apply; true")
    # A new start has nothing to lose.
    declared(tight, 'memory_max = "220M"')
    assert live(tight, "memory.max") == str(220 * MIB)


def test_what_can_be_given_back_is_asked_for(tight):
    """Pages of files are no reason to wait."""
    declared(tight, "memory_max = \"600M\"")
    tight.root(
        "dd if=/dev/zero of=/var/tmp/cached bs=1M count=100 2>&1; sync; echo 1 > /proc/sys/vm/drop_caches;"
        f" sh -c 'echo $$ > {CGROUP}/cgroup.procs; cat /var/tmp/cached > /dev/null'"
    )
    before = int(live(tight, "memory.current"))
    assert before > (HELD + 80) * MIB, before
    said = declared(tight, 'memory_max = "200M"')
    assert "waits" not in said and live(tight, "memory.max") == str(200 * MIB), said
    assert killed(tight) == 0 and int(live(tight, "memory.current")) <= 200 * MIB
    tight.root("rm -f /var/tmp/cached")


def test_whatever_is_declared_kills_nobody(tight):
    choice = random.Random(SEED)
    main = tight.root(f"systemctl show --value -p MainPID {UNIT}")
    waited = 0
    for _ in range(12):
        ceiling = choice.randrange(20, 400)
        said = declared(tight, f'memory_max = "{ceiling}M"')
        used = int(live(tight, "memory.current"))
        if "waits" in said:
            waited += 1
            assert used > ceiling * MIB, (ceiling, used, said)
        else:
            assert live(tight, "memory.max") == str(ceiling * MIB), said
        assert killed(tight) == 0
    assert 0 < waited < 12
    assert tight.root(f"systemctl show --value -p MainPID {UNIT}") == main


def test_installing_the_package_lowers_none_either(tight):
    """What postinst does."""
    declared(tight, 'memory_max = "600M"')
    tight.put({FRAGMENT: '[service.local-tight]\nmemory_max = "60M"\n'})
    tight.root("fairslice hold; systemctl daemon-reload")
    measure.make_pid1_write_weights(tight)
    assert (live(tight, "memory.max"), killed(tight)) == (str(600 * MIB), 0)


def test_it_is_set_all_the_same_where_that_is_asked_for(tight):
    declared(tight, 'memory_max = "40M"')
    assert killed(tight) == 0
    tight.root("fairslice apply --force 2>&1; true")
    tight.root(f"for i in $(seq 100); do systemctl is-active --quiet {UNIT} || break; sleep 0.2; done")
    assert "oom-kill" in tight.root(f"systemctl show -p Result {UNIT}")
    assert measure.properties(tight, UNIT, "MemoryMax") == {"MemoryMax": str(40 * MIB)}
