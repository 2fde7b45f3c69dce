"""Logins: the right ones get their settings, all succeed. By which way: test_3_ways_in.py."""

import contextlib
import statistics

import measure
import pytest

ROOT = measure.TARGET_ROOT


def facts(machine, user: str) -> measure.Login:
    return measure.login_facts(machine.ssh(user, measure.LOGIN_QUESTIONS).out)


def su(machine, user: str, command: str) -> str:
    """A login by su, which, unlike sshd, does not mind a shell or a home that is missing."""
    return machine.root(f"cd /; su -s /bin/sh -c '{command}' -- '{user}' 2>&1; echo \"exit $?\"")


@contextlib.contextmanager
def fragment(machine, text: str):
    """A file of policy.d for the time of a test, in force."""
    path = "/etc/fairslice/policy.d/50-test.toml"
    machine.put({path: text})
    machine.root("systemctl daemon-reload")
    try:
        yield
    finally:
        machine.root(f"rm {path}; systemctl daemon-reload")


def test_a_login_gets_its_slice_weight_and_directory(installed):
    login = facts(installed, "alice")
    assert login.process.slice == "user-1000.slice"
    assert login.process.cgroup.endswith(".scope")
    assert login.process.oom_score_adj == 0
    assert login.cpu_weight == 100
    assert (login.target_dir, login.owner, login.mode) == (f"{ROOT}/alice", "alice:alice", "700")


def test_the_second_login_finds_the_first_ones_directory(installed):
    installed.root(f"runuser -u alice touch {ROOT}/alice/mine")
    assert facts(installed, "alice").target_dir == f"{ROOT}/alice"
    assert installed.root(f"stat -c %U {ROOT}/alice/mine") == "alice\n"


def test_a_members_group_rule_and_a_users_own_rule(installed):
    group = "[logins.group.operators]\ncpu_weight = 200\n"
    own = "[logins.user.bob]\ncpu_weight = 300\n"
    installed.root("usermod --append --groups operators bob")
    try:
        with fragment(installed, group):
            assert facts(installed, "bob").cpu_weight == 200
        # The first rule that matches wins, and users come before groups.
        with fragment(installed, group + own):
            assert facts(installed, "bob").cpu_weight == 300
    finally:
        installed.root("gpasswd --delete bob operators")
    with fragment(installed, group):
        assert facts(installed, "bob").cpu_weight == 100


@pytest.mark.thorough("bookworm")
def test_no_workspace_no_variable_and_no_message(installed):
    mark, workspace = measure.journal_mark(installed), ROOT.rpartition("/")[0]
    installed.root(f"mv {workspace} {workspace}.away")
    try:
        assert facts(installed, "alice").target_dir == ""
        assert not measure.journal_since(installed, mark, "pam_fairslice")
        assert installed.root(f"ls -d {workspace} 2>/dev/null || true") == ""
    finally:
        installed.root(f"mv {workspace}.away {workspace}")


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize(
    "trap",
    [
        "install -d -o root -m 755 {path}",
        "install -d -o alice -m 700 {path}",
        "ln -s /home/alice {path}",
        "install -o bob -m 600 /dev/null {path}",
    ],
    ids=["root's", "another user's", "a link", "a file"],
)
def test_a_directory_that_is_not_the_users_is_refused_and_left_alone(installed, trap):
    path = f"{ROOT}/bob"
    look = f"stat -c '%F %U %a' {path}"
    installed.root(f"rm -rf {path}; {trap.format(path=path)}")
    try:
        before, mark = installed.root(look), measure.journal_mark(installed)
        assert su(installed, "bob", "echo var=$CARGO_TARGET_DIR") == "var=\nexit 0\n"
        assert installed.root(look) == before
        assert path in str(measure.journal_since(installed, mark, "pam_fairslice"))
    finally:
        installed.root(f"rm -rf {path}")


ACCOUNTS = """
nohome:x:2001:2001::/home/missing:/bin/sh
noshell:x:2002:2001::/home/alice:/bin/missing
nogroup:x:2003:4242::/tmp:/bin/sh
dots.and-dashes_$:x:2004:2001::/tmp:/bin/sh
..:x:2005:2001::/tmp:/bin/sh
a/b:x:2006:2001::/tmp:/bin/sh
two words:x:2007:2001::/tmp:/bin/sh
"""


@pytest.fixture(scope="module")
def accounts(installed):
    """Accounts that adduser would refuse, and a directory service would not."""
    names = [line.split(":")[0] for line in ACCOUNTS.strip().splitlines()]
    installed.put({
        "/tmp/passwd": ACCOUNTS.lstrip(),
        "/tmp/shadow": "".join(f"{name}:*:20000:0:99999:7:::\n" for name in names),
    })  # fmt: skip
    installed.root(
        "cp -p /etc/passwd /etc/passwd.kept; cp -p /etc/shadow /etc/shadow.kept;"
        " cat /tmp/passwd >> /etc/passwd; cat /tmp/shadow >> /etc/shadow; rm /tmp/passwd /tmp/shadow"
    )
    yield names
    installed.root("mv /etc/passwd.kept /etc/passwd; mv /etc/shadow.kept /etc/shadow")


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize(
    ("user", "owner"),
    [("nohome", "nohome:UNKNOWN"), ("nogroup", "nogroup:UNKNOWN")],
)
def test_a_login_without_home_or_group_works_and_has_its_directory(installed, accounts, user, owner):
    login = facts(installed, user)
    assert (login.target_dir, login.owner, login.mode) == (f"{ROOT}/{user}", owner, "700")
    assert login.cpu_weight == 100


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize("user", ["noshell", "dots.and-dashes_$"])
def test_a_login_without_shell_or_with_a_long_name_has_its_directory(installed, accounts, user):
    answer = su(installed, user, 'echo "$CARGO_TARGET_DIR"; stat -c %a -- "$CARGO_TARGET_DIR"')
    assert answer == f"{ROOT}/{user}\n700\nexit 0\n"


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize("user", ["..", "a/b"])
def test_a_name_that_is_no_file_name_gets_no_directory_but_a_login(installed, accounts, user):
    before = installed.root("find /srv -printf '%p %m %u\\n' | sort")
    mark = measure.journal_mark(installed)
    assert su(installed, user, "echo var=$CARGO_TARGET_DIR") == "var=\nexit 0\n"
    assert installed.root("find /srv -printf '%p %m %u\\n' | sort") == before
    assert len(measure.journal_since(installed, mark, "pam_fairslice")) == 1


@pytest.mark.thorough("bookworm")
def test_a_name_with_a_space_gets_a_login(installed, accounts):
    assert su(installed, "two words", "echo here").splitlines()[-2:] == ["here", "exit 0"]


@pytest.mark.parametrize("user", ["root", "daemon"])
def test_root_and_system_accounts_get_no_directory(installed, user):
    assert su(installed, user, "echo var=$CARGO_TARGET_DIR") == "var=\nexit 0\n"
    assert installed.root(f"ls -d {ROOT}/{user} 2>/dev/null || true") == ""


def test_a_real_login_of_root(installed):
    login = facts(installed, "root")
    assert login.process.slice == "user-0.slice"
    assert login.target_dir == ""


@pytest.mark.thorough("bookworm")
def test_of_20_logins_at_a_time_all_succeed_with_their_variable(installed, capsys):
    # 200 take some minutes of an emulated machine: those are in make bench-login, beside the same without us.
    right = f'[ "$CARGO_TARGET_DIR" = {ROOT}/$USER ]'
    times = measure.login_times(installed, ["alice", "bob"] * 10, at_a_time=20, command=right)
    assert len(times) == 20
    percentile = statistics.quantiles(times, n=100)
    with capsys.disabled():
        print(f"a login takes {percentile[49]:.2f} s (median), {percentile[98]:.2f} s (99th percentile)", end=" ")


def test_an_inherited_negative_score_is_reset(installed):
    # test_6 shows, without the package, that a login does inherit it.
    with measure.sshd_started_with_score(installed, -500):
        assert facts(installed, "alice").process.oom_score_adj == 0
