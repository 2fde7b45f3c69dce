"""Groups whose members share a weight: what each of them gets as they come and go, and what they get of the CPUs."""

import contextlib
import random
import time

import measure
import pytest

FRAGMENT, LOGIND = "/etc/fairslice/policy.d/50-groups.toml", "/run/systemd/logind.conf.d/test.conf"
TOTALS = {"acme": 100, "umbrella": 60, "initech": 7}
USERS = {user: group for group in TOTALS for user in (f"{group}1", f"{group}2", f"{group}3")} | {"loner": None}
OWN = 100  # of whom no group has
POLICY = f"[logins]\ncpu_weight = {OWN}\n" + "".join(
    f"[logins.group.{group}]\ntotal_weight = {total}\n" for group, total in TOTALS.items()
)
SEED = 20261

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def groups(installed):
    """The policy above, its users, and a logind that forgets a user at once."""
    installed.put({FRAGMENT: POLICY, LOGIND: "[Login]\nUserStopDelaySec=0\n"})
    add = "".join(f"groupadd -f {group};" for group in TOTALS)
    for user, group in USERS.items():
        add += f"useradd --create-home --shell /bin/bash {f'--groups {group}' if group else ''} {user};"
    installed.root(f"{add} systemctl restart systemd-logind; fairslice apply")
    yield installed
    installed.root(
        f"rm -f {FRAGMENT} {LOGIND}; rmdir /run/systemd/logind.conf.d; systemctl stop 'way-*' 2>&1;"
        " systemctl restart systemd-logind"
    )
    for user in USERS:
        measure.log_out(installed, user)
        installed.root(f"userdel --remove --force {user} 2>&1")
    installed.root(f"for group in {' '.join(TOTALS)}; do groupdel $group; done; fairslice apply")


def expected(present: set[str]) -> dict[str, int]:
    members = {group: sum(USERS[user] == group for user in present) for group in TOTALS}
    return {user: max(1, TOTALS[USERS[user]] // members[USERS[user]]) if USERS[user] else OWN for user in present}


def weights(machine) -> dict[str, int]:
    users = " ".join(USERS)
    answer = machine.root(
        f"for user in {users}; do slice=/sys/fs/cgroup/user.slice/user-$(id -u $user).slice;"
        ' grep -qs "populated 1" $slice/cgroup.events && echo $user $(cat $slice/cpu.weight); done; true'
    )
    return {user: int(weight) for user, weight in map(str.split, answer.splitlines())}


def settled(machine, present: set[str]) -> None:
    """A user's slice goes, and the others are told, some time after the last process: how long that is depends on what
    else the machine does, and how much it is emulated."""
    deadline = time.monotonic() + 300
    while (now := weights(machine)) != expected(present):
        assert time.monotonic() < deadline, f"{now}, expected {expected(present)}"
        time.sleep(0.3)


def test_what_they_weigh_is_right_after_each_login_and_logout(groups):
    """Sessions of PID 1's own, with sshd's stack: a tenth of the time that ssh takes here."""
    settled(groups, set())
    choice = random.Random(SEED)
    present: set[str] = set()
    for _ in range(24):
        user = choice.choice(sorted(USERS))
        unit = f"way-{user}"
        if user in present:
            # In order, or killed with everything that is theirs.
            kill = f"systemctl kill -s KILL user-$(id -u {user}).slice; systemctl stop {unit}"
            groups.root(f"systemctl stop {unit}" if choice.random() < 0.6 else kill)
            present.remove(user)
            settled(groups, present)
        else:
            groups.root(
                f"systemctl reset-failed {unit} 2>&1; systemd-run --quiet --unit={unit} -p PAMName=sshd -p User={user}"
                " -p Type=exec sleep 10000"
            )
            present.add(user)
            settled(groups, present)
    groups.root("systemctl stop 'way-*'")
    settled(groups, set())
    # Nobody is left of whom a login would take for one who shares.
    groups.root("fairslice apply --logins")
    assert groups.root("find /run/fairslice/budgets -type f") == ""


def test_many_at_once_are_all_counted(groups):
    units = " ".join(f"way-{user}" for user in USERS)
    start = "".join(
        f"systemd-run --quiet --no-block --unit=way-{user} -p PAMName=sshd -p User={user} sleep 10000;" for user in USERS
    )
    groups.root(f"systemctl reset-failed 2>&1; {start}")
    settled(groups, set(USERS))
    said = groups.root("fairslice status; fairslice doctor; true")
    assert "differs" not in said and "FS045" not in said and "FS017" not in said, said
    stay = "way-acme2 way-loner"
    groups.root(f"systemctl stop {' '.join(unit for unit in units.split() if unit not in stay)}")
    settled(groups, {"acme2", "loner"})
    groups.root(f"systemctl stop {stay}")
    settled(groups, set())


def test_whom_pid1_has_kept_waiting_is_counted_when_it_answers(groups):
    """A login gives up after two seconds, and another one may have counted on it."""
    watch, private = "fairslice-headcount.path", "/run/systemd/private"
    with contextlib.closing(groups.session("acme1")) as acme1:
        acme1.run("true")
        settled(groups, {"acme1"})
        assert groups.root(f"systemctl is-active {watch}") == "active\n"
        groups.root(f"mv {private} {private}.real")
        try:
            with contextlib.closing(groups.session("acme2")) as acme2:
                acme2.run("true")
                now = weights(groups)
                assert now["acme1"] == TOTALS["acme"] and now["acme2"] != TOTALS["acme"] // 2, now
                groups.root(f"mv {private}.real {private}")
                settled(groups, {"acme1", "acme2"})
                assert "uncounted" not in groups.root("ls /run/fairslice").split()
        finally:
            groups.root(f"mv {private}.real {private} 2>&1; true")
    settled(groups, set())


def test_a_policy_that_changes_holds_at_once(groups):
    users = ["acme1", "acme2", "loner"]
    for user in users:
        groups.root(f"systemd-run --quiet --unit=way-{user} -p PAMName=sshd -p User={user} -p Type=exec sleep 10000")
    settled(groups, set(users))
    groups.put({FRAGMENT: POLICY.replace("total_weight = 100", "total_weight = 400")})
    said = groups.root("fairslice apply")
    assert said.count("cpu_weight  50 -> 200") == 2 or said.count("50 -> 200") == 2, said
    assert weights(groups) == {"acme1": 200, "acme2": 200, "loner": OWN}
    groups.put({FRAGMENT: POLICY.replace("total_weight = 100", "cpu_weight = 150")})
    groups.root("fairslice apply")
    assert weights(groups) == {"acme1": 150, "acme2": 150, "loner": OWN}
    groups.put({FRAGMENT: POLICY})
    groups.root("fairslice apply")
    settled(groups, set(users))
    groups.root("systemctl stop 'way-*'")
    settled(groups, set())


@pytest.mark.alone
def test_three_of_one_group_get_what_one_other_user_gets(groups):
    with contextlib.ExitStack() as logged_in:
        users, paths = ["loner", "acme1", "acme2", "acme3"], []
        for user in users:
            session = logged_in.enter_context(contextlib.closing(groups.session(user)))
            uid = session.run("load --standby --busy 4 > /dev/null & id -u").strip()
            paths.append(f"user.slice/user-{uid}.slice")
            # The login itself has told the others.
            assert weights(groups) == expected(set(users[: len(paths)]))
        loner, *acme = busy(groups, paths)
        print(f"loner {loner:.3f}, acme {sum(acme):.3f}: {acme}")
        groups.root(f"pkill -u {','.join(users)} -x load")
        assert abs(loner - 0.5) < 0.03, (loner, acme)
        chain = groups.root("fairslice explain share acme2")
        assert "100 of acme / 3 logged in, exact while all of them are busy" in chain, chain
        said = groups.root("fairslice explain login acme2")
        assert "acme2 with 2 other members of acme logged in: 100 / 3" in said, said
    settled(groups, set())


def busy(machine, paths: list[str]) -> list[float]:
    measured = measure.busy_shares(machine, paths, f"-u {','.join(USERS)} -x load")
    assert measured.cpus > 1.7
    return measured.shares
