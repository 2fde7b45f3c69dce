"""Broken policies, one after another: reload, service start and login work each time, what was
in force stays in force, and the journal says what is wrong."""

from dataclasses import dataclass

import measure
import pytest

pytestmark = pytest.mark.thorough("bookworm")

POLICY = "/etc/fairslice/policy.toml"

EVERY_KEY_WRONG = """
[slice."foundry-services.slice"]
match = 7
cpu_weight = "heavy"
memory_high = true
memory_min = [1]
tasks_max = 1.5
[service.local-fs]
oom_score_adj = "low"
set_by = 3
[logins]
cpu_weight = {}
total_weight = "some"
oom_score_adj = []
[private_dir.CARGO_TARGET_DIR]
path = 4
only_if = false
"""


def write(text: str) -> str:
    return f"cat > {POLICY} <<'END'\n{text}\nEND\n"


@dataclass
class Broken:
    """How to break the policy, and words of which one must be in each message."""

    make: str
    says: str


# How each of these and every other mistake is read, tests/generator shows.
BROKEN = {
    "missing": Broken("true", "No such file"),
    "ten MiB": Broken(f"head -c 10M /dev/zero | tr '\\0' '#' > {POLICY}", "1 MiB"),
    "not UTF-8": Broken(f"printf 'a = \"\\377\\376\"\\n' > {POLICY}", "UTF-8"),
    "every key wrong": Broken(write(EVERY_KEY_WRONG), "match = 7"),
    "a fifo": Broken(f"mkfifo {POLICY}", "regular file"),
    "unreadable": Broken(f"ln -s policy.toml {POLICY}", "cannot be read"),
}

@pytest.fixture(scope="module")
def good(installed):
    installed.root(f"cp -p {POLICY} /tmp/good.toml; systemctl daemon-reload")
    yield installed
    installed.root(f"rm -rf {POLICY}; cp -p /tmp/good.toml {POLICY}; systemctl daemon-reload")
    # Not only the last good copy: the policy itself is in force again.
    assert installed.root("fairslice check; echo exit $?").splitlines()[-1] == "exit 0"


def everything_at_once(machine, make: str) -> dict[str, str]:
    """Breaks the policy, reloads, starts a service, logs in, asks `check`: what each came to."""
    answer = machine.root(
        f"""cd /; rm -rf {POLICY}
{make}
cursor=$({measure.JOURNAL_MARK})
echo "@reload $(timeout 60 systemctl daemon-reload 2>&1; echo exit $?)"
echo "@start $(timeout 60 systemctl restart local-content 2>&1; echo exit $?)"
echo "@login $(timeout 60 su -s /bin/sh -c 'echo $CARGO_TARGET_DIR' alice 2>&1; echo exit $?)"
echo "@check $(timeout 60 fairslice check 2>&1; echo exit $?)"
echo "@place $(systemctl show --value -p ControlGroup local-content)"
echo "@weight $(systemctl show --value -p CPUWeight foundry-services.slice)"
journalctl --sync
journal=$(journalctl -o short --after-cursor="$cursor")
echo "@generator $(echo "$journal" | grep ' fairslice-generator')"
echo "@module $(echo "$journal" | grep ' pam_fairslice')"
"""
    )
    found = (part.partition(" ") for part in f"\n{answer}".split("\n@")[1:])
    return {question: said.strip() for question, _, said in found}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_policy_harms_nothing_and_is_reported(good, case):
    found = everything_at_once(good, BROKEN[case].make)
    assert found["reload"] == "exit 0"
    assert found["start"] == "exit 0"
    # The last good policy holds: for services, the slice, and logins.
    assert found["login"].splitlines() == [f"{measure.TARGET_ROOT}/alice", "exit 0"]
    assert found["place"] == "/foundry.slice/foundry-services.slice/local-content.service"
    assert found["weight"] == "200"
    for who in ("check", "generator", "module"):
        assert POLICY in found[who], who
        assert BROKEN[case].says in found[who], who
    assert found["check"].splitlines()[-1] == "exit 1"
    assert "panicked" not in str(found)


def test_check_finds_every_wrong_key_not_only_the_first(good):
    good.root(f"rm -rf {POLICY}; {BROKEN['every key wrong'].make}")
    answer = good.root("fairslice check 2>&1 || true")
    for line in (3, 4, 5, 6, 7, 9, 10, 12, 13, 14, 16, 17):
        assert f"{POLICY}:{line}:" in answer, f"line {line}"


def test_a_broken_fragment_is_left_out_and_the_rest_holds(good):
    fragment = "/etc/fairslice/policy.d/60-broken.toml"
    found = everything_at_once(
        good,
        f"cp /tmp/good.toml {POLICY}; printf '[slice.\"foundry-services.slice\"]\\ncpu_wieght = 5\\n' > {fragment}",
    )
    good.root(f"rm {fragment}")
    assert found["weight"] == "200"
    assert found["login"].splitlines() == [f"{measure.TARGET_ROOT}/alice", "exit 0"]
    for who in ("check", "generator", "module"):
        assert fragment in found[who], who
        assert "cpu_weight" in found[who], "the nearest right spelling"


def test_what_this_machine_lacks_is_a_warning_and_the_rest_holds(good):
    text = '[slice."foundry-services.slice"]\\nmatch = ["local-*"]\\ncpu_weight = 333\\nmemory_high = "64G"\\n'
    found = everything_at_once(
        good, f"printf '{text}[logins.group.no-such-group]\\ncpu_weight = 50\\n' > {POLICY}"
    )
    assert found["weight"] == "333"
    assert found["start"] == "exit 0"
    assert found["login"].splitlines()[-1] == "exit 0"
    assert "no-such-group" in found["check"]
    assert "memory_high" in found["check"]


def test_ssh_works_with_a_policy_that_blocks_whoever_opens_it(good):
    good.root(f"rm -rf {POLICY}; cp /tmp/good.toml {POLICY}; systemctl daemon-reload; rm {POLICY}; mkfifo {POLICY}")
    assert good.ssh("alice", "echo $CARGO_TARGET_DIR").out == f"{measure.TARGET_ROOT}/alice\n"
