"""Every way into the machine, and what it comes to: the table in pam_fairslice(8), WAYS IN, row by row."""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import measure
import pytest
from machine import Machine, Session, child, end

MANUAL = Path(__file__).resolve().parents[2] / "man" / "pam_fairslice.8"

# No value that a login would have without us.
POLICY = """
[logins.user.alice]
cpu_weight = 150
oom_score_adj = 50
[logins.user.bob]
cpu_weight = 250
oom_score_adj = 60
"""

# What a process is in, and what it was started with: this one, or the one that root names.
LOOK = """#!/bin/sh
pid=${1:-$$}
IFS=: read -r _ _ cgroup < /proc/$pid/cgroup
read -r score < /proc/$pid/oom_score_adj
slice=${cgroup#/user.slice/} weight=none
[ "$slice" = "$cgroup" ] || read -r weight < "/sys/fs/cgroup/user.slice/${slice%%/*}/cpu.weight"
directory=$(grep -z ^CARGO_TARGET_DIR= /proc/$pid/environ)
directory=${directory#*=}
printf '%s\\n' "$cgroup" "$weight" "$score" "$directory" "$(stat -c '%U:%G %a' "$directory" 2> /dev/null)" > /tmp/seen.$$
mv /tmp/seen.$$ /tmp/seen
"""

# Shell: waits until somebody has looked, at most 20 s.
UNTIL_SEEN = "for i in $(seq 200); do [ -e /tmp/seen ] && break; sleep 0.1; done"

# getty and login as at a keyboard, but for the password.
CONSOLE = "/run/systemd/system/getty@tty3.service.d/bob.conf"
AUTOLOGIN = "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin bob --noclear tty3 linux\n"

# A service that bob's systemd starts by itself.
BOBS_UNITS = "/home/bob/.config/systemd/user"
STARTED_BY_ITSELF = {
    f"{BOBS_UNITS}/look.service": "[Service]\nExecStart=/usr/local/bin/look\n",
    f"{BOBS_UNITS}/default.target.d/look.conf": "[Unit]\nWants=look.service\n",
}

SUDOERS = "/etc/sudoers.d/alice"
CRON_JOB = "/etc/cron.d/bob"
FIFO = "/home/alice/fifo"

PLACES = {
    "alice's session": "/user.slice/user-1000.slice/session-*.scope",
    "bob's session": "/user.slice/user-1001.slice/session-*.scope",
    "root's session": "/user.slice/user-0.slice/session-*.scope",
    "user@1000.service": "/user.slice/user-1000.slice/user@1000.service/app.slice/*.service",
    "user@1001.service": "/user.slice/user-1001.slice/user@1001.service/app.slice/*.service",
    "cron.service": "/system.slice/cron.service",
    "atd.service": "/system.slice/atd.service",
    "the service": "/system.slice/run-*.service",
}
DIRECTORIES = {
    "alice's": [f"{measure.TARGET_ROOT}/alice", "alice:alice 700"],
    "bob's": [f"{measure.TARGET_ROOT}/bob", "bob:bob 700"],
    "none": ["", ""],
}


@dataclass(frozen=True)
class Lab:
    machine: Machine
    alice: Session  # one of hers, open all the time


# Lets someone in, who runs `look`, or is looked at. What was said on the way is for a failure's message.
Enter = Callable[[Lab], str | None]


def in_session(command: str) -> Enter:
    """In alice's open session. She may sudo; bob's and root's password is `pw`."""
    # Its shell reads commands from the stdin that a command would get.
    return lambda lab: lab.alice.run(f"( {command} ) < /dev/null")


def ssh(command: str) -> Enter:
    """Alice once more, beside her open session."""
    return lambda lab: str(lab.machine.ssh("alice", command))


def ssh_with_terminal(lab: Lab) -> str:
    return str(lab.machine.ssh("alice", "tty && look", terminal=True))


def upload(words: Callable[[str], list[str]], batch: str = "") -> Enter:
    """Uploads an empty file to a fifo: whoever writes there waits until it is read, and can be looked at."""

    def enter(lab: Lab) -> None:
        with tempfile.NamedTemporaryFile() as empty:
            command, *rest = words(empty.name)
            client = child([command, *lab.machine.ssh_options("alice"), *rest], stdin=subprocess.PIPE)
            try:
                client.stdin.write(batch.format(empty=empty.name).encode())
                client.stdin.close()
                lab.machine.root(f"{when('pgrep -u alice -x sftp-server')}; look $pid; cat {FIFO}")
                assert client.wait(timeout=60) == 0
            finally:
                end(client)

    return enter


def root(script: str) -> Enter:
    return lambda lab: lab.machine.root(script)


def when(found: str) -> str:
    """Shell: waits until a command finds a process, at most 20 s; its number is then in $pid."""
    return f"for i in $(seq 200); do pid=$({found}) && break; sleep 0.1; done"


def tmux_after_logout(lab: Lab) -> None:
    lab.machine.ssh("alice", "tmux new-session -d 'sleep 1000'")
    lab.machine.root(
        "pid=$(pgrep -u alice -x sleep); id=$(sed 's/.*session-//; s/[.]scope//' /proc/$pid/cgroup);"
        " until loginctl show-session -p State $id | grep -q closing; do sleep 0.1; done; look $pid; kill $pid"
    )


def lingering_service(lab: Lab) -> None:
    lab.machine.put(STARTED_BY_ITSELF)
    # His systemd may be there still, from a login some seconds ago: then it would not start anew.
    lab.machine.root(
        "systemctl stop user@1001; loginctl enable-linger bob; systemctl start user@1001;"
        f" {UNTIL_SEEN}; rm -r /home/bob/.config"
    )


def cron_job(lab: Lab) -> None:
    lab.machine.put({CRON_JOB: "@reboot bob /usr/local/bin/look\n"})
    # A cron that does not know that it ran since the boot runs the job at once: no minute to wait for.
    lab.machine.root("rm /run/crond.reboot; systemctl restart cron")


@dataclass(frozen=True)
class Way:
    """One row, in the manual page's words."""

    name: str
    place: str
    weight: str
    directories: str
    score: str
    enter: Enter
    since: str = "bookworm"


AS_SERVICE = "systemd-run --quiet --collect"

WAYS = [
    Way("ssh", "alice's session", "150", "alice's", "50", in_session("look")),
    Way("ssh, a second session", "alice's session", "150", "alice's", "50", ssh("look")),
    Way("ssh -t", "alice's session", "150", "alice's", "50", ssh_with_terminal),
    Way("sftp", "alice's session", "150", "alice's", "50",
        upload(lambda _empty: ["sftp", "-b", "-", "127.0.0.1"], "put {empty} " + FIFO)),
    Way("scp", "alice's session", "150", "alice's", "50",
        upload(lambda empty: ["scp", empty, f"127.0.0.1:{FIFO}"])),
    Way("tmux, after logout", "alice's session", "150", "alice's", "50", tmux_after_logout),
    Way("machinectl shell alice@", "alice's session", "150", "alice's", "50",
        root("script -qec 'machinectl shell alice@ /usr/local/bin/look' /dev/null")),
    Way("systemd --user", "user@1000.service", "150", "alice's", "200", in_session("systemd-run --user look")),
    Way("lingering bob", "user@1001.service", "250", "bob's", "200", lingering_service),
    Way("console", "bob's session", "250", "bob's", "60",
        root(f"systemctl start getty@tty3; {when('pgrep -u bob -t tty3 bash')}; look $pid; systemctl stop getty@tty3")),
    Way("sudo run0 -u bob", "bob's session", "250", "bob's", "60", in_session("sudo run0 -u bob look"), "trixie"),
    Way("sudo -u bob", "alice's session", "150", "bob's", "50", in_session("sudo -u bob look")),
    Way("sudo -E -u bob", "alice's session", "150", "alice's", "50", in_session("sudo -E -u bob look")),
    Way("sudo", "alice's session", "150", "none", "50", in_session("sudo look")),
    Way("sudo -i", "alice's session", "150", "none", "50", in_session("sudo -i look")),
    Way("su bob", "alice's session", "150", "bob's", "50", in_session("echo pw | su bob -c look")),
    Way("su - bob", "alice's session", "150", "bob's", "50", in_session("echo pw | su - bob -c look")),
    Way("su", "alice's session", "150", "alice's", "50", in_session("echo pw | su -c look")),
    Way("su -", "alice's session", "150", "none", "50", in_session("echo pw | su - -c look")),
    Way("root: su bob", "root's session", "100", "bob's", "0", root("su bob -c look")),
    Way("service: su bob", "bob's session", "250", "bob's", "60", root(f"{AS_SERVICE} su bob -c look")),
    Way("service: runuser -u bob", "the service", "none", "none", "0", root(f"{AS_SERVICE} runuser -u bob look")),
    Way("cron job of bob", "cron.service", "none", "bob's", "0", cron_job),
    Way("at job of alice", "atd.service", "none", "alice's", "0", in_session("echo look | at now")),
]  # fmt: skip


@pytest.fixture(scope="module")
def lab(installed):
    installed.put({"/usr/local/bin/look": LOOK}, mode=0o755)
    installed.put({
        "/etc/fairslice/policy.d/50-ways-in.toml": POLICY,
        SUDOERS: "alice ALL=(ALL) NOPASSWD: ALL\n",
        CONSOLE: AUTOLOGIN,
    })  # fmt: skip
    installed.root(
        "echo 'bob:pw\nroot:pw' | chpasswd; systemctl daemon-reload; systemctl start atd;"
        f" mkfifo {FIFO}; chown alice {FIFO}; journalctl --sync; journalctl -n 1 --cursor-file=/tmp/cursor"
    )
    with contextlib.closing(installed.session("alice")) as alice:
        yield Lab(installed, alice)
    installed.root(
        f"rm -rf /usr/local/bin/look /etc/fairslice/policy.d/50-ways-in.toml {SUDOERS} {CONSOLE} {CRON_JOB} {FIFO}"
        " /tmp/cursor; loginctl disable-linger bob; fairslice apply"
    )


def seen(machine: Machine) -> tuple[list[str], list[str]]:
    """What `look` wrote, waited for, and the module's lines in the journal since the last time."""
    answer = machine.root(
        f"{UNTIL_SEEN}; cat /tmp/seen; rm /tmp/seen; echo @;"
        " journalctl --sync; journalctl -o short --cursor-file=/tmp/cursor | grep pam_fairslice",
        check=False,
    )
    looked, _, logged = answer.partition("@\n")
    return looked.splitlines(), logged.splitlines()


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_way_in_gets_what_the_manual_page_says(lab, way):
    if lab.machine.image.name < way.since:
        pytest.skip(f"not in {lab.machine.image.name}")
    said = way.enter(lab)
    looked, logged = seen(lab.machine)
    assert looked, f"nobody looked: {said}"
    cgroup, *rest = looked
    assert fnmatch(cgroup, PLACES[way.place]), cgroup
    assert rest == [way.weight, way.score, *DIRECTORIES[way.directories]]
    assert logged == []


def test_the_table_of_the_manual_page_has_the_same_rows():
    section = MANUAL.read_text().partition(".SH WAYS IN")[2]
    table = re.search(r"^_\n(.*?)^\.TE$", section, flags=re.MULTILINE | re.DOTALL)
    assert table
    rows = [line.replace("\\-", "-").split("\t") for line in table[1].splitlines()]
    assert rows == [[way.name, way.place, way.weight, way.directories, way.score] for way in WAYS]
