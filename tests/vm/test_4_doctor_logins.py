"""fairslice doctor: what keeps a login from what is declared for it, each by the command that causes it in life."""

import contextlib
import json
import re
from pathlib import Path

import measure
import pytest

ROOT = measure.TARGET_ROOT
FRAGMENT = "/etc/fairslice/policy.d/50-doctor.toml"
SESSION = "/etc/pam.d/common-session"
CONTROL = "/etc/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf"
MODULE = "/usr/lib/x86_64-linux-gnu/security/pam_fairslice.so"
SCORE = f"{measure.UNITS}/ssh.service.d/doctor.conf"
# What is found by other parts of doctor has tests of its own.
CODES = re.compile(r"FS0(11|12|13|33|4[0-5]|5\d|6\d|7\d)$")

# Code: what causes it, what undoes that, and the file that is named for it.
CAUSES = {
    "FS040": ("pam-auth-update --disable fairslice", "pam-auth-update --enable fairslice", SESSION),
    "FS041": (
        f"cp -p {SESSION} /root/kept;"
        f" sed -i '/pam_fairslice/d; s/^session.*pam_systemd.*/session optional pam_fairslice.so\\n&/' {SESSION}",
        f"mv /root/kept {SESSION}",
        SESSION,
    ),
    "FS042": (
        f"cp -p {SESSION} /root/kept; sed -i 's|pam_fairslice.so|& root=/tmp|' {SESSION}",
        f"mv /root/kept {SESSION}",
        SESSION,
    ),
    "FS043": (f"mv {MODULE} /root/kept.so", f"mv /root/kept.so {MODULE}", SESSION),
    "FS044": (
        "echo 'UsePAM no' > /etc/ssh/sshd_config.d/00-doctor.conf; systemctl reload ssh",
        "rm /etc/ssh/sshd_config.d/00-doctor.conf; systemctl reload ssh",
        "/etc/ssh/sshd_config.d/00-doctor.conf",
    ),
    "FS050": (f"chown bob {ROOT}/alice", f"chown alice {ROOT}/alice", f"{ROOT}/alice"),
    "FS051": (f"chmod 755 {ROOT}/alice", f"chmod 700 {ROOT}/alice", f"{ROOT}/alice"),
    "FS052": (f"chmod 777 {ROOT}", f"chmod 755 {ROOT}", ROOT),
    "FS053": (
        f"mv {ROOT}/alice {ROOT}/kept; ln -s /tmp {ROOT}/alice",
        f"rm {ROOT}/alice; mv {ROOT}/kept {ROOT}/alice",
        f"{ROOT}/alice",
    ),
    "FS033": (
        f"mkdir -p {measure.UNITS}/ssh.service.d; printf '[Service]\\nOOMScoreAdjust=-1000\\n' > {SCORE};"
        " systemctl daemon-reload",
        f"rm -r {measure.UNITS}/ssh.service.d; systemctl daemon-reload",
        SCORE,
    ),
    "FS060": (
        # As version 0.1.0 left it.
        f"mkdir -p {measure.UNITS}/cron.service.d; printf '# Made by \"fairslice adopt\"; x\\n# Its directory was made"
        " for it.\\n[Service]\\nExecStart=\\nExecStart=/usr/bin/fairslice-launch -- /usr/sbin/cron -f\\n'"
        f" > {measure.UNITS}/cron.service.d/zz-fairslice-launch.conf; systemctl daemon-reload",
        # What the finding says to do, and back.
        "fairslice adopt cron.service; fairslice doctor --json | grep -q FS060 && exit 1; fairslice release cron",
        f"{measure.UNITS}/cron.service.d/zz-fairslice-launch.conf",
    ),
}

WITH_LINE = {"FS041", "FS042", "FS043", "FS044", "FS033"}
# Causes that do not hide one another are looked for together: asking takes the machine some seconds.
ROUNDS = [("FS033", "FS041", "FS050"), ("FS042", "FS044", "FS051"), ("FS043", "FS053"), ("FS040", "FS052", "FS060")]

# A drop-in, most of whose settings systemd refuses or ignores.
SETTINGS = (Path(__file__).parents[1] / "settings.conf").read_text()


def found(answer: str) -> list[dict]:
    """What doctor found of what is tried here."""
    return [finding for finding in json.loads(answer)["findings"] if CODES.match(finding["code"])]


@pytest.fixture(scope="module")
def well(installed):
    """A machine on which all is well, with a login of alice."""
    # Other tests leave slices with what was declared at the time.
    with contextlib.closing(installed.session("alice")) as alice:
        alice.run("true")
        assert found(installed.root("fairslice apply >&2; fairslice doctor --json", check=False)) == []
        yield installed


def test_every_cause_is_in_a_round():
    assert sorted(code for codes in ROUNDS for code in codes) == sorted(CAUSES)


@pytest.mark.thorough("bookworm")
@pytest.mark.parametrize("codes", ROUNDS, ids="+".join)
def test_causes_are_found_with_their_files(well, codes):
    causes = "; ".join(CAUSES[code][0] for code in codes)
    undone = "; ".join(CAUSES[code][1] for code in codes)
    findings = found(well.root(f"{{ {causes}; }} >&2; fairslice doctor --json; {{ {undone}; }} >&2", check=False))
    assert sorted(finding["code"] for finding in findings) == sorted(codes), findings
    for finding in findings:
        code = finding["code"]
        assert finding["file"] == CAUSES[code][2], code
        # A line that is there; of what is missing, and of a directory, the file is all there is.
        assert isinstance(finding["line"], int) == (code in WITH_LINE), code


@pytest.mark.thorough("bookworm")
def test_all_is_well_again(well):
    assert found(well.root("fairslice doctor --json", check=False)) == []


@pytest.mark.thorough("bookworm")
def test_a_login_older_than_the_policy(well):
    well.put({FRAGMENT: "[logins.user.alice]\ncpu_weight = 150\noom_score_adj = 50\n"})
    try:
        findings = found(well.root("fairslice doctor --json", check=False))
        places = [(finding["code"], finding["file"], finding["line"]) for finding in findings]
        assert places == [("FS045", FRAGMENT, 2), ("FS045", FRAGMENT, 3)], findings
        assert {finding["subject"] for finding in findings} == {"user-1000.slice (alice)"}
        # What PID 1 has, apply changes; what a process has, choom.
        assert [finding["fix"]["kind"] for finding in findings] == ["apply", "command"]
    finally:
        well.root(f"rm {FRAGMENT}; fairslice apply")


@pytest.mark.thorough("bookworm")
def test_a_users_slice_that_an_administrator_has_set(well):
    answer = well.root(
        "systemctl set-property user-1000.slice CPUWeight=50; fairslice doctor --json;"
        " rm -r /etc/systemd/system.control; systemctl daemon-reload; fairslice apply >&2",
        check=False,
    )
    findings = found(answer)
    assert [(finding["code"], finding["file"], finding["line"]) for finding in findings] == [("FS012", CONTROL, 4)]


def test_settings_are_refused_where_systemd_refuses_them(installed):
    """systemd-analyze is asked as well: its lines have the file and the line."""
    file = f"{measure.UNITS}/cron.service.d/doctor.conf"
    installed.put({file: SETTINGS})
    try:
        said = installed.root("systemd-analyze verify cron.service 2>&1; true")
        findings = found(installed.root("fairslice doctor --no-policy --json", check=False))
    finally:
        installed.root(f"rm -r {measure.UNITS}/cron.service.d")
    theirs = {int(line) for line in re.findall(r"doctor\.conf:(\d+): ", said)}
    ours = {finding["line"] for finding in findings if finding["file"] == file}
    # Of a section that it does not know, systemd names the section's own line, and we its first setting.
    section = SETTINGS.splitlines().index("[Slice]") + 1
    assert ours - {section + 1} == theirs - {section}, said
    assert section in theirs and section + 1 in ours
