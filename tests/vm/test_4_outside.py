"""Users' processes for which the limits of their slices do not hold; each fix is done as it is printed, and ends it."""

import json
import re

import measure
import pytest

pytestmark = pytest.mark.thorough("bookworm")

LIMITS = f"{measure.UNITS}/user-.slice.d/50-tenant.conf"
SERVICE = f"{measure.UNITS}/changing.service"
JOB, PAM = "/etc/cron.d/outside", "/etc/pam.d/cron"


def found(machine) -> dict | None:
    findings = json.loads(machine.root("fairslice doctor --no-policy --json || true"))["findings"]
    outside = [one for one in findings if one["code"] == "FS047"]
    assert len(outside) < 2, outside
    return next(iter(outside), None)


def place(machine) -> str:
    """Where bob's one process is, once it runs."""
    wait = "for i in $(seq 60); do pid=$(pgrep -u bob -x sleep) && break; sleep 0.5; done"
    return machine.root(f"{wait}; cut -d: -f3 /proc/$pid/cgroup").strip()


@pytest.fixture
def limited(installed):
    """A machine on which each user has a limit."""
    measure.log_out(installed, "bob")
    installed.put({LIMITS: "[Slice]\nTasksMax=100\nCPUQuota=50%\n"})
    installed.root(f"systemctl daemon-reload; cp {PAM} {PAM}.kept")
    yield installed
    installed.root(
        f"pkill -u bob -x sleep; loginctl terminate-user bob 2>&1; systemctl stop changing 2>&1; mv {PAM}.kept {PAM};"
        f" rm -rf {LIMITS} {JOB} {SERVICE} {measure.UNITS}.control;"
        " systemctl daemon-reload; systemctl reset-failed;"
        # The kernel has root's limit until then.
        " systemd-run --quiet --wait --slice=user-0.slice true"
    )


def test_jobs_get_the_limits_of_their_user(limited):
    assert found(limited) is None
    # A cron that does not know that it ran since the boot runs the job at once.
    again = "rm -f /run/crond.reboot; systemctl restart cron"
    limited.put({JOB: "@reboot bob exec sleep 1000\n"})
    limited.root(again)
    assert place(limited) == "/system.slice/cron.service"
    first = found(limited)
    assert (first["what"], first["file"]) == ("1 process of bob runs in cron.service instead", LIMITS)
    assert "bob is not logged in, and has 1 process in cron.service" in limited.root("fairslice status bob 2>&1; true")
    limited.root(first["fix"]["command"])
    # The one of before.
    (kill,) = re.findall(r"kill \d+$", found(limited)["fix"]["text"])
    limited.root(kill)
    assert found(limited) is None
    limited.root(again)
    assert place(limited).startswith("/user.slice/user-"), place(limited)
    assert found(limited) is None


def test_what_sudo_has_left_in_another_session_can_be_started_in_the_slice(limited):
    limited.root("systemctl set-property user-$(id -u bob).slice MemoryMax=300M")
    limited.root("sudo -u bob setsid sleep 1000 > /dev/null 2>&1 < /dev/null &")
    assert "/session-" in place(limited)
    one = found(limited)
    assert (one["cost"], "session-" in one["what"]) == ("MemoryMax=314572800 does not hold for them", True)
    (start,) = re.findall(r"systemd-run .* COMMAND", one["fix"]["text"])
    limited.root(f"pkill -u bob -x sleep; {start.replace('COMMAND', 'sleep 1000')}")
    assert place(limited).startswith("/user.slice/user-") and found(limited) is None


def test_a_service_that_changes_users_gets_limits_of_its_own(limited):
    limited.put({SERVICE: "[Service]\nExecStart=setpriv --reuid=bob --clear-groups sleep 1000\n"})
    limited.root("systemctl daemon-reload; systemctl start changing")
    assert place(limited) == "/system.slice/changing.service"
    limited.root(found(limited)["fix"]["command"])
    assert found(limited) is None
