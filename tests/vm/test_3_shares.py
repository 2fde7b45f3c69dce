"""What "fairslice explain share" predicts is what the kernel gives: random trees of slices and services, the
whole machine busy in them.

Each service has a thread bound to each CPU. With threads that the kernel's load balancer moves, which goes by
weight, most trees are as predicted too, but not those in which a cgroup of great weight is throttled, or a
light one has to be on both CPUs to get what is its: those were up to 20 points off.
"""

import json
import random
from dataclasses import dataclass

import pytest
from machine import Machine

SEED = 7
TREES = 10
DEPTH = 5  # of a service at most, its tree's own slice being 1
THREADS = 2  # of each service: one for each CPU
SETTLE, SECONDS = 0.5, 3
TOLERANCE = 0.03
UNITS = "/run/systemd/system"


@dataclass
class Tree:
    """Unit files of one top-level slice and what is in it."""

    name: str
    units: dict[str, str]

    @property
    def services(self) -> list[str]:
        return [name for name in self.units if name.endswith(".service")]


def random_tree(rng: random.Random, name: str) -> Tree:
    tree = Tree(f"{name}.slice", {f"{name}.slice": "[Slice]\n"})
    grow(rng, tree, name, rng.randint(3, 12), depth=2)
    return tree


def grow(rng: random.Random, tree: Tree, slice: str, leaves: int, depth: int) -> None:
    """Puts so many services into a slice, some of them by way of slices in it."""
    children = rng.randint(min(2, leaves), min(4, leaves)) if depth < DEPTH else leaves
    parts = [1] * children
    for _ in range(leaves - children):
        parts[rng.randrange(children)] += 1
    for number, part in enumerate(parts):
        name = f"{slice}-{'abcdefghijkl'[number]}"
        if depth < DEPTH and (part > 1 or rng.random() < 0.3):
            tree.units[f"{name}.slice"] = f"[Slice]\n{settings(rng)}"
            grow(rng, tree, name, part, depth + 1)
        else:
            lines = f"Slice={slice}.slice\nExecStart=/usr/local/bin/load --standby --busy {THREADS} --bound\n{settings(rng)}"
            # Ended by SIGKILL, which is no failure of theirs.
            tree.units[f"{name}.service"] = f"[Service]\nType=exec\nSuccessExitStatus=SIGKILL\n{lines}"


def settings(rng: random.Random) -> str:
    """Small weights are as likely as great ones; some are idle, some limited, some have none."""
    kind = rng.random()
    if kind < 0.1:
        return "CPUWeight=idle\n"
    weight = "" if kind < 0.2 else f"CPUWeight={round(10 ** rng.uniform(0, 4))}\n"
    return weight + (f"CPUQuota={rng.randint(5, 40)}%\n" if rng.random() < 0.2 else "")


def script(tree: Tree) -> str:
    """Starts a tree, has fairslice predict while all of it waits, then sets it off and looks twice."""
    cgroup = f"/sys/fs/cgroup/{tree.name}"
    return (
        "look() { cat /proc/uptime;"
        f' find {cgroup} -path "*.service/cpu.stat" -exec grep -H ^usage_usec {{}} +; }};'
        f" systemctl start {' '.join(tree.services)} && sleep 0.3;"
        f" fairslice explain share --json --busy {','.join(tree.services)}; echo @;"
        f" find {cgroup} -name cgroup.procs -exec cat {{}} + | xargs kill -USR1;"
        f" sleep {SETTLE}; look; sleep {SECONDS}; look; echo 1 > {cgroup}/cgroup.kill"
    )


@dataclass
class Leaf:
    cgroup: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.measured - self.predicted


def leaves(tree: Tree, answer: str) -> list[Leaf]:
    """Each service's part of the machine's CPU time, as predicted and as it was.

    An emulated machine loses time to interrupts, which is not there to be shared. A limit is of the time that
    passes, and stays what it is; so the others are measured by what they got together.
    """
    prediction, looks = answer.split("@\n")
    lines = [line.replace(":usage_usec ", " ").split() for line in looks.splitlines()]
    half = len(lines) // 2
    (start, idle_before), (end, idle_after) = (map(float, lines[at]) for at in (0, half))
    before, after = dict(lines[1:half]), dict(lines[half + 1 :])
    assert before.keys() == after.keys() and len(before) == len(tree.services)
    predicted = json.loads(prediction)
    passed = predicted["cpus"] * (end - start)
    shares = {entry["cgroup"]: entry["share"] for entry in predicted["cgroups"]}
    limited = [entry["cgroup"] for entry in predicted["cgroups"] if entry["cap"]]
    found = []
    for path in sorted(after):
        cgroup = path.removeprefix("/sys/fs/cgroup").removesuffix("/cpu.stat")
        found.append(Leaf(cgroup, shares[cgroup], (int(after[path]) - int(before[path])) / 1e6 / passed))
    free = [leaf for leaf in found if not any(f"{leaf.cgroup}/".startswith(f"{above}/") for above in limited)]
    # A CPU that was idle was not used by those who could have, and that is no loss of the emulator's.
    if free and (idle_after - idle_before) / passed < TOLERANCE:
        lost = sum(leaf.predicted for leaf in free) / sum(leaf.measured for leaf in free)
        for leaf in free:
            leaf.measured *= lost
    return found


@pytest.fixture
def trees(installed: Machine):
    rng = random.Random(SEED)
    trees = [random_tree(rng, f"t{number}") for number in range(TREES)]
    files = {name: text for tree in trees for name, text in tree.units.items()}
    installed.put({f"{UNITS}/{name}": text for name, text in files.items()})
    installed.root("systemctl daemon-reload")
    yield trees
    installed.root(
        f"for tree in {' '.join(tree.name for tree in trees)}; do"
        " ! [ -e /sys/fs/cgroup/$tree ] || echo 1 > /sys/fs/cgroup/$tree/cgroup.kill; done; sleep 0.5;"
        f" systemctl stop {' '.join(tree.name for tree in trees)};"
        f" cd {UNITS} && rm {' '.join(files)}; systemctl daemon-reload"
    )


@pytest.mark.alone
@pytest.mark.thorough
def test_ten_random_trees_share_as_predicted(installed, trees, capsys):
    rows, worst = [], 0.0
    for tree in trees:
        rows.append(f"{tree.name}: {len(tree.services)} busy services")
        found = leaves(tree, installed.root(script(tree)))
        if any(abs(leaf.error) > TOLERANCE for leaf in found):
            # The emulator's CPUs are not its own: what somebody else had of them is not the scheduler's doing.
            rows.append("  measured once more")
            found = leaves(tree, installed.root(script(tree)))
        for leaf in found:
            worst = max(worst, abs(leaf.error))
            mark = "  !" if abs(leaf.error) > TOLERANCE else ""
            rows.append(
                f"  {leaf.cgroup:<56} predicted {leaf.predicted:.3f}  measured {leaf.measured:.3f}"
                f"  {leaf.error:+.3f}{mark}"
            )
    with capsys.disabled():
        print("", f"seed {SEED}", *rows, f"largest deviation {worst:.3f}", sep="\n")
    assert worst <= TOLERANCE, f"a share is {worst:.3f} from what was predicted"
