"""Fixtures: the package under test, and one machine for each Debian release.

The files test_1_… to test_6_… are one story told on the same machine, in order: install, services,
logins, broken policies, attacks, boots, removal. A machine lives from the first to the last of them.

    FAIRSLICE_DEB=target/debian/fairslice_0.1.0_amd64.deb /usr/bin/python3 -m pytest tests/vm
    … -k trixie                     one release only
    … -k forky                      Debian testing: what REDUCED names; with an arm64 package also -k arm64
    … -k "trixie and not random_trees"  without the slowest test
    FAIRSLICE_PART=3/12 …           the third twelfth of all but ALWAYS, which each release has in every other one
"""

import contextlib
import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import measure
import pytest
from _pytest.runner import runtestprotocol
from image import base_image, cache_directory
from machine import Machine, die_by_exception

# What an admin may have added to a PAM file before the package came.
ADMINS_LINE = "session optional pam_echo.so file=/etc/admins-own-motd"

# What depends on our code alone, or on what both releases share, is tested on this one only, or on the other
# where the mark says so: both have as much to do then.
THOROUGH = "trixie"

# What a newer systemd or kernel may change, or another architecture: tried on Debian testing, and on arm64.
REDUCED = {"test_1_install", "test_3_headcount", "test_3_logins", "test_5_boot", "test_6_removal"}

# In each part, on one of the releases in turn, in even parts the first: install, log in, boot, remove.
ALWAYS = {"test_1_install", "test_3_logins", "test_5_boot", "test_6_removal"}
TURNS = ["bookworm", "trixie"]

# What failed at first, and whether it passed the second time; and with how many a run has other reasons.
AGAIN: dict[str, tuple[str, bool]] = {}
MOST_AGAIN = 5


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: no test of another run goes on at the same time")
    config.addinivalue_line("markers", f"thorough(release={THOROUGH}, …): on these only, nothing in it depends on it")
    die_by_exception()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """A test that failed is run once more, on a machine that is booted for it.

    Two emulated CPUs beside another machine's stand still for seconds now and then, which no bound in a test or in
    the code it tries allows for. What then passes is said at the end of the run, each time: it may be a race of ours.

    pytest-rerunfailures would do that, but for its version 10.2, Debian 12's, which ends the whole run at
    some failures; and it keeps the machine.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report.longreprtext for report in reports if report.failed]
    if failed and "machine" in item.fixturenames and len(AGAIN) < MOST_AGAIN:
        with contextlib.suppress(Exception):
            item.session._setupstate.teardown_exact(None)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        AGAIN[item.nodeid] = failed[0], not any(report.failed for report in reports)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    # Last, and not all of it: what keeps the end of a long output only is to have the reason too.
    for name, (text, passed) in AGAIN.items():
        outcome = "passed" if passed else "failed as well"
        terminalreporter.section(f"{name} was run again, on a new machine, and {outcome}; at first")
        terminalreporter.line("\n".join(text.splitlines()[-60:]))


def release_of(item) -> str | None:
    return getattr(item, "callspec", None) and item.callspec.params.get("machine")


def of_part(items: list) -> list:
    """FAIRSLICE_PART=2/3: what is tried in each part, and the second third of the rest.

    A module stays in one piece, for its tests may need each other, but for two long ones.
    """
    part, parts = map(int, os.environ.get("FAIRSLICE_PART", "1/1").split("/"))

    def is_always(item) -> bool:
        return item.module.__name__ in ALWAYS and item.get_closest_marker("thorough") is None

    def piece(item) -> str:
        name = item.module.__name__
        return {"test_2_services": item.originalname, "test_4_fixes": item.name}.get(name, name)

    def is_divided(item) -> bool:
        return "package" in item.fixturenames and not is_always(item)

    def is_of_part(item) -> bool:
        if is_divided(item):
            return pieces.index(piece(item)) % parts == part - 1
        release = release_of(item)
        return parts == 1 or release not in TURNS or release == TURNS[part % 2]

    pieces = sorted({piece(item) for item in items if is_divided(item)})
    return list(filter(is_of_part, items))


def is_wanted(item) -> bool:
    release = release_of(item)
    marker = item.get_closest_marker("thorough")
    if release in ("forky", "arm64") and item.module.__name__ not in REDUCED:
        return False
    return release is None or marker is None or release in (marker.args or (THOROUGH,))


def pytest_collection_modifyitems(items):
    """Without the package, one clear line instead of a failure of each test."""
    items[:] = of_part(list(filter(is_wanted, items)))
    if any("package" in item.fixturenames for item in items):
        path = os.environ.get("FAIRSLICE_DEB", "")
        if not Path(path).is_file():
            what = f"FAIRSLICE_DEB={path}: no such file" if path else "FAIRSLICE_DEB is not set"
            pytest.exit(f"{what}: make deb, then FAIRSLICE_DEB=target/debian/fairslice_….deb", returncode=1)


@pytest.fixture(autouse=True)
def turn(request):
    """Several runs go on at the same time, one for each release; a test that measures has the CPUs alone."""
    alone = request.node.get_closest_marker("alone") is not None
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "next", "w") as next, open(cache / "turn", "w") as turn:
        # Whoever waits to be alone is the next.
        fcntl.flock(next, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(next, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def package() -> Path:
    return Path(os.environ["FAIRSLICE_DEB"]).resolve()


@pytest.fixture(scope="session", params=["trixie", "bookworm", "forky", "arm64"])
def machine(request, package):
    """Booted, with an admin's edit of common-session, and nothing of ours on it yet."""
    with Machine(base_image(request.param)) as machine:
        machine.root(f"echo '{ADMINS_LINE}' >> /etc/pam.d/common-session")
        machine.before = measure.listing(machine)
        machine.doctor = doctor_on_debian(machine, package)
        yield machine


def doctor_on_debian(machine: Machine, package: Path) -> str:
    """What doctor says of Debian as it comes: the command alone, which leaves nothing."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["dpkg-deb", "--extract", package, directory], check=True)
        machine.put({"/tmp/fairslice": (Path(directory) / "usr/bin/fairslice").read_bytes()}, mode=0o755)
    return machine.root("/tmp/fairslice doctor --no-policy; echo exit $?; rm /tmp/fairslice")


@pytest.fixture(scope="session")
def installed(machine, package):
    """The machine with the package and the four services on it. apt's own words: .apt"""
    machine.apt = measure.install_package(machine, package)
    measure.install_services(machine)
    return machine
