"""total_weight = "sum": user.slice weighs what the users logged in weigh together, and no more than a
slice's cpu_floor leaves, however they come and go."""

import contextlib
import re
import time

import measure
import pytest

SERVICES = "foundry.slice/foundry-services.slice"
FLOOR = 0.40
# root, who asks the questions, is logged in all the time, and idle.
ROOT, ALICE, BOB, CAROL = 50, 100, 120, 100
POLICY = f"""
[slice."foundry-services.slice"]
cpu_floor = "40%"
[logins]
total_weight = "sum"
[logins.user.root]
cpu_weight = {ROOT}
[logins.user.bob]
cpu_weight = {BOB}
"""
# What 40% leave beside services of weight 200 and system.slice: 200 / (200 + 100 + 200).
MOST = 200

# Debian 13's scheduler is measured by test_3_shares.py.
pytestmark = pytest.mark.thorough("bookworm", "forky")


@pytest.fixture(scope="module")
def counting(installed):
    """The policy above, a third user, and a logind that forgets a user at once."""
    fragment, logind = "/etc/fairslice/policy.d/50-sum.toml", "/run/systemd/logind.conf.d/test.conf"
    installed.put({fragment: POLICY, logind: "[Login]\nUserStopDelaySec=0\n"})
    installed.root("useradd --create-home --shell /bin/bash carol; systemctl restart systemd-logind")
    measure.make_pid1_write_weights(installed)
    # root was logged in before that.
    installed.root("fairslice apply --logins")
    wait_for(installed, ROOT)
    yield installed
    installed.root(
        f"rm {fragment} {logind}; rmdir /run/systemd/logind.conf.d;"
        " systemctl restart systemd-logind; userdel --remove --force carol 2>&1"
    )
    measure.make_pid1_write_weights(installed)
    installed.root("systemctl revert user.slice; rm -rf /run/fairslice/properties/user.slice")


def total(machine) -> int:
    return measure.cpu_weight(machine, "user.slice")


def wait_for(machine, weight: int) -> None:
    """A user's slice goes, and is counted no more, some time after the last process."""
    deadline = time.monotonic() + 20
    while (now := total(machine)) != weight:
        assert time.monotonic() < deadline, f"user.slice weighs {now}, not {weight}"
        time.sleep(0.3)


def test_each_login_counts_once_and_each_last_logout_too(counting):
    with contextlib.closing(counting.session("alice")) as first:
        first.run("true")
        assert total(counting) == ROOT + ALICE
        with contextlib.closing(counting.session("alice")) as second:
            second.run("true")
            assert total(counting) == ROOT + ALICE
        with contextlib.closing(counting.session("carol")) as other:
            other.run("true")
            assert ROOT + ALICE + CAROL > MOST
            assert total(counting) == MOST
        wait_for(counting, ROOT + ALICE)
    wait_for(counting, ROOT)


def test_a_crash_and_a_lingering_user_are_counted_too(counting):
    counting.root("loginctl enable-linger bob")
    wait_for(counting, ROOT + BOB)
    with contextlib.closing(counting.session("alice")) as session:
        session.run("true")
        assert total(counting) == MOST
        # No session is closed by this: pam_close_session never runs.
        counting.root("pkill -KILL -f '^sshd(-session)?: alice'; systemctl kill -s KILL user-1000.slice")
        wait_for(counting, ROOT + BOB)
    counting.root("loginctl disable-linger bob")
    wait_for(counting, ROOT)


def test_apply_puts_it_right_at_once(counting):
    counting.root("echo 7777 > /sys/fs/cgroup/user.slice/cpu.weight")
    assert total(counting) == 7777
    assert f"user.slice: cpu_weight 7777 -> {ROOT}\n" in counting.root("fairslice apply --logins --dry-run")
    assert total(counting) == 7777
    counting.root("fairslice apply --logins")
    assert total(counting) == ROOT


def test_what_the_administrator_has_set_is_left(counting):
    control = "/run/systemd/system.control/user.slice.d/50-CPUWeight.conf"
    counting.root("systemctl set-property --runtime user.slice CPUWeight=7777")
    said = counting.root("fairslice apply --logins")
    assert re.search(f"user.slice: cpu_weight 7777 left, declared {ROOT}: {control}:\\d+ sets CPUWeight=7777\n", said), said
    assert total(counting) == 7777
    counting.root(f"rm {control}; systemctl daemon-reload; fairslice apply --logins")
    assert total(counting) == ROOT


def test_explain_says_who_is_counted_and_which_floor_holds(counting):
    said = counting.root("fairslice explain login bob")
    assert "[logins.user.bob]  holds  /etc/fairslice/policy.d/50-sum.toml:9" in said
    assert f"bob and the other user logged in now: {ROOT + BOB}; cpu_floor = \"40%\"" in said
    assert "leaves 200 at most" in said
    assert f"CARGO_TARGET_DIR  {measure.TARGET_ROOT}/bob" in said


@pytest.mark.alone
def test_shares_with_one_two_and_three_busy_users(counting):
    groups = [SERVICES]
    with contextlib.ExitStack() as logged_in:
        for user, weights in [("alice", [ALICE]), ("bob", [ALICE, BOB]), ("carol", [ALICE, BOB, CAROL])]:
            session = logged_in.enter_context(contextlib.closing(counting.session(user)))
            uid = session.run("load --standby --busy 4 > /dev/null & id -u").strip()
            groups.append(f"user.slice/user-{uid}.slice")
            logins = min(ROOT + sum(weights), MOST)
            part = logins / (200 + logins)
            check(counting, groups, [1 - part, *(part * weight / sum(weights) for weight in weights)])
        # Everything beside them busy too: what is left is the floor.
        counting.root("systemd-run --quiet --unit=busy -p Type=exec load --standby --busy 4")
        everything = 200 + MOST + 100
        users = [MOST / everything * weight / sum(weights) for weight in weights]
        check(counting, [*groups, "system.slice"], [FLOOR, *users, 100 / everything])
        counting.root("systemctl stop busy; pkill -u alice,bob,carol -x load")
    wait_for(counting, ROOT)


def check(machine, groups: list[str], predicted: list[float]) -> None:
    measured = measure.busy_shares(machine, groups, "-f 'load .*--bus[y]'")
    print(f"predicted {' : '.join(f'{share:.3f}' for share in predicted)}, measured {measured}")
    assert measured.cpus > 1.7
    assert measured.near(predicted), f"predicted {predicted}, measured {measured}"
