"""Sessions that are no logins, in the slices of those whom they are for: `sessions` of [logins].

Each way in is tried without the key first: what its caller gets of it, exit code and output, is the same with it.
"""

import contextlib
import json
import re
from dataclasses import dataclass

import measure
import pytest

FRAGMENT, SUDOERS, PAM = "/etc/fairslice/policy.d/50-sessions.toml", "/etc/sudoers.d/alice", "/etc/pam.d/runuser"
CRON_JOB = "/etc/cron.d/bob"
POLICY = """
[logins]
sessions = ["cron", "atd", "su", "su-l", "sudo", "sudo-i", "runuser"]
[logins.user.bob]
cpu_weight = 250
"""
# What runs: it says where it is, and something, and fails.
LOOK = """#!/bin/sh
cut -d: -f3 /proc/$$/cgroup > /tmp/seen.$$; mv /tmp/seen.$$ /tmp/seen
echo out of $(id -un); echo err >&2; exit 7
"""
UNTIL_SEEN = "for i in $(seq 300); do [ -s /tmp/seen ] && break; sleep 0.1; done; cat /tmp/seen; rm -f /tmp/seen"
INSIDE = re.compile(r"/user\.slice/user-1001\.slice/(fairslice-login|session)-[\w-]+\.scope")

pytestmark = pytest.mark.thorough


@dataclass(frozen=True)
class Way:
    name: str
    command: str
    by_alice: bool = False
    outside: str = ""  # where it is without the key


AS_SERVICE = "systemd-run --quiet --collect --wait --pipe sh -c"
WAYS = [
    Way("cron", "rm -f /run/crond.reboot; systemctl restart cron; until [ -s /tmp/seen ]; do sleep 0.1; done",
        outside="/system.slice/cron.service"),
    Way("at", "setpriv --reuid=bob --regid=bob --init-groups --reset-env sh -c 'cd; echo /usr/local/bin/look | at now'", outside="/system.slice/atd.service"),
    Way("su", "su bob -c look", outside="/user.slice/user-0.slice/"),
    Way("su -", "su - bob -c look", outside="/user.slice/user-0.slice/"),
    Way("sudo -u", "sudo -u bob look", outside="/user.slice/user-0.slice/"),
    Way("sudo -i -u", "sudo -i -u bob look", outside="/user.slice/user-0.slice/"),
    Way("alice: su", "echo pw | su bob -c look", by_alice=True, outside="/user.slice/user-1000.slice/"),
    Way("alice: su -", "echo pw | su - bob -c look", by_alice=True, outside="/user.slice/user-1000.slice/"),
    Way("alice: sudo -u", "sudo -u bob look", by_alice=True, outside="/user.slice/user-1000.slice/"),
    Way("alice: sudo -i -u", "sudo -i -u bob look", by_alice=True, outside="/user.slice/user-1000.slice/"),
    Way("a service: runuser", f"{AS_SERVICE} 'runuser -u bob look; exit $?'", outside="/system.slice/run-"),
    Way("a service: sudo -u", f"{AS_SERVICE} 'sudo -u bob look; exit $?'", outside="/system.slice/run-"),
]  # fmt: skip


@dataclass
class Lab:
    machine: object
    alice: object

    def enter(self, way: Way) -> tuple[str, str]:
        """Where it was, and what its caller saw of it."""
        command = (
            f"out=$(mktemp); ( {way.command} ) > $out 2> $out.err < /dev/null; echo exit $?; cat $out $out.err; rm $out $out.err"
        )
        said = self.alice.run(command) if way.by_alice else self.machine.root(command)
        where = self.machine.root(UNTIL_SEEN).strip()
        # at's job has a number and a time.
        return where, re.sub(r"job \d+ at .*", "job", said)


@pytest.fixture(scope="module")
def lab(installed):
    installed.put({"/usr/local/bin/look": LOOK}, mode=0o755)
    installed.put({SUDOERS: "alice ALL=(ALL) NOPASSWD: ALL\n", CRON_JOB: "@reboot bob /usr/local/bin/look\n"})
    installed.root(
        f"cp {PAM} {PAM}.kept; echo 'session optional pam_fairslice.so' >> {PAM};"
        " echo bob:pw | chpasswd; systemctl start atd"
    )
    measure.log_out(installed, "bob")
    with contextlib.closing(installed.session("alice")) as alice:
        yield Lab(installed, alice)
    installed.root(
        f"mv {PAM}.kept {PAM}; rm -f /usr/local/bin/look {SUDOERS} {FRAGMENT} {CRON_JOB} /tmp/seen;"
        " pkill -u bob sleep; systemctl restart cron; fairslice apply"
    )


def test_each_way_in_goes_to_its_own_user_and_its_caller_sees_no_difference(lab):
    def all_ways() -> dict[str, tuple[str, str]]:
        return {way.name: lab.enter(way) for way in WAYS}

    lab.machine.root(f"rm -f {FRAGMENT}; fairslice apply")
    without = all_ways()
    for way in WAYS:
        assert without[way.name][0].startswith(way.outside), (way.name, without[way.name])
    lab.machine.put({FRAGMENT: POLICY})
    lab.machine.root("fairslice check; fairslice apply")
    taken = all_ways()
    for way in WAYS:
        where, said = taken[way.name]
        assert INSIDE.fullmatch(where), (way.name, where)
        assert said == without[way.name][1], way.name
        if "at" not in way.name.split() and way.name != "cron":
            assert "exit 7\n" in said and "out of bob\n" in said, (way.name, said)
    # Nothing of it is left.
    lab.machine.root("for i in $(seq 100); do systemctl list-units --no-legend 'fairslice-login-*' | grep -q . || break; sleep 0.1; done")
    assert lab.machine.root("systemctl list-units --no-legend 'fairslice-login-*'; systemctl --failed --no-legend") == ""


@pytest.fixture
def taken(lab):
    lab.machine.put({FRAGMENT: POLICY})
    lab.machine.root("fairslice apply")
    return lab.machine


def running(machine) -> str:
    """Where bob's one `sleep` is, once it runs; nothing where there is none."""
    return machine.root("for i in $(seq 100); do pid=$(pgrep -u bob -x sleep) && break; sleep 0.1; done; cut -d: -f3 /proc/$pid/cgroup").strip()


def test_root_and_the_weight(taken):
    taken.root("rm -f /tmp/seen; sudo look; true")
    assert taken.root(UNTIL_SEEN).startswith("/user.slice/user-0.slice/"), "root's own"
    taken.root("sudo -u bob setsid sleep 1000 > /dev/null 2>&1 < /dev/null &")
    assert INSIDE.fullmatch(running(taken))
    assert measure.cpu_weight(taken, "user.slice/user-1001.slice") == 250
    outside = taken.root("ps -eo uid=,cgroup= | awk '$1 >= 1000 && $1 < 60000 && $2 !~ \"/user-\" $1 \".slice/\"'")
    assert outside == "", outside
    taken.root("pkill -u bob -x sleep")


def test_what_is_stopped_with_its_service_is_so_still(taken):
    """A service that ends what it has started ends it in the user's slice; cron's jobs are meant to outlive it."""
    start = "systemd-run --quiet --unit=panel sh -c 'runuser -u bob sleep 1000; true'"
    taken.root(start)
    assert INSIDE.fullmatch(running(taken))
    # PID 1 stops the scope after the service, and answers once that is stopped.
    taken.root("systemctl stop panel; for i in $(seq 100); do pgrep -u bob -x sleep || break; sleep 0.1; done")
    assert taken.root("pgrep -u bob -x sleep; true") == ""
    taken.root(start)
    first = running(taken)
    taken.root("old=$(pgrep -u bob -x sleep); systemctl restart panel; while [ -e /proc/$old ]; do sleep 0.1; done")
    assert INSIDE.fullmatch(running(taken)) and running(taken) != first
    taken.root("systemctl kill -s KILL --kill-whom=main panel; for i in $(seq 100); do pgrep -u bob -x sleep || break; sleep 0.1; done")
    assert taken.root("pgrep -u bob -x sleep; systemctl reset-failed panel 2>&1; true").strip().isdigit() is False
    taken.put({CRON_JOB: "@reboot bob exec sleep 1000\n"})
    taken.root("rm -f /run/crond.reboot; systemctl restart cron")
    assert INSIDE.fullmatch(running(taken))
    taken.root("systemctl stop cron")
    is_left = taken.root("pgrep -u bob -x sleep; true") != ""
    assert is_left == (measure.properties(taken, "cron.service", "KillMode")["KillMode"] == "process")
    taken.root("pkill -u bob -x sleep; systemctl start cron")


def test_it_is_explained(taken):
    said = taken.root("fairslice explain login bob --service cron")
    assert "cron: pam_fairslice.so puts the session into user-1001.slice, as sessions of [logins] says" in said, said
    assert "the session stays" in taken.root("fairslice explain login root --service cron")
    explained = json.loads(taken.root("fairslice explain login bob --service sudo --json"))
    assert (explained["session"], explained["reason"]) == ("placed_here", None)
    taken.put({FRAGMENT: POLICY.replace('"runuser"', '"sshd", "no-such-thing", "passwd"')})
    said = taken.root("fairslice check; true")
    assert "sessions of sshd are in their user's slice anyway" in said, said
    assert "there is no PAM service \"no-such-thing\" here" in said, said
    assert "/etc/pam.d/passwd has no line of pam_fairslice.so" in said, said
