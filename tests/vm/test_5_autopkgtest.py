"""The package's own test, debian/tests, where nothing is but the package."""

from pathlib import Path

import measure
import pytest
from image import RELEASES, base_image
from machine import Machine

# The machine's own key lets everybody in; the test has one in a home, as Debian comes.
SSHD = "/etc/ssh/sshd_config.d/10-vm.conf"
TEST = Path(__file__).parents[2] / "debian/tests/in-force"


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_package_brings_finds_it_in_force(release, package):
    with Machine(base_image(release)) as machine:
        measure.install_package(machine, package)
        machine.root(f"sed -i 's|^AuthorizedKeysFile .*|& .ssh/authorized_keys|' {SSHD}; systemctl reload ssh")
        machine.put({"/var/tmp/in-force": TEST.read_bytes()}, mode=0o755)
        machine.root("/var/tmp/in-force 2>&1")
