"""Every command is asked of drawn units on a real machine, and has to say what systemctl and the kernel say.

tests/one_truth.rs asks the same of a hundred machines that are files; here PID 1 has read the drop-ins itself.
"""

import json
import random
import re

import measure
import pytest

FRAGMENT = "/etc/fairslice/policy.d/50-truth.toml"
SERVICES = [f"truth-{name}" for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")]
INSTANCES = ["crowd@1", "crowd@2"]
SLICES = ["truth.slice", "truth-deep.slice"]
UNIT = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
PROPERTIES = ["Slice", "OOMScoreAdjust", "CPUWeight", "MemoryMax"]
SETTING = dict(zip(["slice", "oom_score_adj", "cpu_weight", "memory_max"], PROPERTIES, strict=True))
# What PID 1 takes, and what it refuses.
LINES = [
    "Slice=special.slice", "Slice=truth.slice", "Slice=no slice", "OOMScoreAdjust=-250", "OOMScoreAdjust=150",
    "OOMScoreAdjust=2000", "CPUWeight=70", "CPUWeight=900", "CPUWeight=20000", "CPUWeight=idle", "MemoryMax=64M",
    "MemoryMax=900M", "MemoryMax=5%", "MemoryMax=many", "MemoryMax=infinity",
]  # fmt: skip
DROP_INS = ["10-early.conf", "40-fairslice.conf", "50-mine.conf", "zz my own.conf"]


def policy(any: random.Random) -> str:
    text = ""
    for slice, match in zip(SLICES, ['"truth-*"', '"crowd@"'], strict=True):
        text += f'[slice."{slice}"]\nmatch = [{match}]\ncpu_weight = {any.choice([60, 300])}\n'
    for service in SERVICES:
        called = any.choice([service, f"{service}-too"])
        text += f"[service.{called}]\noom_score_adj = {any.choice([-500, 0, 300])}\n"
        if any.random() < 0.6:
            text += f"cpu_weight = {any.choice([30, 400])}\n"
        if any.random() < 0.4:
            text += 'memory_max = "512M"\n'
    return text


def drawn(any: random.Random) -> dict[str, str]:
    files = {FRAGMENT: policy(any), f"{measure.UNITS}/crowd@.service": UNIT}
    for service in SERVICES:
        own = f"{any.choice(LINES)}\n" if any.random() < 0.3 else ""
        files[f"{measure.UNITS}/{service}.service"] = f"{UNIT}{own}[Install]\nAlias={service}-too.service\n"
    for unit in [f"{name}.service" for name in [*SERVICES, "truth-", "crowd@1", "crowd@"]]:
        # PID 1 reads a drop-in of an alias too.
        called = unit.replace(".service", "-too.service") if any.random() < 0.2 and unit[:-8] in SERVICES else unit
        for name in DROP_INS:
            if any.random() < (0.06 if name.startswith("40") else 0.2):
                lines = "\n".join(any.sample(LINES, 2))
                files[f"{measure.UNITS}/{called}.d/{name}"] = f"# by hand\n[Service]\n{lines}\n"
    return files


def changes(any: random.Random) -> str:
    """What is done to the units once they run."""
    script = ""
    for service in any.sample(SERVICES, 4):
        script += any.choice([
            f"systemctl set-property --runtime {service} CPUWeight=77\n",
            f"systemctl set-property {service} MemoryMax=300M\n",
            f"echo 55 > /sys/fs/cgroup/$(systemctl show --value -p ControlGroup {service})/cpu.weight\n",
            f"echo 444 > /proc/$(systemctl show --value -p MainPID {service})/oom_score_adj\n",
            # What is left of an earlier start, in a cgroup that PID 1 does not take for the service's.
            f"mkdir -p /sys/fs/cgroup/left.slice/{service}.service; sleep 1234 < /dev/null > /dev/null 2>&1 &"
            f" echo $! > /sys/fs/cgroup/left.slice/{service}.service/cgroup.procs\n",
            f"printf '[Service]\\nCPUWeight=99\\n' > {measure.UNITS}/{service}.service.d/60-late.conf\n",
        ])  # fmt: skip
    directories = " ".join(f"{measure.UNITS}/{service}.service.d" for service in SERVICES)
    return f"mkdir -p {directories}\n{script}systemctl daemon-reload"


def clean(machine) -> None:
    names = " ".join([*SERVICES, *INSTANCES])
    machine.root(
        f"systemctl stop {names}; pkill -x -f 'sleep 1234'; cd {measure.UNITS};"
        " systemctl disable --quiet 'truth-*' 2> /dev/null; rm -rf truth-* crowd@*;"
        f" rm -rf {FRAGMENT} {measure.UNITS}.control /run/systemd/system.control/truth-*;"
        " systemctl daemon-reload; sleep 0.5; rmdir /sys/fs/cgroup/left.slice/* /sys/fs/cgroup/left.slice;"
        " fairslice apply; true"
    )


# Each release has a machine of its own.
@pytest.fixture(params=[pytest.param(1, marks=pytest.mark.thorough), pytest.param(4, marks=pytest.mark.thorough("bookworm"))])
def machine_of_seed(installed, request):
    any = random.Random(request.param)
    try:
        installed.put(drawn(any))
        names = " ".join([*SERVICES, *INSTANCES])
        installed.root(
            f"systemctl enable --quiet {' '.join(SERVICES)}; systemctl daemon-reload; systemctl start {names};"
            f" {changes(any)}"
        )
        yield installed
    finally:
        clean(installed)


def facts(machine) -> dict[str, dict[str, str]]:
    """By unit: what systemctl shows, with what the kernel has as `live`."""
    names = " ".join(f"{name}.service" for name in [*SERVICES, *INSTANCES])
    shown = machine.root(f"systemctl show -p Id,Names,MainPID,ControlGroup,{','.join(PROPERTIES)} {names}")
    units = {}
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        units[unit["Id"]] = unit
    script = "".join(
        f"cd /sys/fs/cgroup{unit['ControlGroup']}; pid={unit['MainPID']};"
        f" echo {name} $(cat /proc/$pid/oom_score_adj) $(grep -q 1 cpu.idle && echo 0 || cat cpu.weight || echo -) $(cat memory.max || echo -);"
        for name, unit in units.items()
    )
    for line in machine.root(f"exec 2> /dev/null; {script}").splitlines():
        name, score, weight, most = line.split()
        slice = units[name]["ControlGroup"].rsplit("/", 2)[-2]
        units[name]["live"] = {"slice": slice, "oom_score_adj": score, "cpu_weight": weight, "memory_max": most}
    return units


def ask(machine, command: str) -> dict:
    return json.loads(machine.root(f"fairslice {command} --json; true"))


def planned(plan: dict, name: str) -> set[str]:
    """The settings that apply changes, leaves as others have them, or needs a restart for."""
    units = [unit for unit in plan["units"] if unit["unit"] == name]
    said = {change["setting"] for unit in units for change in unit["changes"]}
    said |= {left["setting"] for left in plan["left"] if left["unit"] == name and left["differs"]}
    restarts = [restart["why"] for restart in plan["restarts"] if restart["unit"] == name]
    said |= {"slice" if why.startswith("runs in ") else why.split()[0] for why in restarts}
    return said


def same(said: str, has: str) -> bool:
    """Said for people, as 512M or 754 in /truth.slice/truth-delta.service; has as PID 1 or the kernel prints it."""
    amount = re.fullmatch(r"(\d+)([KMG])", said)
    said = str(int(amount[1]) << {"K": 10, "M": 20, "G": 30}[amount[2]]) if amount else said
    placed = re.fullmatch(r"\d+ in (?:/.*)?/([^/]+\.slice)/[^/]+", said)
    said = placed[1] if placed else said
    # Whatever cpu.weight says, cpu.idle leaves none.
    kernels = {"infinity": "max", "idle": "0"}
    return kernels.get(said, said) == kernels.get(has, has)


def test_every_command_says_what_systemctl_and_the_kernel_say(machine_of_seed):
    machine = machine_of_seed
    units = facts(machine)
    status = {unit["unit"]: unit for unit in ask(machine, "status")["units"]}
    plan, doctor = ask(machine, "apply --dry-run"), ask(machine, "doctor")["findings"]
    wrong, compared = [], 0
    for name, known in units.items():
        settings = {setting["setting"]: setting for setting in status[name]["settings"]}
        differing = {key for key, setting in settings.items() if not setting["holds"]}
        # What the policy does not declare, apply writes too where PID 1 has it otherwise than the kernel.
        to_do = planned(plan, name) & settings.keys()
        if differing != to_do:
            wrong.append(f"{name}: status has {differing} otherwise than declared, apply {to_do}")
        about = [finding for finding in doctor if re.search(rf"(^|, ){re.escape(name)}( |,|$)", finding["subject"])]
        if differing and not about:
            wrong.append(f"{name}: status has {differing} otherwise than declared, doctor finds nothing")
        chains = {chain["setting"]: chain["links"] for chain in ask(machine, f"explain unit {name}")["chains"]}
        for key, setting in settings.items():
            compared += 1
            if setting["live"] != known["live"][key]:
                wrong.append(f"{name} {key}: status has {setting['live']}, the kernel {known['live'][key]}")
            for link in chains[key]:
                has = known[SETTING[key]] if link["link"] == "property" else known["live"][key]
                if link["link"] in ("property", "cgroup", "process") and not same(link["value"], has):
                    wrong.append(f"{name} {key}: explain unit has {link}, and it is {has}")
    # By another name it is the same unit.
    for name in SERVICES[:2]:
        for command, part in [("status", "units"), ("explain unit", "chains")]:
            if ask(machine, f"{command} {name}")[part] != ask(machine, f"{command} {name}-too")[part]:
                wrong.append(f"{command} says something else of {name}-too than of {name}")
    assert compared > 20
    assert not wrong, "\n".join(wrong)
