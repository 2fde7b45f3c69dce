"""Private directories: what is old goes after the daily run of systemd-tmpfiles, but not under a running
build."""

import contextlib

import measure
import pytest

pytestmark = pytest.mark.thorough("bookworm")

ROOT = measure.TARGET_ROOT
CLEAN = "sleep 1.1; systemctl start systemd-tmpfiles-clean"
FRAGMENT = "/etc/fairslice/policy.d/60-private-dirs.toml"
DROP_IN = "/run/systemd/generator/systemd-tmpfiles-clean.service.d/40-fairslice.conf"
# What a build leaves; all of it is "old" after a second.
BUILT = ["debug/.cargo-lock", "debug/deps/old"]


def files(machine, directory: str) -> list[str]:
    """The files and links below a directory, by their paths in it."""
    return machine.root(f"cd {directory} && find . ! -type d -printf '%P\\n' | sort").split()


def built(machine, user: str) -> None:
    """What a build of the user's has left."""
    machine.root(f"cd {ROOT}/{user} && runuser -u {user} -- sh -c 'mkdir -p debug/deps && touch {' '.join(BUILT)}'")


@contextlib.contextmanager
def build(machine, user: str):
    """A build of the user's that goes on: cargo holds its lock from beginning to end."""
    with contextlib.closing(machine.session(user)) as session:
        session.run("exec 9< $CARGO_TARGET_DIR/debug/.cargo-lock; flock 9; cd /")
        yield


def test_without_max_age_nothing_is_in_the_way(installed):
    assert installed.root(f"ls {DROP_IN} 2>/dev/null || true") == ""


def test_a_workspace_that_a_team_shares_works_at_the_first_login(installed):
    """2775 and the group's, with the policy as it is packaged; bob is in no such group."""
    workspace = ROOT.rpartition("/")[0]
    shared = f"chgrp foundry {workspace} {ROOT}; chmod 2775 {workspace} {ROOT}"
    try:
        installed.root(f"rm -rf {ROOT}/*; {shared}; usermod -aG foundry alice; getent group foundry")
        assert installed.ssh("alice", "echo $CARGO_TARGET_DIR; touch $CARGO_TARGET_DIR/x").out == f"{ROOT}/alice\n"
        assert installed.root(f"stat -c '%U %G %a' {ROOT}/alice") == "alice alice 700\n"
        assert installed.ssh("bob", "echo $CARGO_TARGET_DIR").out == "\n"
        said = installed.root("fairslice explain login bob")
        assert f"bob cannot make a directory in {ROOT}, which others can change: usermod -aG foundry bob" in said
        installed.root("usermod -aG foundry bob")
        assert installed.ssh("bob", "echo $CARGO_TARGET_DIR").out == f"{ROOT}/bob\n"
        # Another group, which the policy does not know: the remedy that doctor names is done.
        installed.root(f"groupadd makers; usermod -aG makers alice; chgrp makers {workspace} {ROOT}; chmod 2775 {workspace} {ROOT}")
        assert installed.ssh("alice", "echo $CARGO_TARGET_DIR").out == "\n"
        assert "add trusted_groups to [private_dir.CARGO_TARGET_DIR]" in installed.root("fairslice doctor; true")
        installed.put({FRAGMENT: f'[private_dir.CARGO_TARGET_DIR]\npath = "{ROOT}/{{user}}"\ntrusted_groups = ["makers"]\n'})
        installed.root("fairslice apply >&2")
        assert installed.ssh("alice", "echo $CARGO_TARGET_DIR").out == f"{ROOT}/alice\n"
        assert "FS052" not in installed.root("fairslice doctor; true")
    finally:
        installed.root(
            f"rm -rf {FRAGMENT} {ROOT}/*; chgrp root {workspace} {ROOT}; chmod 00755 {workspace} {ROOT}; groupdel makers;"
            " gpasswd -d alice foundry; gpasswd -d bob foundry; fairslice apply >&2; true"
        )


@pytest.fixture(scope="module")
def policy(installed):
    """A max_age of one second, and something else for systemd-tmpfiles to do."""
    installed.put({
        FRAGMENT: f'[private_dir.CARGO_TARGET_DIR]\npath = "{ROOT}/{{user}}"\nmax_age = "1s"\n',
        "/etc/tmpfiles.d/vm.conf": "e /tmp/vm-aged - - - 1s\n",
    })  # fmt: skip
    # Other tests have left directories of users who are gone.
    installed.root(f"rm -rf {ROOT}/*; mkdir -p /tmp/vm-aged; systemctl daemon-reload")
    for user in ("alice", "bob"):
        installed.ssh(user, "true")
    yield installed
    installed.root(f"rm -rf {FRAGMENT} /etc/tmpfiles.d/vm.conf /tmp/vm-aged; systemctl daemon-reload")


@pytest.fixture
def aged(policy):
    """What builds of alice and bob left, and a shared cache beside them."""
    for user in ("alice", "bob"):
        built(policy, user)
    policy.root(f"touch /tmp/vm-aged/old; mkdir {ROOT}/debug; touch {ROOT}/debug/shared; chown -R bob {ROOT}/debug")
    yield policy
    policy.root(f"rm -rf {ROOT}/debug {ROOT}/*/*")


def test_what_is_old_goes_but_not_under_a_running_build(aged):
    with build(aged, "bob"):
        aged.root(CLEAN)
        assert files(aged, f"{ROOT}/bob") == BUILT
    assert files(aged, f"{ROOT}/alice") == []
    assert aged.root(f"stat -c '%U %a' {ROOT}/alice; ls -A {ROOT}/alice") == "alice 700\n"
    # Beside them lies what is nobody's private directory.
    assert files(aged, f"{ROOT}/debug") == ["shared"]
    assert files(aged, "/tmp/vm-aged") == []
    aged.root(CLEAN)
    assert files(aged, f"{ROOT}/bob") == []


def test_everything_else_is_cleaned_where_our_part_fails(aged):
    aged.root("mount --bind /bin/false /usr/bin/fairslice")
    try:
        aged.root(CLEAN)
        assert files(aged, "/tmp/vm-aged") == []
        assert files(aged, f"{ROOT}/alice") == BUILT
    finally:
        aged.root("umount /usr/bin/fairslice")
