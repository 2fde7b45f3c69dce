"""From an earlier release, as administrators have it in use: adopted services, an open login, an edited policy.

    FAIRSLICE_EARLIER=fairslice_0.1.0-1_amd64.deb   that release's package
"""

import contextlib
import os
from pathlib import Path

import measure
import packages
import pytest
from machine import Machine, Session

POLICY = "/etc/fairslice/policy.toml"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -y -o Dpkg::Options::=--force-confold install"
PLAIN = "local-plain"
SERVICES = ["local-fs", "local-doorman", "local-slm", "local-content", PLAIN]
# What a login has of its own, and who it is.
LOGIN = "echo $CARGO_TARGET_DIR; cat /proc/self/oom_score_adj; sed s,.*/user.slice,, /proc/self/cgroup"


@pytest.fixture(scope="module")
def in_use(machine):
    """The earlier release, a service that it has adopted, an edited policy, and a login."""
    machine.apt = measure.install_package(machine, Path(os.environ["FAIRSLICE_EARLIER"]))
    measure.install_services(machine)
    machine.put({f"{measure.UNITS}/{PLAIN}.service": "[Service]\nExecStart=/usr/bin/sleep infinity\n"})
    machine.root(
        f"sed -i 's/^cpu_weight  = 200 .*/cpu_weight = 222/' {POLICY}; systemctl daemon-reload; systemctl start {PLAIN};"
        f" fairslice adopt --restart {PLAIN}; fairslice apply; true"
    )
    with contextlib.closing(machine.session("alice")) as session:
        session.run("true")
        yield machine, session


def state(machine: Machine, session: Session) -> tuple[dict, str, str]:
    """What an upgrade must not touch: main processes and where they are, what a login has, the policy."""
    weights = "cat /sys/fs/cgroup/foundry.slice/cpu.weight /sys/fs/cgroup/user.slice/user-1000.slice/cpu.weight"
    return measure.services(machine, SERVICES), session.run(LOGIN), machine.root(f"md5sum {POLICY}; {weights}")


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory):
    """This package as a later version, whatever version the tree has."""
    return packages.repackaged(package, tmp_path_factory.mktemp("newer"), "99.0", "# the default of a later release")


def test_what_runs_goes_on(in_use, newer):
    machine, session = in_use
    assert "99.0" not in machine.root("dpkg-query -W fairslice")
    before = state(machine, session)
    assert all(service and service.slice == "foundry-services.slice" for service in before[0].values()), before
    said = measure.install_package(machine, newer, APT)
    assert "99.0" in machine.root("dpkg-query -W fairslice"), said
    assert state(machine, session) == before, said
    # The next login, by the module that has come, has what the one before has.
    assert machine.ssh("alice", LOGIN).out.splitlines()[:2] == before[1].splitlines()[:2]
    assert machine.root("systemctl --failed --no-legend; dpkg --audit") == ""


def test_what_is_to_be_done_is_said_and_works(in_use):
    """The copy of a command that the earlier release has left is all that there is to do."""
    machine, _ = in_use
    found = machine.root("fairslice doctor; true")
    assert {line.split()[0] for line in found.splitlines() if line.startswith("FS")} == {"FS060"}, found
    fix = next(line.split(maxsplit=1)[1] for line in found.splitlines() if line.split()[:1] == ["fix"])
    machine.root(fix)
    assert machine.root("fairslice doctor; echo exit $?").endswith("exit 0\n")
    assert machine.root("fairslice apply") == "nothing to change\n"
    started = machine.root(f"systemctl restart {PLAIN}; systemctl show --value -p ExecStart {PLAIN}")
    assert "path=/usr/bin/fairslice-launch " in started
    assert measure.services(machine, [PLAIN])[PLAIN].slice == "foundry-services.slice"


def test_nothing_of_either_is_left(in_use):
    machine, session = in_use
    session.close()
    machine.root(
        f"fairslice release --all; sed -i 's|/usr/bin/fairslice-launch -- ||' {measure.UNITS}/local-*.service;"
        " systemctl daemon-reload; DEBIAN_FRONTEND=noninteractive apt-get -y purge fairslice 2>&1"
    )
    new = {line for line in measure.listing(machine) - machine.before if "fairslice.deb" not in line}
    assert not new, "left behind"
    assert machine.root(f"ls {measure.UNITS}/*.d/*fairslice* 2> /dev/null; true") == ""
