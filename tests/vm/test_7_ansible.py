"""The role of packaging/ansible by its example, on two machines that differ in their memory.

Debian 13 as providers make it, without cloud-init's part; what they can reach is the repository that is served.
"""

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import measure
import pytest
from image import CLOUD, GUEST, base_image
from machine import SERVER, Machine

ROOT = Path(__file__).parents[2]
PLAYBOOK = ROOT / "packaging/ansible/playbook.yml"
REPOSITORY = ROOT / "packaging/repository"
TOOLS = ROOT / "target/tools/ansible"
MEMORY = {"small": 1024, "large": 2048}
SITE = "/etc/fairslice/policy.d/50-site.toml"
PLAY = 1200  # seconds; 60 are usual

POLICY = """
[slice."foundry-services.slice"]
launcher = true
memory_max = "70%"

[logins]
total_memory_high = "40%"
total_memory_max = "50%"
"""
EDITED = POLICY.replace('total_memory_max = "50%"', 'total_memory_max = "60%"')


@dataclass(frozen=True)
class Played:
    """What a run came to: Ansible's status and text, and of each machine what it counted and what the role said."""

    status: int
    text: str
    counted: dict[str, dict[str, int]]
    said: dict[str, list[str]]

    def each(self, what: str) -> list[int]:
        return [self.counted[name][what] for name in MEMORY]


class Machines:
    def __init__(self, machines: dict[str, Machine], directory: Path, key: str):
        self.machines, self.directory, self.key = machines, directory, key
        hosts = {name: self.reached(machine) for name, machine in machines.items()}
        self.inventory = directory / "inventory.json"
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts}}))

    @staticmethod
    def reached(machine: Machine) -> dict:
        # Without a port of its own, one machine would be reached over the other's connection.
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": machine.port,
            "ansible_user": "root",
            "ansible_ssh_common_args": " ".join(machine.ssh_options("root")),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def play(self, policy: str, *options: str) -> Played:
        variables = {
            "fairslice_repository_url": f"http://{SERVER}/repo",
            "fairslice_repository_key": self.key,
            "fairslice_policy": {SITE.removeprefix("/etc/fairslice/"): policy},
            "fairslice_restart": True,
        }
        environment = {
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_TIMEOUT": "120",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{TOOLS}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(TOOLS),
        }
        words = ["ansible-playbook", "-i", self.inventory, "-e", json.dumps(variables), *options, PLAYBOOK]
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=PLAY,
        )  # fmt: skip
        print(done.stdout)
        return Played(done.returncode, done.stdout, counted(done.stdout), said(done.stdout))

    def each(self, script: str) -> list[str]:
        return [machine.root(script) for machine in self.machines.values()]


def counted(text: str) -> dict[str, dict[str, int]]:
    """Ansible's recap."""
    lines = re.findall(r"^(\w+) +: (ok=.*)$", text, re.MULTILINE)
    return {name: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)} for name, line in lines}


def said(text: str) -> dict[str, list[str]]:
    _, _, after = text.partition("Say what is wrong with it, and what it changes]")
    messages = re.findall(r"^\w+: \[(\w+)\] => (\{.*?^\})", after.partition("\nTASK ")[0], re.MULTILINE | re.DOTALL)
    return {name: json.loads(message)["msg"] for name, message in messages}


@pytest.fixture(scope="module")
def machines(package, tmp_path_factory):
    """With a service each that was there before."""
    served, directory = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("ansible")
    subprocess.run([REPOSITORY, served / "repo", f"http://{SERVER}/repo", "", package], check=True)
    unit = (GUEST / "units/local-fs.service").read_text().replace("/usr/bin/fairslice-launch -- ", "")
    with contextlib.ExitStack() as stack:
        booted = {}
        for name, memory in MEMORY.items():
            machine = Machine(base_image(CLOUD), memory=memory, served=served)
            machine.arguments.append("cloud-init=disabled")
            booted[name] = stack.enter_context(machine)
            machine.put({f"{measure.UNITS}/local-fs.service": unit})
            machine.root("systemctl daemon-reload; systemctl start local-fs")
        yield Machines(booted, directory, (served / "repo/fairslice-archive-keyring.asc").read_text())


def in_force(machines: Machines) -> list[dict[str, int]]:
    """What the kernel holds, of each machine, in bytes."""
    files = "user.slice/memory.high user.slice/memory.max foundry.slice/foundry-services.slice/memory.max"
    found = machines.each(f"cd /sys/fs/cgroup; cat {files}")
    return [dict(zip(("high", "max", "services"), map(int, text.split()), strict=True)) for text in found]


def parts(machines: Machines, high: float, max: float, services: float) -> list[dict[str, int]]:
    """Parts of each machine's memory, in whole pages."""
    wanted = {"high": high, "max": max, "services": services}
    totals = [int(text) * 1024 for text in machines.each("awk '/^MemTotal/ { print $2 }' /proc/meminfo")]
    assert totals[1] > totals[0] * 1.5, totals
    return [{name: int(total * part) // 4096 * 4096 for name, part in wanted.items()} for total in totals]


def everything(machines: Machines) -> list[set[str]]:
    """What a run could change or leave behind, of each machine."""
    kept = "/etc $(ls -d /run/fairslice /run/systemd/generator* /run/systemd/system.control /var/lib/fairslice 2>/dev/null)"
    script = f"find {kept} -type f -exec md5sum {{}} +; dpkg-query -W; grep fairslice /proc/mounts; find /tmp -path '*ansible*'"
    return [set(text.splitlines()) for text in machines.each(f"{script}; true")]


def differences(machines: Machines, before: list[set[str]]) -> list[set[str]]:
    return [old ^ new for old, new in zip(before, everything(machines), strict=True)]


NONE = [set(), set()]


def test_check_mode_on_a_new_machine_says_what_would_come(machines):
    before = everything(machines)
    played = machines.play(POLICY, "--check", "--diff")
    assert played.status == 0
    # Key, repository and package.
    assert played.each("changed") == [3, 3]
    assert "The package would be installed" in played.text
    assert f"+URIs: http://{SERVER}/repo" in played.text
    assert differences(machines, before) == NONE


def test_a_run_puts_the_policy_in_force_with_the_parts_of_each_machine(machines):
    played = machines.play(POLICY)
    assert played.status == 0
    assert min(played.each("changed")) > 3
    assert in_force(machines) == parts(machines, 0.4, 0.5, 0.7)
    for machine in machines.machines.values():
        # Started before there was a package.
        service = measure.services(machine, ["local-fs"])["local-fs"]
        assert (service.slice, service.oom_score_adj) == ("foundry-services.slice", -500)
        launched = measure.properties(machine, "local-fs.service", "ExecStart")["ExecStart"]
        assert "/usr/bin/fairslice-launch" in launched, launched
    assert machines.each("fairslice apply") == ["nothing to change\n"] * 2
    assert machines.each("fairslice doctor > /tmp/found || cat /tmp/found; rm /tmp/found") == ["", ""]


def test_the_next_run_changes_nothing(machines):
    before = everything(machines)
    for options in ([], ["--check"]):
        played = machines.play(POLICY, *options)
        assert (played.status, played.each("changed")) == (0, [0, 0])
        assert [lines[-1] for lines in played.said.values()] == ["nothing to change"] * 2
    assert differences(machines, before) == NONE


def test_check_mode_says_what_the_next_run_changes(machines):
    before, held = everything(machines), in_force(machines)
    checked = machines.play(EDITED, "--check", "--diff")
    # The file, and what it comes to.
    assert (checked.status, checked.each("changed")) == (0, [2, 2])
    assert '-total_memory_max = "50%"\n+total_memory_max = "60%"\n' in checked.text
    assert (differences(machines, before), in_force(machines)) == (NONE, held)
    for name, values in zip(MEMORY, held, strict=True):
        lines = checked.said[name]
        assert lines[lines.index("systemd") :] == [
            "systemd",
            "  daemon-reload: the policy comes to other drop-ins for user.slice",
            "logins",
            "  the next ones get what the policy declares now",
            "user.slice",
            f"  total_memory_max  {values['max']} -> 60%  (daemon-reload)",
        ]
    played = machines.play(EDITED)
    assert (played.status, played.each("changed")) == (0, [2, 2])
    assert played.said == checked.said
    assert in_force(machines) == parts(machines, 0.4, 0.6, 0.7)


def test_a_policy_with_an_error_replaces_nothing(machines):
    before, held = everything(machines), in_force(machines)
    broken = EDITED.replace("total_memory_high", "total_memory_hihg")
    for options in (["--check"], []):
        played = machines.play(broken, *options)
        assert (played.status, played.each("failed"), played.each("changed")) == (2, [1, 1], [0, 0])
        assert played.text.count(f'{SITE}:6:1: unknown key \\"total_memory_hihg\\"') >= 2
    assert (differences(machines, before), in_force(machines)) == (NONE, held)
    assert machines.each("fairslice doctor > /tmp/found || cat /tmp/found; rm /tmp/found") == ["", ""]
