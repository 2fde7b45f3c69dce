"""fairslice apply: the running machine is what the policy says, at once, and nothing else has changed."""

import contextlib
import json
import re

import measure
import pytest

FRAGMENT = "/etc/fairslice/policy.d/50-apply.toml"
EDIT = """
[slice."foundry-services.slice"]
cpu_weight = 222
tasks_max = 3000
[service.local-fs]
oom_score_adj = -400
[logins.user.alice]
cpu_weight = 250
memory_high = "1G"
"""
# What is live, in this order; then every override that PID 1 keeps.
LOOK = """cd /sys/fs/cgroup
cat foundry.slice/cpu.weight foundry.slice/foundry-services.slice/cpu.weight
cat foundry.slice/foundry-services.slice/pids.max
cat user.slice/user-1000.slice/cpu.weight user.slice/user-1000.slice/memory.high
cat /proc/$(systemctl show --value -p MainPID local-fs)/oom_score_adj
find /run/systemd/system.control /etc/systemd/system.control -type f 2>/dev/null; true
"""
BEFORE = ["200", "200", "max", "100", "max", "-500"]
AFTER = ["222", "222", "3000", "250", str(1 << 30), "-400"]
# What PID 1 keeps of alice's rule while she has it.
ALICES_RULE = {"/run/systemd/system.control/user-1000.slice.d/50-MemoryHigh.conf"}
# Everybody has a weight: it goes back to that, and stays what PID 1 was told.
ALICES_WEIGHT = "/run/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf"
DROP_INS = "systemctl show --value -p DropInPaths foundry.slice foundry-services.slice local-fs.service"
# A service one of whose children has another score than its first process.
KIDS = """[Service]
ExecStart=/bin/sh -c 'sleep 9999 & (echo 300 > /proc/self/oom_score_adj; exec sleep 9999) & wait'
"""


@pytest.fixture(scope="module")
def applying(installed):
    installed.root("fairslice apply; true")
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        installed.overrides = set()
        live, installed.overrides = look(installed)
        assert live == BEFORE
        yield installed
        installed.root(f"rm -f {FRAGMENT}; fairslice apply; true")
        assert look(installed)[0] == BEFORE


def look(machine) -> tuple[list[str], set[str]]:
    """What is live, and the overrides that there were not before these tests."""
    answer = machine.root(LOOK).split()
    return answer[: len(BEFORE)], set(answer[len(BEFORE) :]) - machine.overrides - {ALICES_WEIGHT}


def apply(machine, options: str = "") -> tuple[int, str]:
    out = machine.root(f"fairslice apply {options} 2>&1; echo exit $?")
    print(out)
    text, _, code = out.rpartition("exit ")
    return int(code), text


def edit(machine, text: str) -> None:
    machine.put({FRAGMENT: text})


def test_an_edit_is_in_force_at_once_and_leaves_no_override_behind(applying):
    edit(applying, EDIT)
    # Anybody may ask what would change.
    asked = applying.root("su -s /bin/sh alice -c 'fairslice apply --dry-run; fairslice apply 2>&1; echo exit $?'")
    assert re.search(r"foundry.slice\n  cpu_weight +200 -> 222 +\(daemon-reload\)\n", asked), asked
    assert re.search(r"user-1000.slice \(alice\)\n  cpu_weight +100 -> 250 +\(systemd, until", asked), asked
    assert "only root can change the machine" in asked and "exit 2" in asked, asked
    assert look(applying)[0] == BEFORE

    assert apply(applying)[0] == 0
    assert look(applying) == (AFTER, ALICES_RULE)
    drop_ins = applying.root(DROP_INS).split()
    assert drop_ins and all(file.startswith("/run/systemd/generator/") for file in drop_ins), drop_ins
    # Again: nothing is written, and PID 1 is asked for nothing.
    again = applying.root(
        "touch /tmp/mark; sleep 0.1; mark=$(" + measure.JOURNAL_MARK + "); fairslice apply; echo exit $?;"
        " find /run /etc /var/lib/systemd -xdev -newer /tmp/mark -type f ! -path '/run/log/*' ! -path '*journal*';"
        ' journalctl --sync; journalctl -o cat --after-cursor="$mark" _PID=1'
    )
    assert again == "nothing to change\nexit 0\n"
    # It is PID 1's own value: what the next reload brings is the same.
    after = applying.root(
        "systemctl daemon-reload; systemd-run --quiet --wait --slice=foundry-services.slice true;"
        " fairslice status > /tmp/status; echo exit $?"
    )
    assert after == "exit 0\n", applying.root("cat /tmp/status")
    assert look(applying) == (AFTER, ALICES_RULE)

    applying.root(f"rm {FRAGMENT}")
    code, said = apply(applying)
    assert code == 0 and re.search(r"tasks_max +3000 -> unset +\(daemon-reload\)", said), said
    assert re.search(r"memory_high +1073741824 -> unset +\(set at a login, taken back\)", said), said
    assert look(applying) == (BEFORE, set())


def test_what_the_administrator_has_set_is_named_and_stays(applying):
    theirs = "/etc/systemd/system/foundry.slice.d/60-mine.conf"
    applying.put({theirs: "[Slice]\nCPUWeight=300\n"})
    applying.root("systemctl set-property foundry-services.slice CPUWeight=400")
    edit(applying, EDIT)
    try:
        code, said = apply(applying)
        assert code == 1
        assert f"foundry.slice: cpu_weight: 300, declared 222: {theirs}:2 sets CPUWeight=300" in said
        control = "/etc/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf"
        assert re.search(f"foundry-services.slice: cpu_weight: 400, declared 222: {control}:\\d sets CPUWeight=400", said)
        assert look(applying)[0] == ["300", "400", "3000", "250", str(1 << 30), "-400"]
        assert applying.root(f"cat {theirs}; tail -1 {control}") == "[Slice]\nCPUWeight=300\nCPUWeight=400\n"
    finally:
        applying.root(f"rm -r {theirs} /etc/systemd/system.control {FRAGMENT}; fairslice apply; true")


@pytest.mark.thorough
def test_what_needs_a_restart_is_named_and_done_when_asked_for(applying):
    # Started under another policy.
    applying.put({"/etc/systemd/system/batch-kids.service": KIDS})
    applying.root("systemctl daemon-reload; systemctl start batch-kids; sleep 1")
    edit(applying, '[slice."batch.slice"]\nmatch = ["batch-*", "ssh"]\n[service.batch-kids]\noom_score_adj = 200\n')
    scores = "for pid in $(cat $(find /sys/fs/cgroup -path '*batch-kids.service/cgroup.procs')); do cat /proc/$pid/oom_score_adj; done"
    try:
        code, said = apply(applying)
        assert code == 1
        assert sorted(applying.root(scores).split()) == ["200", "200", "300"]
        assert "batch-kids.service: oom_score_adj: 1 process has 300, set by the service or by hand" in said
        named = "needs a restart (--restart)\n  batch-kids.service: runs in system.slice, declared batch.slice\n"
        by_hand = "needs a restart by hand\n  ssh.service: runs in system.slice, declared batch.slice\n"
        assert said.endswith(named + by_hand), said
        overview = applying.root("fairslice; true")
        assert re.search(r"apply --restart +restarts batch-kids\.service\n", overview), overview
        listener = measure.sshd_listener_score(applying)
        pids = "systemctl show --value -p MainPID ssh local-fs"
        before = applying.root(pids)
        plan = json.loads(applying.root("fairslice apply --restart --json; true"))
        assert plan["restarted"] == ["batch-kids.service"] and plan["failed"] == []
        assert [(one["unit"], one["by_hand"]) for one in plan["after"]["restarts"]] == [("ssh.service", True)]
        assert applying.root(pids) == before and measure.sshd_listener_score(applying) == listener
        assert measure.services(applying, ["batch-kids"])["batch-kids"].slice == "batch.slice"
    finally:
        applying.root(f"rm {FRAGMENT}; systemctl stop batch-kids; rm /etc/systemd/system/batch-kids.service; fairslice apply; true")


@pytest.mark.thorough
def test_a_restart_that_does_not_move_a_service_is_said(applying):
    units = {name: f"/etc/systemd/system/{name}.service" for name in ("batch-left", "batch-late")}
    # One has a child that a stop lets live, the other one starts that at its stop.
    applying.put({
        units["batch-left"]: "[Service]\nKillMode=process\nExecStart=/bin/sh -c 'sleep 1001 & exec sleep 1002'\n",
        units["batch-late"]: "[Service]\nKillMode=process\nExecStart=/bin/sleep 1003\n"
        "ExecStopPost=/bin/sh -c 'sleep 1004 &'\n",
    })
    applying.root("systemctl daemon-reload; systemctl start batch-left batch-late; sleep 1")
    edit(applying, '[slice."batch.slice"]\nmatch = ["batch-*"]\n')
    by_hand = (
        r"needs a restart by hand\n(?:  batch-late.*\n)?"
        r"  batch-left.service: runs in system.slice, declared batch.slice, and a restart does not move it:"
        r" KillMode=process lets process \d+ \(sleep\) live, which keeps it there:"
        r" systemctl stop batch-left.service; systemctl kill batch-left.service; systemctl start batch-left.service\n"
    )
    main = "systemctl show --value -p MainPID batch-left"
    try:
        code, said = apply(applying)
        assert code == 1 and re.search(by_hand, said), said
        assert "needs a restart (--restart)\n  batch-late.service: runs in system.slice" in said, said
        before = applying.root(main)
        code, said = apply(applying, "--restart")
        assert code == 1 and re.search(by_hand, said), said
        assert "restarted: batch-late.service\nrestarted, and still not as declared: batch-late.service\n" in said, said
        assert "batch-late.service: runs in system.slice, declared batch.slice, and a restart does not" in said, said
        # What it would not have moved was not interrupted.
        assert applying.root(main) == before
        # What it says to do does it.
        recipes = re.findall(r"there: (systemctl stop .*)", said)
        assert len(recipes) == 2
        applying.root("; ".join(recipes))
        assert apply(applying) == (0, "nothing to change\n")
        found = measure.services(applying, list(units))
        assert {process.slice for process in found.values()} == {"batch.slice"}
    finally:
        stop = "; ".join(f"systemctl stop {name}; systemctl kill {name} 2> /dev/null" for name in units)
        applying.root(f"rm {FRAGMENT}; {stop}; rm {' '.join(units.values())}; fairslice apply; true")


@pytest.mark.thorough
def test_it_may_be_killed_at_any_moment(applying):
    edit(applying, EDIT)
    killed = applying.root(
        "for wait in 0.5 1.5 3; do timeout -s KILL $wait fairslice apply > /dev/null 2>&1; echo $?; done"
    ).split()
    assert "137" in killed, killed
    assert apply(applying)[0] == 0
    assert look(applying) == (AFTER, ALICES_RULE)
    # Two at once: one does it, and the other has nothing left to do, or has waited long enough.
    applying.root(f"rm {FRAGMENT}")
    out = applying.root("fairslice apply > /tmp/one 2>&1 & fairslice apply > /tmp/two 2>&1; wait; cat /tmp/one /tmp/two")
    assert "nothing to change" in out or "fairslice apply (pid " in out, out
    assert apply(applying) == (0, "nothing to change\n")
    assert look(applying) == (BEFORE, set())
