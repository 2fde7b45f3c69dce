"""Right beside the pods of Kubernetes: what all of them weigh is the kubelet's to set, and changes with the node. It is
counted as it is, and a slice of the policy's keeps its floor.

kubepods.slice is made as the kubelet makes it with systemd as its driver: a transient slice, whose CPUWeight= it sets
at runtime, with a pod in one of its slices."""

import contextlib
import json
import time

import measure
import pytest

SERVICES = "foundry.slice/foundry-services.slice"
POD = "kubepods-burstable-pod1a2b.slice"
FLOOR = 0.40
OWN, SYSTEM = 4000, 100
# root, who asks the questions while all of them are busy, weighs as much, and is idle.
USER = 5000
# By the kubelet's formula, on nodes of 1, 16 and 64 CPUs.
WEIGHTS = [39, 625, 2500]
POLICY = f"""
[slice."foundry-services.slice"]
cpu_weight = {OWN}
cpu_floor = "{FLOOR:.0%}"
[logins]
total_weight = "sum"
cpu_weight = {USER}
"""
LOADS = "-f 'load .*--bus[y]'"

pytestmark = pytest.mark.thorough


def left(pods: int) -> int:
    """What the floor leaves to the logins."""
    return round(OWN / FLOOR) - OWN - SYSTEM - pods


def set_weight(machine, pods: int):
    machine.root(f"systemctl set-property --runtime kubepods.slice CPUWeight={pods}")
    assert measure.cpu_weight(machine, "kubepods.slice") == pods


def wait_for(machine, weight: int):
    deadline = time.monotonic() + 20
    while (now := measure.cpu_weight(machine, "user.slice")) != weight:
        assert time.monotonic() < deadline, f"user.slice weighs {now}, not {weight}"
        time.sleep(0.3)


def predicted(machine, groups: list[str]) -> list[float]:
    """What "explain share" says of these while all of them are busy, of what they get together."""
    units = [group.rsplit("/", 1)[-1] for group in groups]
    said = machine.root(f"fairslice explain share --json --busy {','.join(units)}")
    shares = {one["cgroup"]: one["share"] for one in json.loads(said)["cgroups"]}
    found = [shares[f"/{group}"] for group in groups]
    return [share / sum(found) for share in found]


@pytest.fixture(scope="module")
def node(installed):
    fragment = "/etc/fairslice/policy.d/50-node.toml"
    installed.put({fragment: POLICY})
    measure.make_pid1_write_weights(installed)
    load = "-p Type=exec load --standby --busy 2 --bound"
    installed.root(
        f"systemd-run --quiet --unit=pod --slice={POD} {load};"
        f" systemd-run --quiet --unit=beside --slice=foundry-services.slice {load};"
        f" systemd-run --quiet --unit=host {load}"
    )
    set_weight(installed, WEIGHTS[0])
    yield installed
    installed.root(
        f"systemctl stop pod beside host; systemctl stop kubepods.slice; rm -r {fragment}"
        " /run/systemd/system.control/kubepods.slice.d; systemctl daemon-reload"
    )
    measure.make_pid1_write_weights(installed)
    installed.root("systemctl revert user.slice; rm -rf /run/fairslice/properties/user.slice")


@pytest.mark.alone
def test_shares_and_a_floor_beside_pods_whose_weight_changes(node):
    with contextlib.ExitStack() as logged_in:
        for user in ["alice", "bob"]:
            session = logged_in.enter_context(contextlib.closing(node.session(user)))
            session.run("load --standby --busy 2 --bound > /dev/null & true")
        groups = [SERVICES, "kubepods.slice", "user.slice", "system.slice"]
        for pods in [*WEIGHTS, WEIGHTS[0]]:
            set_weight(node, pods)
            # What the kubelet changes tells nobody. A login does see it, and so does apply.
            if pods == WEIGHTS[1]:
                with contextlib.closing(node.session("alice")) as login:
                    login.run("true")
            else:
                node.root("fairslice apply --logins")
            wait_for(node, left(pods))
            expected = predicted(node, groups)
            measured = measure.busy_shares(node, groups, LOADS)
            print(f"kubepods.slice {pods}: predicted {expected}, measured {measured}")
            assert measured.cpus > 1.7
            assert measured.near(expected), f"{pods}: predicted {expected}, measured {measured}"
            assert abs(measured.shares[0] - FLOOR) < 0.03, f"{pods}: {measured}"
        node.root("pkill -u alice,bob -x load")


def test_the_doctor_says_when_the_pods_have_moved_the_floor(node):
    with contextlib.closing(node.session("alice")) as first, contextlib.closing(node.session("bob")) as other:
        first.run("true")
        other.run("true")
        wait_for(node, left(WEIGHTS[0]))
        assert "FS046" not in node.root("fairslice doctor; true")
        set_weight(node, WEIGHTS[2])
        assert "FS046" in node.root("fairslice doctor; true")
        node.root("fairslice apply --logins")
        assert "FS046" not in node.root("fairslice doctor; true")
        set_weight(node, WEIGHTS[0])
