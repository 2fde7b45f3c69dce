"""Logins where logind is not: PID 1 is asked to place them, and without systemd the module does it itself."""

import contextlib
import re
import time

import measure
import pytest

FRAGMENT = "/etc/fairslice/policy.d/50-without-logind.toml"
POLICY = "[logins]\ntotal_weight = 150\n[logins.user.alice]\ncpu_weight = 70\n"
SLICE = "user.slice/user-1000.slice"
ASK = "cut -d: -f3 /proc/self/cgroup"


@pytest.fixture(scope="module")
def declared(installed):
    installed.put({FRAGMENT: POLICY})
    installed.root("systemctl daemon-reload")
    # What an earlier test's login left is no part of this.
    installed.root(f"systemctl stop {SLICE.split('/')[1]}")
    yield installed
    installed.root(f"rm {FRAGMENT}; systemctl daemon-reload")


@pytest.fixture
def no_logind(declared):
    declared.root("systemctl mask --runtime --now --quiet systemd-logind && rm -r /run/systemd/seats")
    yield declared
    declared.root("systemctl unmask --runtime --quiet systemd-logind && systemctl start systemd-logind")
    # logind does not know again who was logged in, and ends those sessions some seconds later: root's, too.
    declared.connect()


def scope_of(session) -> str:
    cgroup = session.run(ASK).strip()
    found = re.fullmatch(rf"/{SLICE}/(fairslice-login-\d+\.scope)", cgroup)
    assert found, cgroup
    return found.group(1)


def await_state(machine, unit: str, state: str) -> None:
    """A session is over some time after ssh has ended."""
    deadline = time.monotonic() + 20
    while (now := machine.root(f"systemctl is-active {unit}", check=False).strip()) != state:
        assert time.monotonic() < deadline, f"{unit} is {now}"
        time.sleep(0.3)


def test_pid1_places_a_login_and_removes_it(no_logind):
    machine, mark = no_logind, measure.journal_mark(no_logind)
    with contextlib.closing(machine.session("alice")) as first:
        scope = scope_of(first)
        assert measure.cpu_weight(machine, SLICE) == 70
        shown = measure.properties(machine, scope, "Slice", "TasksMax", "SendSIGHUP", "CollectMode", "After")
        assert shown["After"].split().count("systemd-user-sessions.service") == 1
        del shown["After"]
        assert shown == {
            "Slice": "user-1000.slice", "TasksMax": "infinity", "SendSIGHUP": "yes",
            "CollectMode": "inactive-or-failed",
        }  # fmt: skip
        status = machine.root(f"systemctl status --no-pager {scope}")
        assert "Session of alice by sshd, placed by pam_fairslice" in status
        assert "man:pam_fairslice(8)" in status
        with contextlib.closing(machine.session("alice")) as second:
            other = scope_of(second)
            assert other != scope
            second.run("sleep 4711 > /dev/null 2>&1 &")
        # What runs on after its login keeps the scope, as it keeps logind's.
        machine.root(f"systemctl is-active {other} && pkill -f 'sleep 4711'")
        await_state(machine, other, "inactive")
        assert scope_of(first) == scope
    await_state(machine, scope, "inactive")
    # Nothing is left in the slice, and so PID 1 stops it, as logind's (user-.slice.d/10-defaults.conf).
    await_state(machine, "user-1000.slice", "inactive")
    assert machine.root("systemctl list-units --all --no-legend 'fairslice-login-*'") == ""
    assert not measure.journal_since(machine, mark, "pam_fairslice(")


@pytest.mark.thorough("bookworm")
def test_logind_and_pid1_place_logins_of_one_user(declared):
    """pam_systemd is missing for the first, and there again for the second."""
    with contextlib.ExitStack() as sessions:
        declared.root("sed -i.kept '/pam_systemd.so/ s/^/#/' /etc/pam.d/common-session")
        try:
            first = sessions.enter_context(contextlib.closing(declared.session("alice")))
            scope = scope_of(first)
            # Stopping that service has to reach it, and so su is not taken out.
            su = declared.root(f"systemd-run --quiet --wait --pipe --unit k-su su alice -c '{ASK}'")
            assert su == "/system.slice/k-su.service\n"
        finally:
            declared.root("mv /etc/pam.d/common-session.kept /etc/pam.d/common-session")
        with contextlib.closing(declared.session("alice")) as second:
            cgroup = second.run(ASK).strip()
            assert re.fullmatch(rf"/{SLICE}/session-.+\.scope", cgroup), cgroup
        await_state(declared, cgroup.rsplit("/", 1)[1], "inactive")
        assert scope_of(first) == scope
    await_state(declared, scope, "inactive")


@pytest.mark.thorough("bookworm")
def test_without_systemd_a_login_is_placed_and_nothing_is_left(declared):
    """A container: its own cgroup namespace, processes in its root, no /run/systemd/system."""
    mark = measure.journal_mark(declared)
    declared.put({"/srv/container/begin": BEGIN, "/srv/container/logins": CONTAINER})
    answer = declared.root(
        "systemd-run --quiet --wait --pipe -p Delegate=yes -p Type=exec --unit k-container"
        " bash /srv/container/begin 2>&1; rm -r /srv/container"
    )
    lines = [re.sub(r"fairslice-login-\d+", "fairslice-login-N", line) for line in answer.splitlines()]
    alice, root = f"/{SLICE}/fairslice-login-N.scope", "/user.slice/user-0.slice/fairslice-login-N.scope"
    assert lines == [
        f"held {alice}",
        "weights 150 70",
        f"beside it {alice}",
        "left scopes 1 records 1",
        "left scopes 0 records 0",
        f"root {root}", f"su inside {root}", f"root again {root}",
        "left scopes 0 records 0",
        "su in a service /ledger.service",
        f"a job that stays {alice}",
        "left scopes 1 records 1",
        "left scopes 0 records 0",
        "user.slice is gone",
        "read-only /init.scope",
    ], answer  # fmt: skip
    (said,) = measure.journal_since(declared, mark, "pam_fairslice(")
    assert "user alice: not placed in user-1000.slice: " in said
    assert "Read-only file system" in said


# As a container manager does: nobody from outside of its PID namespace is in the container's cgroup,
# and the controllers are enabled for it.
BEGIN = """
cd /sys/fs/cgroup/system.slice/k-container.service
mkdir manager container
echo $$ > manager/cgroup.procs
echo +cpu +memory +pids +io > cgroup.subtree_control
inside='echo 0 > container/cgroup.procs; cd /; exec unshare --cgroup --mount --mount-proc bash /srv/container/logins'
unshare --pid --fork bash -c "$inside"
"""

CONTAINER = rf"""
set -e
mount --bind /run/systemd/journal /mnt
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
mount --move /mnt /run/systemd/journal
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd /sys/fs/cgroup
# No systemd has put the policy in force.
fairslice apply > /run/applied 2>&1 || cat /run/applied
ask='{ASK}'
left() {{ echo left scopes $(find -name 'fairslice-login-*' | wc -l) records $(ls /run/fairslice/sessions | wc -l); }}

mkfifo /run/held /run/go
chmod 666 /run/held /run/go
su - alice -c "$ask > /run/held; read < /run/go" &
echo held $(cat /run/held)
echo weights $(cat user.slice/cpu.weight {SLICE}/cpu.weight)
echo beside it $(su - alice -c "$ask")
left
echo > /run/go
wait
left

su root -c "echo root \$($ask); su alice -c 'echo su inside \$($ask)'; echo root again \$($ask)"
left

mkdir ledger.service
echo su in a service $(sh -c "echo 0 > ledger.service/cgroup.procs; su alice -c '$ask'")

echo a job that stays $(su alice -c "$ask; sleep 4711 > /dev/null 2>&1 &")
left
kill $(cat {SLICE}/*/cgroup.procs)
while grep -q . {SLICE}/*/cgroup.procs; do sleep 0.1; done
su -s /bin/sh bob -c true
left
[ -e user.slice ] || echo user.slice is gone

mount -o remount,ro,bind /sys/fs/cgroup
echo read-only $(su alice -c "$ask")
"""
