"""A machine that cloud-init makes from the repository and the user data of "make repo", and its upgrades from there.

One machine of its own, Debian 13 as providers make it; what it can reach is the directory that is served to it.
"""

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import measure
import packages
import pytest
from image import CLOUD, GUEST, VmError, base_image
from machine import SERVER, Machine

REPOSITORY = Path(__file__).parents[2] / "packaging/repository"
POLICY = "/etc/fairslice/policy.toml"
NEWER = "99.0"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"
FIRST_BOOT = 400  # seconds; 100 are usual on two free cores


def publish(served: Path, package: Path) -> None:
    subprocess.run([REPOSITORY, served / "repo", f"http://{SERVER}/repo", "", package], check=True)


def provider() -> str:
    """What the provider of the machine has configured beside the user's data, and a service that its image brings."""
    unit = (GUEST / "units/local-fs.service").read_text().replace("/usr/bin/fairslice-launch -- ", "")
    start = f'printf %s "$1" > {measure.UNITS}/local-fs.service; systemctl enable --quiet --now --no-block local-fs'
    settings = {
        "apt": {"preserve_sources_list": True},
        "bootcmd": [["sh", "-c", start, "sh", unit]],
        "locale": False,
        # One of RSA takes half a minute.
        "ssh_genkeytypes": ["ed25519"],
    }
    return f"#cloud-config\n{json.dumps(settings)}\n"


@pytest.fixture(scope="module")
def served(package, tmp_path_factory):
    """What the machine can reach: the repository, and the seed of cloud-init."""
    served = tmp_path_factory.mktemp("served")
    publish(served, package)
    seed = served / "seed"
    seed.mkdir()
    shutil.copy(served / "repo/user-data", seed)
    (seed / "meta-data").write_text("instance-id: a-new-machine\n")
    (seed / "vendor-data").write_text(provider())
    return served


@pytest.fixture(scope="module")
def machine(served):
    """As cloud-init leaves it at the end of the first boot."""
    with Machine(base_image(CLOUD), served=served) as machine:
        end_at = time.monotonic() + FIRST_BOOT
        while "status: running" in machine.root("timeout 60 cloud-init status --wait; cloud-init status", check=False):
            if time.monotonic() > end_at:
                raise VmError(f"cloud-init still runs after {FIRST_BOOT} s\n{machine.console_tail()}")
        yield machine


@pytest.fixture(scope="module")
def newer(package, served, tmp_path_factory):
    """The repository has a newer version, with another default policy."""
    policy = '[slice."newer.slice"]\ncpu_weight = 321'
    publish(served, packages.repackaged(package, tmp_path_factory.mktemp("newer"), NEWER, policy))


def version(machine: Machine) -> str:
    return machine.root("dpkg-query -W -f '${Version}' fairslice")


def test_cloud_init_makes_a_machine_with_the_policy_in_force(machine):
    output = machine.root("cat /var/log/cloud-init-output.log")
    status = machine.root("cloud-init status --format json; true")
    assert json.loads(status)["status"] == "done", f"{status}\n{output}"
    assert not json.loads(status)["errors"], f"{status}\n{output}"
    assert f"http://{SERVER}/repo trixie/main" in machine.root("apt-cache policy fairslice")
    for word in ("warning:", "W:", "E:"):
        assert word not in output, output
    # Started before there was a package.
    service = measure.services(machine, ["local-fs"])["local-fs"]
    assert (service.slice, service.oom_score_adj) == ("foundry-services.slice", -500), output
    assert "/usr/bin/fairslice-launch" in measure.properties(machine, "local-fs.service", "ExecStart")["ExecStart"]
    login = machine.ssh("alice", "cat /sys/fs/cgroup/user.slice/user-$(id -u).slice/cpu.weight; cat /proc/self/oom_score_adj")
    assert login.out == "100\n0\n"
    assert machine.root("fairslice doctor; echo exit $?").splitlines()[-1] == "exit 0"
    assert machine.root("fairslice apply") == "nothing to change\n"
    assert machine.root("systemctl --failed --no-legend") == ""


def test_unattended_upgrades_take_it_only_if_told(machine, newer):
    machine.root("apt-get update 2>&1")
    run = "unattended-upgrade --dry-run --debug 2>&1"
    looked, prompts = "pkgs that look like they should be upgraded: ", "Packages blacklist due to conffile prompts: "
    said = machine.root(run)
    assert f"{looked}\n" in said, said
    told = "/etc/apt/apt.conf.d/52fairslice"
    machine.put({told: 'Unattended-Upgrade::Origins-Pattern { "origin=fairslice"; };\n'})
    said = machine.root(run)
    assert f"{looked}fairslice\n" in said, said
    assert f"{prompts}[]\n" in said, said
    # With an edited policy it waits for somebody who answers dpkg's question.
    machine.root(f"cp -p {POLICY} /root/policy; echo '# edited' >> {POLICY}")
    said = machine.root(run)
    machine.root(f"mv /root/policy {POLICY}; rm {told}")
    assert f"{prompts}['fairslice$']\n" in said, said
    assert NEWER not in version(machine)


def test_upgrades_keep_the_edited_policy_or_take_the_packaged_one(machine, newer):
    def install(what: str, answer: str) -> None:
        machine.said = machine.root(f"{APT} -o Dpkg::Options::=--force-{answer} {what} 2>&1; fairslice apply 2>&1")
        # needrestart, which apt runs: what is open goes on with the module it has.
        assert "No services need to be restarted." in machine.said, machine.said
        assert "No user sessions are running outdated binaries." in machine.said, machine.said

    machine.root(f"apt-get update 2>&1; sed -i 's/^cpu_weight  = 200 .*/cpu_weight = 444/' {POLICY}; fairslice apply")
    before = version(machine)
    in_force = "systemctl show --value -p CPUWeight foundry-services.slice newer.slice"
    edited = f"{machine.root(f'md5sum {POLICY}')}444\n\n[not set]\n"
    kept = f"md5sum {POLICY}; {in_force}"
    assert machine.root(kept) == edited
    with contextlib.closing(machine.session("alice")) as session:
        session.run("true")
        install("upgrade", "confold")
        assert (version(machine), machine.root(kept)) == (NEWER, edited), machine.said
        install(f"--allow-downgrades install fairslice={before}", "confold")
        assert (version(machine), machine.root(kept)) == (before, edited), machine.said
        install("upgrade", "confnew")
        assert (version(machine), machine.root(in_force)) == (NEWER, "200\n\n321\n"), machine.said
        assert session.run("echo here") == "here\n"
    assert f"{machine.root(f'md5sum < {POLICY}.dpkg-old').split()[0]} " in edited
    assert machine.root("fairslice doctor; echo exit $?").splitlines()[-1] == "exit 0"
    assert machine.root("systemctl --failed --no-legend; dpkg --audit") == ""
