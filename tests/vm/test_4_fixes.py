"""Each fix that `fairslice doctor` prints in words, and commands that no other test runs: in the state that causes the
finding, what is printed is done, letter for letter, and the finding is gone."""

import contextlib
import hashlib
import json
import re
import subprocess
from dataclasses import dataclass, replace

import measure
import pytest

pytestmark = pytest.mark.thorough

UNITS = measure.UNITS
POLICY, FRAGMENT = "/etc/fairslice/policy.toml", "/etc/fairslice/policy.d/80-fix.toml"
SLICE = "foundry-services.slice"
MAIN = "systemctl show --value -p MainPID"
# After a reload, PID 1 writes the cgroups when a unit is started there.
WRITTEN = f"systemd-run --quiet --wait --slice={SLICE} true"
SLEEP = "ExecStart=/usr/bin/sleep infinity"
GENERATOR = "/usr/lib/systemd/system-generators/fairslice-generator"
MODULE = "/usr/lib/x86_64-linux-gnu/security/pam_fairslice.so"
# Lines of a file that are to have another text: "MemoryMax=2G at FILE:3", also of the policy.
LINES = re.compile(r"(\w+ ?=[^;]*?) at (/[^;,]+):(\d+)(?:; |$)")


@dataclass
class Case:
    """Commands that cause a finding; its code and a part of its subject; a way to read the fix, and the commands that
    do what it says, in the words of the match; commands that clean up."""

    code: str
    make: str
    subject: str
    fix: str = ""
    do: str = ""
    undo: str = "true"
    # Which of several alternatives, "A; or B".
    way: int = 0


def unit(name: str, text: str, start: bool = True) -> str:
    """Commands that make a unit of a file, and start it."""
    kind = "Slice" if name.endswith(".slice") else "Service"
    run = f"; systemctl start {name}" if start else ""
    return f"printf '[{kind}]\\n{text}\\n' > {UNITS}/{name}; systemctl daemon-reload{run}"


def fragment(text: str) -> str:
    return f"printf '{text}' > {FRAGMENT}; fairslice apply"


def service(text: str) -> str:
    return f"{SLEEP}\\n{text}"


EDITED = "LINES"
KEEPS_POLICY = f"cp -p /tmp/policy {POLICY}"
SERVICE = "systemctl stop fix.service"

CASES = {
    "a policy with an error": Case(
        "FS001", f"echo 'x = 1' >> {POLICY}", POLICY,
        r"correct (\S+), then: (fairslice apply)", "sed -i '{line}d' {1}; {2}", KEEPS_POLICY,
    ),
    "a fragment with an error": Case(
        "FS002", f"printf '[logins]\\ncpu_weight = 0\\n' > {FRAGMENT}", FRAGMENT,
        r"correct (\S+), then: (fairslice apply)", "sed -i '{line}d' {1}; {2}",
    ),
    "a generator that is masked": Case(
        "FS010", "mkdir -p /etc/systemd/system-generators;"
        " ln -s /dev/null /etc/systemd/system-generators/fairslice-generator; systemctl daemon-reload", SLICE,
        undo="rm -f /etc/systemd/system-generators/fairslice-generator",
    ),
    "a generator that is gone": Case(
        "FS010", f"mv {GENERATOR} /tmp; systemctl daemon-reload", SLICE,
        undo=f"[ -e {GENERATOR} ] || mv /tmp/fairslice-generator {GENERATOR}",
    ),
    "a drop-in that sorts later": Case(
        "FS011", f"mkdir {UNITS}/{SLICE}.d; printf '[Slice]\\nCPUWeight=77\\n' > {UNITS}/{SLICE}.d/60-mine.conf;"
        " systemctl daemon-reload", SLICE,
        r"remove (\w+)= from (\S+), then: (.*)", "sed -i '/^{1}=/d' {2}; {3}", f"rm -r {UNITS}/{SLICE}.d",
    ),
    "a file of the generator's name, renamed": Case(
        "FS011", f"mkdir {UNITS}/local-slm.service.d;"
        f" printf '[Service]\\nOOMScoreAdjust=7\\n' > {UNITS}/local-slm.service.d/40-fairslice.conf;"
        " systemctl daemon-reload", "local-slm.service",
        r"give (\S+) another name, or remove it, then: (.*)", "mv {1} $(dirname {1})/30-mine.conf; {2}",
        f"rm -r {UNITS}/local-slm.service.d",
    ),
    "a file of the generator's name, removed": Case(
        "FS011", f"mkdir {UNITS}/local-slm.service.d;"
        f" printf '[Service]\\nOOMScoreAdjust=7\\n' > {UNITS}/local-slm.service.d/40-fairslice.conf;"
        " systemctl daemon-reload", "local-slm.service",
        r"give (\S+) another name, or remove it, then: (.*)", "rm {1}; {2}",
        f"rm -r {UNITS}/local-slm.service.d",
    ),
    "CPUs that there are not": Case(
        "FS013", unit("fix.service", service("AllowedCPUs=0-7")), "fix.service", EDITED, undo=SERVICE,
    ),
    "a service older than its slice": Case(
        "FS015", unit("fix.service", service("")) + "; " + fragment('[slice."fixes.slice"]\\nmatch = ["fix"]\\n'),
        "fix.service", undo=SERVICE,
    ),
    "a service that keeps processes, older than its slice": Case(
        "FS015", unit("fix.service", "KillMode=process\\nExecStart=/bin/sh -c \"sleep 1001 & exec sleep 1002\"")
        + "; " + fragment('[slice."fixes.slice"]\\nmatch = ["fix"]\\n'),
        "fix.service", undo="systemctl stop fix; systemctl kill fix 2> /dev/null; true",
    ),
    "a set of CPUs without its controller": Case(
        "FS020", unit("fix.service", service("Slice=fixing.slice")) + "; "
        + unit("fix.service", service("Slice=fixing.slice\\nAllowedCPUs=0"), start=False), "fix.service",
        undo=f"{SERVICE}; systemctl stop fixing.slice",
    ),
    "a quota of a service that is to run elsewhere": Case(
        "FS020", unit("fix.service", service("Slice=fixing.slice")) + "; "
        + unit("fix.service", service("Slice=fixed.slice\\nCPUQuota=25%%"), start=False), "fix.service",
        undo=f"{SERVICE}; systemctl stop fixing.slice fixed.slice",
    ),
    "what is disabled where a service is no more to run": Case(
        "FS020", unit("fixing.slice", "DisableControllers=cpu", start=False) + "; "
        + unit("fix.service", service("Slice=fixing.slice\\nCPUQuota=25%%")) + "; "
        + unit("fix.service", service("Slice=fixed.slice\\nCPUQuota=25%%"), start=False), "fix.service",
        undo=f"{SERVICE}; systemctl stop fixing.slice fixed.slice",
    ),
    "what is disabled there and where it is to run": Case(
        "FS020", unit("fixing.slice", "DisableControllers=cpu", start=False) + "; "
        + unit("fixed.slice", "DisableControllers=cpu", start=False) + "; "
        + unit("fix.service", service("Slice=fixing.slice\\nCPUQuota=25%%")) + "; "
        + unit("fix.service", service("Slice=fixed.slice\\nCPUQuota=25%%"), start=False), "fix.service",
        r"remove (\w+)=cpu at (\S+):(\d+), then: (.*)", "sed -i '{3}d' {2}; {4}",
        f"{SERVICE}; systemctl stop fixing.slice fixed.slice",
    ),
    "a service in a threaded cgroup": Case(
        "FS020", unit("fixing.slice", "DisableControllers=memory io") + "; mkdir /sys/fs/cgroup/fixing.slice/fix.service;"
        " echo threaded > /sys/fs/cgroup/fixing.slice/fix.service/cgroup.type; "
        + unit("fix.service", service("Slice=fixing.slice")) + "; " + unit("fixing.slice", "", start=False) + "; "
        + unit("fix.service", service("Slice=fixing.slice\\nMemoryMax=500M"), start=False), "fix.service",
        undo=f"{SERVICE}; systemctl stop fixing.slice",
    ),
    "a slice with a dash": Case(
        "FS021", unit("fixing-all.slice", "CPUWeight=300", start=False)
        + "; " + unit("fix.service", service("Slice=fixing-all.slice")), "fixing-all.slice",
        undo=f"{SERVICE}; systemctl stop fixing.slice",
    ),
    "logins that share one weight": Case(
        "FS022", f"sed -i '/^total_weight/d' {POLICY}; fairslice apply", "user.slice",
        r'add (total_weight = "sum") to \[logins\] in the policy, then: (.*)',
        f"sed -i '/^\\[logins\\]/a {{1}}' {POLICY}; {{2}}", f"{KEEPS_POLICY}; fairslice apply",
    ),
    "a slice beside the policy's": Case(
        "FS022", unit("fix.service", service("Slice=foundry-fixes.slice"))
        + "; systemd-run --quiet --wait --slice=foundry-fixes.slice -p CPUWeight=100 true", SLICE,
        r"give their slices a cpu_weight in the policy, or move them out of foundry.slice, then: (.*)",
        f"printf '[slice.\"foundry-fixes.slice\"]\\ncpu_weight = 100\\n' > {FRAGMENT}; {{1}}", SERVICE,
    ),
    "a slice beside the policy's, moved": Case(
        "FS022", unit("fix.service", service("Slice=foundry-fixes.slice"))
        + "; systemd-run --quiet --wait --slice=foundry-fixes.slice -p CPUWeight=100 true", SLICE,
        r"give their slices a cpu_weight in the policy, or move them out of foundry.slice, then: (.*)",
        f"sed -i s/foundry-fixes/fixes/ {UNITS}/fix.service; systemctl daemon-reload; systemctl restart fix; {{1}}",
        SERVICE,
    ),
    "weights that sum to too much": Case(
        "FS022", unit("fix.service", service("Slice=foundry-fixes.slice")) + "; "
        + fragment('[slice."foundry-fixes.slice"]\\ncpu_weight = 8000\\n[slice."foundry-services.slice"]\\ncpu_weight = 8000\\n'),
        SLICE, r"divide the cpu_weight of each slice by the same number, then: (.*)",
        f"sed -i s/8000/800/ {FRAGMENT}; {{1}}", SERVICE,
    ),
    "a protection without its ancestor's": Case(
        "FS023", unit("fix.service", service("MemoryMin=20M")), "fix.service", undo=SERVICE,
    ),
    "a protection with less above, raised": Case(
        "FS023", unit("fixing.slice", "MemoryMin=10M", start=False)
        + "; " + unit("fix.service", service("MemoryMin=20M\\nSlice=fixing.slice")), "fix.service", EDITED,
        undo=f"{SERVICE}; systemctl stop fixing.slice",
    ),
    "a protection with less above, lowered": Case(
        "FS023", unit("fixing.slice", "MemoryMin=10M", start=False)
        + "; " + unit("fix.service", service("MemoryMin=20M\\nSlice=fixing.slice")), "fix.service", EDITED,
        undo=f"{SERVICE}; systemctl stop fixing.slice", way=1,
    ),
    "protections that sum to more than the RAM": Case(
        "FS024", "systemctl set-property --runtime system.slice MemoryMin=3G", "-.slice",
    ),
    "protections in a slice that sum to more, lowered": Case(
        "FS024", unit("fixing.slice", "MemoryMin=50M", start=False) + "; "
        + unit("fix2.service", service("MemoryMin=40M\\nSlice=fixing.slice")) + "; "
        + unit("fix.service", service("MemoryMin=45M\\nSlice=fixing.slice")), "fixing.slice", EDITED,
        undo=f"{SERVICE} fix2.service fixing.slice",
    ),
    "protections in a slice that sum to more, raised": Case(
        "FS024", unit("fixing.slice", "MemoryMin=50M", start=False) + "; "
        + unit("fix2.service", service("MemoryMin=40M\\nSlice=fixing.slice")) + "; "
        + unit("fix.service", service("MemoryMin=45M\\nSlice=fixing.slice")), "fixing.slice", EDITED,
        undo=f"{SERVICE} fix2.service fixing.slice", way=1,
    ),
    "a ceiling above the RAM": Case(
        "FS025", unit("fix.service", service("MemoryMax=64G")), "fix.service", EDITED, undo=SERVICE,
    ),
    "a ceiling above the slice's, raised there": Case(
        "FS026", "systemctl set-property --runtime local-slm MemoryHigh=1500M", "local-slm.service", EDITED,
        undo="systemctl set-property --runtime local-slm MemoryHigh=infinity",
    ),
    "a ceiling above the slice's, lowered": Case(
        "FS026", "systemctl set-property --runtime local-slm MemoryHigh=1500M", "local-slm.service", EDITED,
        undo="systemctl set-property local-slm MemoryHigh=infinity", way=1,
    ),
    "a quota below the weight's share": Case(
        "FS027", unit("fix.service", service("CPUWeight=900\\nCPUQuota=5%%")), "fix.service", EDITED, undo=SERVICE,
    ),
    "a protection that only delays": Case(
        "FS028", unit("fix.slice", "MemoryLow=20M", start=False)
        + "; " + unit("fix.service", service("Slice=fix.slice\\nMemoryLow=20M")), "fix",
        r"write MemoryMin= for MemoryLow= at (\S+):(\d+); write MemoryMin= for MemoryLow= at (\S+):(\d+), then: (.*)",
        "sed -i {2}s/MemoryLow=/MemoryMin=/ {1}; sed -i {4}s/MemoryLow=/MemoryMin=/ {3}; {5}",
        f"{SERVICE} fix.slice",
    ),
    "a protection of the policy's that only delays": Case(
        "FS028", fragment('[slice."foundry-services.slice"]\\nmemory_low = "20M"\\n'), "foundry",
        r"write memory_min for memory_low at (\S+):(\d+), then: (.*)", "sed -i {2}s/memory_low/memory_min/ {1}; {3}",
    ),
    "a service that does not set its score itself": Case(
        "FS030", unit("fix.service", service("")) + "; "
        + fragment('[service.fix]\\noom_score_adj = -77\\nset_by = "service"\\n'), "fix.service",
        r"remove set_by beside (\S+):\d+, or have the service set it, then: (.*)", "sed -i /^set_by/d {1}; {2}", SERVICE,
    ),
    "a service that was killed at its own limit": Case(
        "FS037", unit("fix.service", "MemoryMax=6M\\nExecStart=/usr/local/bin/load --hold 8")
        + "; until systemctl is-failed --quiet fix; do sleep 0.2; done", "fix.service", EDITED, undo=SERVICE,
    ),
    "a negative score of the ssh service": Case(
        "FS033", f"mkdir {UNITS}/ssh.service.d; printf '[Service]\\nOOMScoreAdjust=-1000\\n' > {UNITS}/ssh.service.d/x.conf;"
        " systemctl daemon-reload", "ssh.service",
        r'remove the line (\S+):(\d+), then "(.*)"', "sed -i {2}d {1}; {3}", f"rm -r {UNITS}/ssh.service.d",
    ),
    "a kill order that is not the declared one": Case(
        "FS034", unit("fix.service", "ExecStart=/usr/local/bin/load --hold 150", start=False) + "; "
        + fragment("[service.fix]\\noom_score_adj = -305\\n") + "; systemctl start fix;"
        " until [ $(cat /sys/fs/cgroup/system.slice/fix.service/memory.current) -gt 157286400 ]; do sleep 0.2; done",
        "fix.service", "SCORES", undo=SERVICE,
    ),
    "a group that is killed against the unit's will": Case(
        "FS035", unit("fix.service", service("OOMPolicy=stop"))
        + "; echo 1 > /sys/fs/cgroup/system.slice/fix.service/memory.oom.group", "fix.service", undo=SERVICE,
    ),
    "a group of which one is never killed, stopped instead": Case(
        "FS035", unit("fix.service", service("OOMPolicy=kill")) + f"; choom -n -1000 -p $({MAIN} fix)",
        "fix.service", EDITED, undo=SERVICE,
    ),
    "a group of which one is never killed, but for that": Case(
        "FS035", unit("fix.service", service("OOMPolicy=kill")) + f"; choom -n -1000 -p $({MAIN} fix)",
        "fix.service", undo=SERVICE, way=1,
    ),
    "a module that is gone": Case("FS043", f"mv {MODULE} /tmp/kept.so", "", undo=f"[ -e {MODULE} ] || mv /tmp/kept.so {MODULE}"),
    "sshd without PAM sessions": Case(
        "FS044", "echo 'UsePAM no' > /etc/ssh/sshd_config.d/00-fix.conf; systemctl reload ssh", "sshd",
        r'write "(UsePAM yes)" in (\S+):(\d+), then "(.*)"', "sed -i '{3}s/.*/{1}/' {2}; {4}",
        "rm /etc/ssh/sshd_config.d/00-fix.conf; systemctl reload ssh",
    ),
    "a login older than its weight": Case(
        "FS045", f"printf '[logins.user.alice]\\ncpu_weight = 150\\n' > {FRAGMENT}", "user-1000.slice",
    ),
    "a login older than its score": Case(
        "FS045", f"printf '[logins.user.alice]\\noom_score_adj = 50\\n' > {FRAGMENT}; fairslice apply; true",
        "user-1000.slice",
    ),
    "a launcher before a command of before": Case(
        "FS063", unit("fix.service", service(""), start=False) + "; fairslice adopt fix;"
        f" sed -i s/infinity/9999/ {UNITS}/fix.service", "fix.service", undo="fairslice release fix",
    ),
    "a unit that cannot have the launcher": Case(
        "FS062", unit("fix.service", "RootImage=/b\\nExecStart=/bin/b", start=False) + "; "
        + fragment("[service.fix]\\nlauncher = true\\n"), "fix.service",
        r'what is in the way, or declare (launcher = false) in \[service\."(fix)"\]; then run: (.*)',
        f"sed -i 's/launcher = true/{{1}}/' {FRAGMENT}; {{3}}",
    ),
    "a directory of a unit that is misspelt": Case(
        "FS073", f"mkdir {UNITS}/local-sln.service.d; printf '[Service]\\nMemoryMax=1G\\n' > {UNITS}/local-sln.service.d/x.conf;"
        " systemctl daemon-reload", "local-sln.service",
        undo=f"rm -rf {UNITS}/local-sln.service.d {UNITS}/local-slm.service.d; {WRITTEN}",
    ),
    "a directory of a user's slice by name": Case(
        "FS073", f"mkdir {UNITS}/user-alice.slice.d; printf '[Slice]\\nMemoryMax=1G\\n' > {UNITS}/user-alice.slice.d/x.conf",
        "user-alice.slice", r"rename (\S+)/user-alice.slice.d to user-UID.slice.d, then: (.*)",
        "mv {1}/user-alice.slice.d {1}/user-1000.slice.d; {2}",
        f"rm -rf {UNITS}/user-alice.slice.d {UNITS}/user-1000.slice.d;"
        " systemctl daemon-reload; systemd-run --quiet --wait --slice=user-1000.slice true",
    ),
    "a drop-in of a unit that is not installed": Case(
        "FS073", f"mkdir {UNITS}/nobodys-own-daemon.service.d;"
        f" printf '[Service]\\nMemoryMax=1G\\n' > {UNITS}/nobodys-own-daemon.service.d/x.conf", "nobodys-own-daemon.service",
        r"remove (\S+), or install what it is for", "rm {1}", f"rm -r {UNITS}/nobodys-own-daemon.service.d",
    ),
    "limits that contradict one another": Case(
        "FS074", unit("fix.service", service("MemoryHigh=300M\\nMemoryMax=200M")), "fix.service", EDITED, undo=SERVICE,
    ),
    "a package's protection": Case(
        "FS080", f"printf '[Service]\\n{SLEEP}\\nMemoryMin=10M\\n' > /usr/lib/systemd/system/fix.service;"
        " systemctl daemon-reload; systemctl start fix", "fix.service",
        undo=f"{SERVICE}; rm /usr/lib/systemd/system/fix.service",
    ),
    "a daemon whose limits its containers do not have": Case(
        "FS081", unit("docker.service", service("MemoryMax=500M"))
        + "; systemd-run --quiet --scope --unit=docker-0a1b --slice=system.slice sleep infinity > /dev/null 2>&1 < /dev/null &"
        " until systemctl is-active --quiet docker-0a1b.scope; do sleep 0.2; done", "docker.service",
        r"(systemctl set-property containers.slice MemoryMax=500M); start containers with --cgroup-parent=(containers.slice), .*",
        "{1}; systemctl stop docker-0a1b.scope;"
        " systemd-run --quiet --scope --unit=docker-0a1c --slice={2} sleep infinity > /dev/null 2>&1 < /dev/null &"
        " until systemctl is-active --quiet docker-0a1c.scope; do sleep 0.2; done",
        f"systemctl stop docker docker-0a1b.scope docker-0a1c.scope containers.slice 2> /dev/null; rm {UNITS}/docker.service",
    ),
    "a daemon whose virtual machines do not have its limits": Case(
        "FS081", unit("virtqemud.service", service("MemoryMax=500M"))
        + "; systemd-run --quiet --scope --unit=machine-qemu1 --slice=machine.slice sleep infinity > /dev/null 2>&1 < /dev/null &"
        " until systemctl is-active --quiet machine-qemu1.scope; do sleep 0.2; done", "virtqemud.service",
        r"(systemctl set-property machine.slice MemoryMax=500M); all virtual machines are in machine.slice already, .*", "{1}",
        f"systemctl stop virtqemud machine-qemu1.scope; rm {UNITS}/virtqemud.service",
    ),
    "a service whose container does not have its limits": Case(
        "FS081", "cp /usr/bin/sleep /run/conmon; " + unit("fix.service", "ExecStart=/run/conmon infinity\\nMemoryMax=500M")
        + "; systemd-run --quiet --scope --unit=libpod-0a1b --slice=system.slice sleep infinity > /dev/null 2>&1 < /dev/null &"
        " until systemctl is-active --quiet libpod-0a1b.scope; do sleep 0.2; done", "fix.service",
        r"systemctl set-property machine.slice MemoryMax=500M; start the container with --cgroups=split, which keeps it in the"
        r" service, or with --cgroup-parent=machine.slice; what .* sets holds for fix.service alone",
        # As podman does then.
        "systemctl stop libpod-0a1b.scope; mkdir /sys/fs/cgroup/system.slice/fix.service/libpod-payload-0a1b",
        f"rmdir /sys/fs/cgroup/system.slice/fix.service/libpod-payload-0a1b; {SERVICE} libpod-0a1b.scope; rm /run/conmon",
    ),
    "a limit of swap that there is none of": Case(
        "FS083", unit("fix.service", service("MemorySwapMax=100M")), "fix.service", EDITED, undo=SERVICE,
    ),
    "a limit of swap of the policy's": Case(
        "FS083", fragment('[slice."foundry-services.slice"]\\nmemory_swap_max = "100M"\\n'), SLICE,
        r"remove memory_swap_max at (\S+):(\d+), then: (.*)", "sed -i {2}d {1}; {3}",
    ),
    "a weight beside nothing": Case(
        "FS084", unit("fixing.slice", "CPUWeight=300", start=False) + "; "
        + unit("fixing-all.slice", "CPUWeight=500", start=False)
        + "; " + unit("fix.service", service("Slice=fixing-all.slice")), "fixing-all.slice", EDITED,
        undo=f"{SERVICE}; systemctl stop fixing.slice",
    ),
    "a name that is misspelt": Case(
        "FS082", fragment("[service.local-contnet]\\noom_score_adj = 1\\n"), "local-contnet",
        r'write "(local-content)" for "(local-contnet)" in the head of the table of (\S+):\d+, then: (.*)',
        "sed -i s/{2}/{1}/ {3}; {4}",
    ),
}  # fmt: skip

# Causes that do not hide one another are looked for together: asking takes the machine some seconds.
ROUNDS = [
    ["a policy with an error"],
    ["a generator that is gone", "a module that is gone"],
    [
        "sshd without PAM sessions",
        "a negative score of the ssh service",
        "a directory of a unit that is misspelt",
        "a directory of a user's slice by name",
        "a drop-in of a unit that is not installed",
        "a daemon whose limits its containers do not have",
        "a group of which one is never killed, stopped instead",
        "a group of which one is never killed, but for that",
        "a fragment with an error",
        # Each start of a unit beside it undoes the cause.
        "a group that is killed against the unit's will",
    ],
    [
        "a generator that is masked",
        "CPUs that there are not",
        # What is started afterwards brings the controller.
        "a set of CPUs without its controller",
    ],
    [
        "a drop-in that sorts later",
        "a file of the generator's name, renamed",
        "a login older than its weight",
        "a quota of a service that is to run elsewhere",
        "what is disabled where a service is no more to run",
        "what is disabled there and where it is to run",
    ],
    [
        "a file of the generator's name, removed",
        "a service older than its slice",
        "a service that keeps processes, older than its slice",
        "a service that does not set its score itself",
        "a login older than its score",
        "a unit that cannot have the launcher",
        "a name that is misspelt",
        # Any reload undoes the cause.
        "a launcher before a command of before",
    ],
    [
        "a slice with a dash",
        "a quota below the weight's share",
        "limits that contradict one another",
        "a service that was killed at its own limit",
        "a limit of swap of the policy's",
    ],
    ["logins that share one weight", "a slice beside the policy's"],
    [
        "a service in a threaded cgroup",
        "a slice beside the policy's, moved",
        "a daemon whose virtual machines do not have its limits",
        "a service whose container does not have its limits",
    ],
    ["weights that sum to too much"],
    [
        "a protection without its ancestor's",
        "a protection with less above, raised",
        "protections in a slice that sum to more, lowered",
        "a ceiling above the RAM",
        "a ceiling above the slice's, raised there",
        "a protection that only delays",
    ],
    [
        "a package's protection",
        "a protection with less above, lowered",
        "protections in a slice that sum to more, raised",
        "a ceiling above the slice's, lowered",
        "a protection of the policy's that only delays",
        "a limit of swap that there is none of",
        "a weight beside nothing",
    ],
    ["protections that sum to more than the RAM", "a kill order that is not the declared one"],
]

AFTERWARDS = (
    f"cd {UNITS}; rm -f /etc/fairslice/policy.d/80-fix*.toml fix*.service fix*.slice;"
    f" cp -p /tmp/policy {POLICY}; rm -rf /etc/systemd/system.control /run/systemd/system.control/local-slm*"
    " /run/systemd/system.control/system.slice.d; systemctl daemon-reload; systemctl reset-failed; fairslice apply;"
    f" {WRITTEN}; systemd-run --quiet --wait true"
)


@pytest.fixture(scope="module")
def steady(installed, package):
    """A machine with two logins, and with an archive of the package alone that apt knows."""
    archive(installed, package)
    installed.root(f"cp -p {POLICY} /tmp/policy")
    with contextlib.closing(installed.session("alice")) as alice, contextlib.closing(installed.session("bob")) as bob:
        alice.run("true")
        bob.run("true")
        installed.root(f"systemctl restart {' '.join(measure.SERVICES)}; {AFTERWARDS}")
        assert findings(installed) == []
        yield installed
        assert findings(installed) == []
    installed.root(f"{AFTERWARDS}; rm -r /var/tmp/archive /etc/apt/sources.list.d/archive.list /tmp/policy")


def archive(machine, package):
    """The least that apt takes for one."""
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    content = package.read_bytes()
    sums = f"Filename: ./fairslice.deb\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    listed = "/etc/apt/sources.list.d/archive.list"
    machine.put({
        "/var/tmp/archive/fairslice.deb": content,
        "/var/tmp/archive/Packages": control.strip() + "\n" + sums,
        listed: "deb [trusted=yes] file:/var/tmp/archive ./\n",
    })
    machine.root(f"apt-get -q -o Dir::Etc::sourcelist={listed} -o Dir::Etc::sourceparts=- -o Acquire::Languages=none update")


def findings(machine) -> list[dict]:
    return json.loads(machine.root("fairslice doctor --json; true"))["findings"]


def named(case: Case, number: int) -> Case:
    """With units and files of its own."""
    own = f"fix{'abcdefghij'[number]}"
    texts = {key: text.replace("fix", own) for key, text in vars(case).items() if isinstance(text, str)}
    return replace(case, **texts)


def found(findings: list[dict], case: Case) -> dict | None:
    of_case = [one for one in findings if one["code"] == case.code and case.subject in one["subject"]]
    assert len(of_case) < 2, of_case
    return of_case[0] if of_case else None


def commands(case: Case, finding: dict | None, all: list[dict]) -> str:
    """What is to be run for what is printed to be done."""
    assert finding, (case, all)
    printed = finding["fix"]["text"].split("; or ")[case.way]
    if case.fix == "SCORES":
        changes, then, _ = re.fullmatch(r"(.*), then: ([^;]*); (the order holds as memory is used now)", finding["fix"]["text"]).groups()
        edits = re.findall(r"(oom_score_adj = -?\d+) for \S+ \((\S+):(\d+)\)", changes)
        assert len(edits) == len(changes.split(", ")), changes
        return "; ".join([f"sed -i '{line}s/.*/{new}/' {file}" for new, file, line in edits] + [then])
    if case.fix == EDITED and ", then: " in printed:
        edits, then = printed.split(", then: ")
        lines = LINES.findall(edits)
        assert "".join(f"{new} at {file}:{line}; " for new, file, line in lines) == f"{edits}; ", printed
        return "; ".join([f"sed -i '{line}s|.*|{new}|' {file}" for new, file, line in lines] + [then])
    if case.fix and case.fix != EDITED:
        match = re.fullmatch(case.fix, finding["fix"]["text"])
        assert match, finding["fix"]
        return case.do.format(*[match[0], *match.groups()], line=finding["line"])
    assert case.way or case.fix or finding["fix"]["command"] == finding["fix"]["text"], finding["fix"]
    return printed


def test_every_case_is_in_a_round():
    assert sorted(name for names in ROUNDS for name in names) == sorted(CASES)


@pytest.mark.parametrize("names", ROUNDS, ids=lambda names: names[0])
def test_the_fix_that_is_printed_ends_the_finding(steady, names):
    cases = {name: named(CASES[name], number) for number, name in enumerate(names)}
    run = lambda scripts: steady.root("\n".join(f"{{ {script}; }} >&2" for script in scripts), check=False)  # noqa: E731
    try:
        run(case.make for case in cases.values())
        before = findings(steady)
        todo = {name: commands(case, found(before, case), before) for name, case in cases.items()}
        run(["export DEBIAN_FRONTEND=noninteractive", *todo.values()])
        after = findings(steady)
        left = {name: (todo[name], one) for name, case in cases.items() if (one := found(after, case))}
        assert left == {}
    finally:
        run([case.undo for case in cases.values()] + [AFTERWARDS])
