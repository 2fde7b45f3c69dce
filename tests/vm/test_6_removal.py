"""Removal, upgrade and reinstallation: nothing of the admin's is lost, nothing of ours is left."""

import contextlib
import subprocess

import conftest
import measure
import pytest

POLICY = "/etc/fairslice/policy.toml"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"
# Where it matters what the package does, not what apt makes of it: some seconds less.
DPKG = "dpkg --force-confold --install"
PROPERTIES = {
    "user.slice": ["CPUWeight"],
    "user-1000.slice": ["CPUWeight"],
    "foundry.slice": ["CPUWeight", "MemoryMin", "MemoryLow"],
    "foundry-services.slice": ["CPUWeight", "MemoryHigh"],
    "local-fs.service": ["Slice", "OOMScoreAdjust"],
}
DEFAULTS = {
    "user.slice": {"CPUWeight": "[not set]"},
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
    directory = tmp_path_factory.mktemp("older")
    tree, result = directory / "tree", directory / "older.deb"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    lines = ["Version: 0.0.1" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    with open(tree / "etc/fairslice/policy.toml", "a") as policy:
        policy.write("# the default of the release before\n")
    (tree / "DEBIAN" / "md5sums").unlink(missing_ok=True)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, result], check=True, stdout=subprocess.DEVNULL)
    return result


@pytest.mark.thorough
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


def test_removing_it_takes_it_out_of_force_at_once(installed):
    # With something to undo: a weight that the module set for someone who is logged in.
    installed.put({"/etc/fairslice/policy.d/alice.toml": "[logins.user.alice]\ncpu_weight = 321\n"})
    installed.root("systemctl daemon-reload")
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        assert measure.cpu_weight(installed, "user.slice/user-1000.slice") == 321
        assert in_force(installed) != DEFAULTS
        installed.root(f"{APT} remove fairslice 2>&1")
        assert in_force(installed) == DEFAULTS
        measure.make_pid1_write_weights(installed)
        for group in ("user.slice", "user.slice/user-1000.slice", "foundry.slice"):
            assert measure.cpu_weight(installed, group) == 100, group
        assert session.run("echo here") == "here\n"
    # What the admin wrote stays until a purge.
    assert installed.root(f"ls {POLICY} /etc/fairslice/policy.d").split() == [
        POLICY, "/etc/fairslice/policy.d:", "alice.toml",
    ]  # fmt: skip
    assert "pam_fairslice" not in installed.root("cat /etc/pam.d/*")


def test_purging_it_leaves_nothing(installed):
    # On its way out it asks before nothing; the admin's fragment is part of its configuration.
    installed.root(f"{APT} purge fairslice 2>&1")
    left = measure.listing(installed)
    new = {line for line in left - installed.before if "fairslice.deb" not in line}
    assert not new, "left behind"
    assert not installed.before - left, "taken along"
    assert installed.root("dpkg --audit") == ""


@pytest.mark.thorough
def test_without_it_a_login_inherits_sshds_score(installed):
    """What test_3 saw reset; if this fails, that test showed nothing."""
    with measure.sshd_started_with_score(installed, -500):
        assert installed.ssh("alice", "cat /proc/self/oom_score_adj").out == "-500\n"


@pytest.mark.thorough
def test_an_admins_edit_inside_the_managed_block_is_not_lost(installed, package):
    """pam-auth-update then refuses to touch the file; installing has to live with that."""
    edit = "session optional pam_echo.so file=/etc/admins-other-motd"
    path = "/etc/pam.d/common-session"
    installed.root(f"cp -p {path} /root/common-session; sed -i '/^# end of pam-auth-update/i {edit}' {path}")
    measure.install_package(installed, package, DPKG)
    lines = installed.root(f"cat {path}").splitlines()
    assert edit in lines
    assert conftest.ADMINS_LINE in lines
    assert installed.ssh("alice", "echo here").out == "here\n"
    installed.root("dpkg --purge fairslice 2>&1")
    text = installed.root(f"cat {path}")
    assert edit in text.splitlines()
    assert "pam_fairslice" not in text
    installed.root(f"mv /root/common-session {path}")
