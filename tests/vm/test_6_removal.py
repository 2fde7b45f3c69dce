"""Removal, upgrade and reinstallation: nothing of the admin's is lost, nothing of ours is left."""

import contextlib
import re
from pathlib import Path

import conftest
import measure
import packages
import pytest

MANUAL = Path(__file__).parents[2] / "man/pam_fairslice.8"
# What adopt made until version 0.1.0.
ADOPTED = "zz-fairslice-launch.conf"
HEADER = '# Made by "fairslice adopt"; "fairslice release x.service" removes it.'
POLICY = "/etc/fairslice/policy.toml"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"
SU = "/etc/pam.d/su-l"
LINE = "session optional pam_fairslice.so"
# Where it matters what the package does, not what apt makes of it: some seconds less.
DPKG = "dpkg --force-confold --install"
PROPERTIES = {
    "user.slice": ["CPUWeight", "MemoryHigh", "MemoryMax"],
    "user-1000.slice": ["CPUWeight"],
    "foundry.slice": ["CPUWeight", "MemoryMin", "MemoryLow"],
    "foundry-services.slice": ["CPUWeight", "MemoryHigh"],
    "local-fs.service": ["Slice", "OOMScoreAdjust"],
}
DEFAULTS = {
    "user.slice": {"CPUWeight": "[not set]", "MemoryHigh": "infinity", "MemoryMax": "infinity"},
    "user-1000.slice": {"CPUWeight": "[not set]"},
    "foundry.slice": {"CPUWeight": "[not set]", "MemoryMin": "0", "MemoryLow": "0"},
    "foundry-services.slice": {"CPUWeight": "[not set]", "MemoryHigh": "infinity"},
    "local-fs.service": {"Slice": "system.slice", "OOMScoreAdjust": "0"},
}


def in_force(machine) -> dict[str, dict[str, str]]:
    return {unit: measure.properties(machine, unit, *names) for unit, names in PROPERTIES.items()}


@pytest.fixture(scope="module")
def older(package, tmp_path_factory):
    """The package as the release before: a lower version, and another default policy, so that
    dpkg has the choice between that, the new one and the admin's."""
    return packages.repackaged(
        package, tmp_path_factory.mktemp("older"), "0.0.1", "# the default of the release before"
    )


@pytest.mark.thorough("trixie", "forky", "arm64")
def test_an_upgrade_keeps_the_edited_policy_and_it_stays_in_force(installed, older, package):
    measure.install_package(installed, older, DPKG)
    assert "0.0.1" in installed.root("dpkg-query -W fairslice")
    installed.root(f"sed -i 's/^cpu_weight  = 200 .*/cpu_weight = 444/' {POLICY}; systemctl daemon-reload")
    assert in_force(installed)["foundry-services.slice"]["CPUWeight"] == "444"
    edited = installed.root(f"md5sum {POLICY}")

    said = measure.install_package(installed, package, f"{APT} -o Dpkg::Options::=--force-confold install")
    assert "0.0.1" not in installed.root("dpkg-query -W fairslice"), said
    assert installed.root(f"md5sum {POLICY}") == edited
    assert in_force(installed)["foundry-services.slice"]["CPUWeight"] == "444"
    assert installed.root("cat /etc/pam.d/common-session").count("pam_fairslice.so") == 1
    assert installed.ssh("alice", "echo $CARGO_TARGET_DIR").out == f"{measure.TARGET_ROOT}/alice\n"
    installed.root(f"rm -f {POLICY}.dpkg-*")


def let_go(machine) -> None:
    """What removal asks for: nobody needs the module to log in, and no unit's own file has the launcher."""
    manuals = re.search(r"^-?session .*pam_fairslice.*strict$", MANUAL.read_text().replace("\\-", "-"), re.MULTILINE)[0]
    machine.root(
        f"test -e /root/su-l || cp -p {SU} /root/su-l; (grep -v pam_fairslice /root/su-l; echo '{manuals}') > {SU};"
        f" sed -i 's|/usr/bin/fairslice-launch -- ||' {measure.UNITS}/local-*.service; systemctl daemon-reload"
    )


def test_it_stays_while_logins_or_units_depend_on_it(installed):
    pam, unit = SU, f"{measure.UNITS}/local-fs.service"
    installed.root(f"cp -p {pam} /root/su-l; echo 'session required pam_fairslice.so strict' >> {pam}")
    line = installed.root(f"wc -l < {pam}").strip()
    # A deploy script's, from what "systemctl show -p ExecStart" said of an adopted service.
    copied = f"{measure.UNITS}/cron.service.d/zz-deploy.conf"
    command = "/usr/bin/fairslice-launch -- /usr/sbin/cron -f"
    installed.put({copied: f"[Service]\nExecStart=\nExecStart={command}\n"})
    assert f"{copied}:3" in installed.root("fairslice release cron 2>&1; true")
    before = installed.root("md5sum /etc/pam.d/*; ls /usr/bin/fairslice*; systemctl cat local-fs")
    said = installed.root(f"{APT} remove fairslice 2>&1; true").replace("\r", "")
    assert f"\n  {pam}:{line}: session required pam_fairslice.so strict\n" in said
    assert re.search(rf"\n  {unit}:\d+: ExecStart=/usr/bin/fairslice-launch -- /usr/local/bin/load --name fs", said)
    assert f"\n  {copied}:3: ExecStart={command}\n" in said
    installed.root(f"rm -r {measure.UNITS}/cron.service.d")
    assert "ii " in installed.root("dpkg -l fairslice; true"), said
    assert installed.root("md5sum /etc/pam.d/*; ls /usr/bin/fairslice*; systemctl cat local-fs") == before
    # As the message has it; the example of the manual page lets people in without the module.
    let_go(installed)
    assert installed.root("su - alice -c 'echo here'") == "here\n"


def test_removing_it_takes_it_out_of_force_at_once(installed):
    # A second try of this test has a machine of its own.
    let_go(installed)
    # With something to undo: a weight that the module set for someone who is logged in, and launchers of both kinds.
    fragment = "[logins.user.alice]\ncpu_weight = 321\n[service.local-slm]\nlauncher = true\n"
    installed.put({"/etc/fairslice/policy.d/alice.toml": fragment})
    installed.root("systemctl daemon-reload; fairslice adopt --restart local-content; systemctl restart local-slm")
    started = "systemctl show --value -p ExecStart local-slm local-content"
    assert installed.root(started).count("path=/usr/bin/fairslice-launch ") == 2
    # And a slice of the admin's, which the policy has taken over.
    forge, imported = f"{measure.UNITS}/forge.slice", "/etc/fairslice/policy.d/60-imported.toml"
    installed.put({forge: "[Slice]\nIOWeight=55\n"})
    installed.root(f"fairslice import --write; fairslice apply; fairslice import --retire; ! test -e {forge}")
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        assert measure.cpu_weight(installed, "user.slice/user-1000.slice") == 321
        assert in_force(installed) != DEFAULTS
        said = installed.root(f"{APT} remove fairslice 2>&1").replace("\r", "")
        assert in_force(installed) == DEFAULTS
        assert f"{forge}: put back\n" in said
        assert measure.properties(installed, "forge.slice", "IOWeight") == {"IOWeight": "55"}
        installed.root(f"rm {forge} {imported}; systemctl daemon-reload")
        # At once, in the kernel too, and not when some unit is started next.
        for group in ("user.slice", "user.slice/user-1000.slice", "foundry.slice"):
            assert measure.cpu_weight(installed, group) == 100, group
        ceiling = "/sys/fs/cgroup/foundry.slice/foundry-services.slice/memory.high"
        assert installed.root(f"test ! -e {ceiling} || cat {ceiling}").strip() in ("", "max")
        assert not installed.root("ls /run/systemd/system-generators 2>/dev/null || true").strip()
        assert session.run("echo here") == "here\n"
    # What the admin wrote stays until a purge.
    assert installed.root(f"ls {POLICY} /etc/fairslice/policy.d").split() == [
        POLICY, "/etc/fairslice/policy.d:", "alice.toml",
    ]  # fmt: skip
    assert "/etc/pam.d/su-l" in said
    assert installed.root("grep -l pam_fairslice /etc/pam.d/*") == "/etc/pam.d/su-l\n"
    assert installed.root("su - alice -c 'echo here'") == "here\n"
    installed.root("mv /root/su-l /etc/pam.d/su-l")
    assert installed.root("systemctl restart local-fs && systemctl is-active local-fs") == "active\n"
    assert "fairslice-launch" not in installed.root(started)
    assert installed.root("systemctl restart local-slm local-content && systemctl is-active local-slm") == "active\n"


def purge(machine) -> None:
    let_go(machine)
    machine.root(f"mv /root/su-l {SU}; {APT} purge fairslice 2>&1")


def test_purging_it_leaves_nothing(installed):
    # On its way out it asks before nothing; the admin's fragment is part of its configuration.
    purge(installed)
    left = measure.listing(installed)
    new = {line for line in left - installed.before if "fairslice.deb" not in line}
    assert not new, "left behind"
    assert not installed.before - left, "taken along"
    assert installed.root("dpkg --audit") == ""


@pytest.fixture
def removed(installed):
    """The machine without the package and with the services, whichever tests came before."""
    if "installed" in installed.root("dpkg-query -W -f '${db:Status-Status}' fairslice 2>&1; true").split():
        purge(installed)
    return installed


@pytest.mark.thorough("bookworm")
def test_another_root_is_installed_to_from_outside(removed, package):
    """dpkg --root with --force-script-chrootless, as mmdebstrap has it: nothing of the host's is touched."""
    image = "/var/tmp/image"
    dpkg = f"DEBIAN_FRONTEND=noninteractive dpkg --root={image} --force-script-chrootless"
    removed.put({"/var/tmp/fairslice.deb": package.read_bytes()})
    # What the maintainer scripts meet there: PAM's and debconf's files, and a database in which all is installed.
    copied = "etc/pam.d etc/pam.conf etc/debconf.conf usr/share/pam-configs usr/share/pam var/lib/pam var/cache/debconf"
    removed.root(
        f"mkdir -p {image}/etc/systemd/system/x.service.d {image}/var/lib/dpkg/info {image}/var/lib/dpkg/updates;"
        f" cd / && cp -a --parents {copied} var/lib/dpkg/status {image}"
    )
    host = measure.listing(removed)
    removed.root(f"{dpkg} --install /var/tmp/fairslice.deb 2>&1")
    assert removed.root(f"cat {image}/etc/pam.d/common-session").count("pam_fairslice.so") == 1
    removed.root(f"test -d {image}/etc/fairslice/policy.d; cd {image}/etc/systemd/system/x.service.d; echo '{HEADER}' > {ADOPTED}")
    removed.root(f"{dpkg} --purge fairslice 2>&1")
    assert "pam_fairslice" not in removed.root(f"cat {image}/etc/pam.d/*")
    assert removed.root(f"cd {image}; ls -d etc/fairslice etc/systemd/system/x.service.d 2>/dev/null; true") == ""
    assert measure.listing(removed) == host
    removed.root(f"rm -r {image}")


@pytest.mark.thorough("bookworm")
def test_in_a_chroot_it_is_installed_as_on_the_machine_itself(removed, package):
    """As where an image is built: without systemd, /proc and a terminal, and without a word of it but dpkg's."""
    image, layers = "/var/tmp/image", "/var/tmp/layers"
    removed.put({"/var/tmp/fairslice.deb": package.read_bytes()})
    removed.root(
        f"mkdir {image} {layers}; mount -t tmpfs layers {layers}; cd {layers}; mkdir upper work;"
        f" mount -t overlay -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work image {image}"
    )
    host = measure.listing(removed)
    said = removed.root(f"DEBIAN_FRONTEND=noninteractive chroot {image} dpkg --install /var/tmp/fairslice.deb 2>&1 < /dev/null")
    assert "fairslice:" not in said, said
    assert not re.search("warning|error|fail", said, re.IGNORECASE), said
    changed = removed.root(f"cd {layers}/upper; find etc usr var/lib/pam -type f | sort | xargs -d '\\n' md5sum")
    assert measure.listing(removed) == host
    removed.root(f"umount {image} {layers}; rmdir {image} {layers}")
    assert "pam_fairslice.so" in changed and "etc/pam.d/common-session\n" in changed
    measure.install_package(removed, package, DPKG)
    # The backups of pam-auth-update and debconf are of what there was before.
    lines = [line for line in changed.splitlines() if not line.endswith(("-old", "etc/ld.so.cache"))]
    differing = "\n".join(lines) + "\n"
    assert removed.root("cd /; md5sum --check --quiet 2>&1; true", input=differing.encode()) == ""
    removed.root("dpkg --purge fairslice 2>&1")


@pytest.mark.thorough
def test_without_it_a_login_inherits_sshds_score(removed):
    """What test_3 saw reset; if this fails, that test showed nothing."""
    with measure.sshd_started_with_score(removed, -500):
        assert removed.ssh("alice", "cat /proc/self/oom_score_adj").out == "-500\n"


@pytest.mark.thorough
def test_an_admins_edit_inside_the_managed_block_is_not_lost(removed, package):
    """pam-auth-update then refuses to touch the file; installing has to live with that."""
    edit = "session optional pam_echo.so file=/etc/admins-other-motd"
    path = "/etc/pam.d/common-session"
    removed.root(f"cp -p {path} /root/common-session; sed -i '/^# end of pam-auth-update/i {edit}' {path}")
    said = measure.install_package(removed, package, DPKG)
    lines = removed.root(f"cat {path}").splitlines()
    assert edit in lines
    for file in (path, f"{path}-noninteractive"):
        left = f"fairslice: no login through {file} gets its place, for PAM's files were edited by hand; add at its end: {LINE}\n"
        assert left in said, said
    # As it is said.
    removed.root(f"echo '{LINE}' >> {path}")
    assert conftest.ADMINS_LINE in lines
    assert removed.ssh("alice", "echo $CARGO_TARGET_DIR").out == f"{measure.TARGET_ROOT}/alice\n"
    # The line is the administrator's, and is named.
    said = removed.root("dpkg --purge fairslice 2>&1")
    assert re.search(rf"\n  {path}:\d+:{LINE}\n", said), said
    assert removed.root(f"cat {path}").splitlines() == [*lines, LINE]
    removed.root(f"mv /root/common-session {path}")
