"""What `explain login` says of a way in is what the login then does; and who opens a session for others is left alone."""

import contextlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

import measure
import pytest

pytestmark = pytest.mark.thorough("bookworm")

FRAGMENT = "/etc/fairslice/policy.d/50-explained.toml"
POLICY = "[logins.user.alice]\ncpu_weight = 70\noom_score_adj = 300\n"
ASK = "cut -d: -f3 /proc/self/cgroup"
SLICE = "/user.slice/user-1000.slice"
COMMON = "/etc/pam.d/common-session"
SSHD = "/etc/pam.d/sshd"
MODULES = "/usr/lib/x86_64-linux-gnu/security"
# Opens a session of another user's in its own process; its command, a child of it, looks at it.
HUB, LOOK, SCRIPT = "/usr/local/bin/hub", "/usr/local/bin/look-at-hub", "/usr/local/bin/start-hub"
LOOK_AT_HUB = "#!/bin/sh\ncat /proc/$PPID/cgroup /proc/$PPID/oom_score_adj\n"
START_HUB = f"#!/bin/sh\n{HUB} login alice {LOOK}\nexit\n"

# A batch system's module, played by pam_exec under that one's name: it takes alice's logins into her job.
JOB = "/sys/fs/cgroup/system.slice/slurmstepd.service"
ADOPT = f"#!/bin/sh\n[ $PAM_USER = alice ] || exit 0\necho $PPID > {JOB}/job_7/cgroup.procs\n"
START_JOB = (
    "systemd-run -q --unit slurmstepd -p Delegate=yes sh -c"
    f" 'mkdir {JOB}/daemon {JOB}/job_7; echo $$ > {JOB}/daemon/cgroup.procs; exec sleep infinity';"
    f" until [ -d {JOB}/job_7 ]; do sleep 0.1; done"
)
WITHOUT_PAM_SYSTEMD = f"sed -i '/pam_systemd.so/ s/^/#/' {COMMON}"
MASKED = "systemctl mask --runtime --now -q systemd-logind"

STATES = {
    "logind": "true",
    "no pam_systemd": WITHOUT_PAM_SYSTEMD,
    "logind masked": MASKED,
    "logind masked, never ran": f"{MASKED} && rm -r /run/systemd/seats",
    "noplace": f"{WITHOUT_PAM_SYSTEMD}; sed -i 's/pam_fairslice.so/& noplace/' {COMMON}",
    "a batch system": f"{WITHOUT_PAM_SYSTEMD}; {START_JOB};"
    f" sed -i '1i account required pam_slurm_adopt.so quiet /usr/local/sbin/adopt' {SSHD}",
}
SAID = {
    "logind": "placed", "no pam_systemd": "placed_here", "logind masked": "placed_here",
    "logind masked, never ran": "placed_here", "noplace": "stays", "a batch system": "stays",
}  # fmt: skip
IS_IN = {
    "placed": rf"{SLICE}/session-\w+\.scope",
    "placed_here": rf"{SLICE}/fairslice-login-\d+\.scope",
    "stays": r"/system\.slice/(ssh\.service|slurmstepd\.service/job_7)",
}


@pytest.fixture(scope="module")
def declared(installed):
    with tempfile.TemporaryDirectory() as directory:
        built, source = Path(directory) / "hub", Path(__file__).parents[2] / "pam/tests/builds/login.c"
        subprocess.run(["gcc", "-O1", "-s", "-o", built, source, "-lpam"], check=True)
        programs = {HUB: built.read_bytes(), LOOK: LOOK_AT_HUB, SCRIPT: START_HUB, "/usr/local/sbin/adopt": ADOPT}
        installed.put(programs, mode=0o755)
    installed.put({FRAGMENT: POLICY})
    installed.root(
        f"systemctl daemon-reload; cp -p {COMMON} {COMMON}.kept; cp -p {SSHD} {SSHD}.kept;"
        f" ln -s pam_exec.so {MODULES}/pam_slurm_adopt.so; systemctl stop user-1000.slice"
    )
    yield installed
    # A logind that is started anew meanwhile would not notice that she has gone.
    installed.root(
        f"rm {FRAGMENT} {HUB} {LOOK} {SCRIPT} /usr/local/sbin/adopt {MODULES}/pam_slurm_adopt.so {COMMON}.kept {SSHD}.kept;"
        " systemctl daemon-reload; systemctl stop user@1000 user-1000.slice"
    )


@pytest.fixture
def state(request, declared):
    declared.root(STATES[request.param])
    yield declared, request.param
    declared.root(
        f"cp -p {COMMON}.kept {COMMON}; cp -p {SSHD}.kept {SSHD}; systemctl stop slurmstepd;"
        " systemctl unmask --runtime -q systemd-logind; systemctl start systemd-logind; systemctl stop user-1000.slice",
        check=False,
    )
    # logind does not know again who was logged in, and ends those sessions some seconds later: root's, too.
    declared.connect()


@pytest.mark.parametrize("state", STATES, ids=lambda name: name, indirect=True)
def test_a_login_does_what_was_explained(state):
    machine, name = state
    mark = measure.journal_mark(machine)
    said = json.loads(machine.root("fairslice explain login alice --json"))
    assert said["session"] == SAID[name]
    assert (said["reason"] is None) == (said["session"] != "stays")
    with contextlib.closing(machine.session("alice")) as alice:
        cgroup = alice.run(ASK).strip()
        score = alice.run("cat /proc/self/oom_score_adj").strip()
    assert re.fullmatch(IS_IN[said["session"]], cgroup), cgroup
    assert cgroup.endswith("job_7") == (name == "a batch system")
    assert score == ("0" if said["session"] == "stays" else "300")
    assert measure.journal_since(machine, mark, "pam_fairslice(") == []


@pytest.mark.parametrize("state", ["logind", "no pam_systemd"], ids=lambda name: name, indirect=True)
def test_a_service_that_opens_sessions_in_itself_stays_what_it_is(state):
    machine, name = state
    hub = "systemd-run -q --wait --pipe --collect --unit hub -p OOMScoreAdjust=-200"
    own = "cp /etc/pam.d/login /etc/pam.d/hub"
    for started in [
        f"{hub} {HUB} login alice {LOOK}",
        # By a script of the service's.
        f"{hub} {SCRIPT}",
        # With a PAM service that is no login program's.
        f"{own}; {hub} {HUB} hub alice {LOOK}; rm /etc/pam.d/hub",
    ]:
        cgroup, score = machine.root(f"( {started} ) < /dev/null").split()
        assert score == "-200", started
        # Where logind runs, it is logind that moves it.
        logind, unit = f"0::{SLICE}/session-", "0::/system.slice/hub.service"
        assert cgroup.startswith(logind) if name == "logind" else cgroup == unit, started
    # PID 1 makes the session for the process that it starts: PAMName=.
    started = "systemd-run -q --wait --pipe --collect -p PAMName=login -p User=alice -p OOMScoreAdjust=-200"
    cgroup, score = machine.root(f"{started} sh -c 'cat /proc/self/cgroup /proc/self/oom_score_adj' < /dev/null").split()
    assert (SLICE in cgroup, score) == (True, "300")


def test_what_is_wrong_is_said_once_a_login(declared):
    """Within her first login, alice's systemd opens a session of its own."""
    broken = "/etc/fairslice/policy.d/60-broken.toml"
    declared.put({broken: "[logins.user.john.doe]\ncpu_weight = 1\n"})
    declared.root("systemctl daemon-reload; systemctl stop user@1000 user-1000.slice", check=False)
    mark = measure.journal_mark(declared)
    try:
        declared.ssh("alice", "true")
        said = measure.journal_since(declared, mark, "pam_fairslice(")
    finally:
        declared.root(f"rm {broken}; systemctl daemon-reload")
    assert len(said) == 1 and '[logins.user."john.doe"]' in said[0], said
