"""Boots: with the policy, everything is in force again; with a broken one, the machine still boots."""

import json
import re

import measure
import pytest

POLICY = "/etc/fairslice/policy.toml"


def test_after_a_reboot_everything_is_in_force(installed):
    installed.root("rm -rf /run/fairslice")
    installed.reboot()
    services = measure.services(installed, measure.SERVICES)
    for unit, score in {"local-fs": -500, "local-doorman": -300, "local-content": 0, "local-slm": 500}.items():
        assert services[unit], f"{unit} does not run"
        assert (services[unit].slice, services[unit].oom_score_adj) == ("foundry-services.slice", score)
    # By the boot alone: nothing was started or reloaded since.
    assert measure.cpu_weight(installed, "foundry.slice") == 200
    assert measure.cpu_weight(installed, "foundry.slice/foundry-services.slice") == 200
    login = measure.login_facts(installed.ssh("alice", measure.LOGIN_QUESTIONS).out)
    assert login.target_dir == f"{measure.TARGET_ROOT}/alice"
    assert login.cpu_weight == 100
    assert installed.root("systemctl --failed --no-legend") == ""
    answer = installed.root("fairslice status; echo exit $?", check=False)
    assert answer.splitlines()[-1] == "exit 0", answer
    assert installed.root("fairslice apply") == "nothing to change\n"


@pytest.mark.thorough
def test_with_a_broken_policy_the_machine_boots_and_says_so(installed):
    # /run is empty after a boot, and with it the last good copy: nothing is in force.
    installed.root(f"mv {POLICY} /root/good.toml; head -c 2M /dev/urandom > {POLICY}")
    try:
        installed.reboot(orderly=False)
        services = measure.services(installed, measure.SERVICES)
        assert all(services.values())
        assert services["local-fs"].slice == "system.slice"
        assert measure.drop_ins(installed) == {}
        login = measure.login_facts(installed.ssh("alice", measure.LOGIN_QUESTIONS).out)
        assert login.process.slice == "user-1000.slice"
        said = installed.root("journalctl -b -o cat -p err -t fairslice-generator")
        assert POLICY in said
        assert installed.root("systemctl --failed --no-legend") == ""
    finally:
        installed.root(f"mv /root/good.toml {POLICY}; systemctl daemon-reload")
    # Repaired, a reload and a restart put it in force without another boot.
    installed.root(f"systemctl restart {' '.join(measure.SERVICES)}")
    services = measure.services(installed, measure.SERVICES)
    assert {process.slice for process in services.values()} == {"foundry-services.slice"}


@pytest.mark.thorough("bookworm")
def test_an_argument_of_the_kernel_that_takes_controllers_away_is_named(installed):
    """The machine has no boot loader: what is to be taken out of its files is taken out of what QEMU is given."""

    def found() -> set[tuple[str, str]]:
        findings = json.loads(installed.root("fairslice doctor --json; true"))["findings"]
        fixes = {(one["code"], one["fix"]["text"]) for one in findings}
        return {(code, fix) for code, fix in fixes if code in ("FS020", "FS061")}

    try:
        for argument, code, printed in [
            ("systemd.unified_cgroup_hierarchy=0", "FS061", r"take (\S+) out of GRUB_CMDLINE_LINUX in /etc/default/grub, "),
            ("cgroup_disable=memory", "FS020", r"take (memory) out of cgroup_disable= on the kernel's command line "),
        ]:
            installed.arguments = [argument]
            installed.reboot()
            fixes = [fix for of, fix in found() if of == code]
            assert len(fixes) == 1, fixes
            named = re.match(printed, fixes[0])[1]
            installed.arguments = [argument for argument in installed.arguments if named not in argument]
        assert installed.arguments == []
    finally:
        installed.arguments = []
        installed.reboot()
    assert found() == set()
