"""Fixtures: the package under test, and one machine for each Debian release.

The files test_1_… to test_6_… are one story told on the same machine, in order: install, services,
logins, broken policies, boots, removal. A machine lives from the first to the last of them.

    FAIRSLICE_DEB=target/debian/fairslice_0.1.0_amd64.deb /usr/bin/python3 -m pytest tests/vm
    … -k trixie                     one release only
    … -k "trixie and not 60"        without the slowest test
"""

import fcntl
import os
from pathlib import Path

import measure
import pytest
from image import RELEASES, base_image, cache_directory
from machine import Machine, die_by_exception

# What an admin may have added to a PAM file before the package came.
ADMINS_LINE = "session optional pam_echo.so file=/etc/admins-own-motd"

# What depends on our code alone, or on what both releases share, is tested on this one only.
THOROUGH = "trixie"


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: no test of another run goes on at the same time")
    config.addinivalue_line("markers", f"thorough: on {THOROUGH} only, nothing in it depends on the release")
    die_by_exception()


def is_wanted(item) -> bool:
    release = getattr(item, "callspec", None) and item.callspec.params.get("machine")
    return release in (None, THOROUGH) or item.get_closest_marker("thorough") is None


def pytest_collection_modifyitems(items):
    """Without the package, one clear line instead of a failure of each test."""
    items[:] = filter(is_wanted, items)
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


@pytest.fixture(scope="session", params=["trixie", "bookworm"])
def machine(request, package):
    """Booted, with an admin's edit of common-session, and nothing of ours on it yet."""
    assert request.param in RELEASES
    with Machine(base_image(request.param)) as machine:
        machine.root(f"echo '{ADMINS_LINE}' >> /etc/pam.d/common-session")
        machine.before = measure.listing(machine)
        yield machine


@pytest.fixture(scope="session")
def installed(machine, package):
    """The machine with the package and the four services on it. apt's own words: .apt"""
    machine.apt = measure.install_package(machine, package)
    measure.install_services(machine)
    return machine
