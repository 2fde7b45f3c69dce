"""Copies what the commands read of a running machine into tests/machines/NAME.

    /usr/bin/python3 tests/vm/capture.py trixie debian-13
    /usr/bin/python3 tests/vm/capture.py trixie fairslice target/debian/fairslice_0.1.0-1_amd64.deb

With a package: installed, with the four services and logins of alice and bob. tests/common describes
the form of the file; comments of systemd's own unit files are left out.
"""

import contextlib
import re
import sys
from pathlib import Path

import measure
from image import RELEASES, VmError, base_image
from machine import Machine, die_by_exception

REPOSITORY = Path(__file__).resolve().parents[2]
MACHINES = REPOSITORY / "tests/machines"

CGROUP = [
    "cgroup.controllers", "cgroup.subtree_control", "cgroup.events", "cgroup.procs", "cgroup.stat",
    "cpu.weight", "cpu.max", "cpu.idle", "cpuset.cpus.effective", "io.weight", "pids.current", "pids.max",
    "memory.current", "memory.min", "memory.low", "memory.high", "memory.max",
    "memory.swap.current", "memory.swap.max", "memory.oom.group",
]  # fmt: skip
PROCESS = ["stat", "status", "cgroup", "oom_score", "oom_score_adj", "cmdline"]
STATUS = ["Uid", "VmRSS", "VmPTE", "VmSwap"]
FILES = [
    "/proc/self/cgroup", "/proc/cmdline", "/proc/meminfo", "/proc/mounts", "/proc/stat", "/proc/swaps",
    "/proc/uptime", "/proc/pressure/*", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max",
    "/sys/devices/system/cpu/online", "/etc/os-release", "/etc/pam.d/common-*", "/etc/pam.d/other",
    "/etc/pam.d/sshd", "/etc/pam.d/login", "/etc/pam.d/su*", "/etc/pam.d/cron", "/etc/pam.d/atd",
    "/etc/pam.d/remote", "/etc/pam.d/systemd-user", "/usr/lib/pam.d/*",
    "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*", "/usr/share/pam-configs/fairslice",
    "/etc/fairslice/*.toml", "/etc/fairslice/policy.d/*", "/run/fairslice/properties/*",
]  # fmt: skip
# So many of the kernel's threads.
KERNEL_THREADS = 8
# They are there: that is all.
EXISTING = ["/run/systemd/system", "/run/systemd/seats", "/usr/lib/*/security/pam_*.so", "/usr/sbin/sshd"]


def properties() -> list[str]:
    """Those that the commands ask PID 1 for, of units of every type."""
    source = (REPOSITORY / "src/host/units.rs").read_text()
    asked = source.partition("fn questions<")[2].partition("\nfn ")[0]
    names = [name for name in re.findall(r'"(\w+)"', asked) if name[0].isupper()]
    return ["--property", ",".join(["Id", "Names", "LoadState", "ActiveState", "DropInPaths", *names]), "'*'"]


def read(machine: Machine) -> dict[str, str]:
    """Files by path."""
    shown = machine.root(f"systemctl show --all --no-pager {' '.join(properties())}")
    # What is empty is as good as left out.
    shown = "".join(f"{line}\n" for line in shown.splitlines() if not line.endswith(("=", "=[not set]")))
    units = {path for line in re.findall(r"^(?:FragmentPath|DropInPaths)=(.*)", shown, re.M) for path in line.split()}
    wanted = " -o ".join(f"-name {name}" for name in CGROUP)
    processes = " ".join(f"/proc/[0-9]*/{name}" for name in PROCESS)
    # One process of grep reads them all: PATH, NUL, LINE.
    output = machine.root(
        f"{{ find /sys/fs/cgroup \\( {wanted} \\) -print0; printf '%s\\0' {processes} {' '.join(FILES)}"
        " $(find /etc/systemd/system /run/systemd/generator /run/systemd/system.control -name '*.conf');"
        " } | xargs -0 grep -saHZ ''; true",
        input=None,
    )
    unit_text = machine.root("xargs grep -saHZ ''; true", input="\n".join(sorted(units)).encode())
    files: dict[str, str] = {}
    for line in (output + unit_text).splitlines():
        path, _, text = line.partition("\0")
        files[path] = files.get(path, "") + text + "\n"
    for path in files:
        if path.endswith("/status"):
            kept = [line for line in files[path].splitlines() if line.split(":")[0] in STATUS]
            files[path] = "".join(f"{line}\n" for line in kept)
        if path in units and path.startswith(("/usr/lib/", "/lib/")):
            kept = [line for line in files[path].splitlines() if line and not line.startswith(("#", ";"))]
            files[path] = "".join(f"{line}\n" for line in kept)
    stats = [path for path in files if re.match(r"/proc/\d+/stat$", path)]
    threads = sorted(int(path.split("/")[2]) for path in stats if is_thread(files, path))
    for pid in threads[KERNEL_THREADS:]:
        files = {path: text for path, text in files.items() if not path.startswith(f"/proc/{pid}/")}
    there = machine.root(f"ls -d {' '.join(EXISTING)} 2>/dev/null; true").split()
    files |= {path: "" for path in there if path.endswith(".so") or path == "/usr/sbin/sshd"}
    files |= {f"{path}/.": "" for path in there if path.startswith("/run/")}
    files["/run/systemd/show"] = shown
    files["/run/systemd/show-manager"] = machine.root("systemctl show --property UnitsLoadTimestampMonotonic")
    return files


def is_thread(files: dict[str, str], stat: str) -> bool:
    """Whether a process is a thread of the kernel's, which has no memory of its own."""
    return "VmRSS" not in files.get(stat.replace("/stat", "/status"), "")


def text(files: dict[str, str]) -> str:
    """The form that tests/common reads."""
    lines = ["@ /usr/lib", "@ /", "lib -> usr/lib"]
    directory = ""
    for path in sorted(files, key=lambda path: path.rsplit("/", 1)):
        parent, name = path.rsplit("/", 1)
        if parent != directory:
            directory = parent
            lines.append(f"@ {directory}")
        content = files[path].replace("\0", "\\0")
        if name == ".":
            continue
        if content == "":
            lines.append(name)
        elif content.count("\n") == 1:
            lines.append(f"{name}: {content.removesuffix(chr(10))}")
        else:
            lines.append(f"{name}:")
            lines += [f"\t{line}" for line in content.splitlines()]
    return "\n".join(lines) + "\n"


def capture(release: str, name: str, package: Path | None) -> None:
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(Machine(base_image(release)))
        said = f"{RELEASES[release]}, as mmdebstrap and tests/vm/image.py make it"
        if package:
            measure.install_package(machine, package)
            measure.install_services(machine)
            for user in ("alice", "bob"):
                stack.enter_context(contextlib.closing(machine.session(user))).run("true")
            measure.make_pid1_write_weights(machine)
            said += ", with the package, four services, and logins of alice and bob"
        MACHINES.mkdir(exist_ok=True)
        head = f"# {said}. Captured by tests/vm/capture.py.\n"
        (MACHINES / name).write_text(head + text(read(machine)))


def main() -> int:
    die_by_exception()
    try:
        capture(sys.argv[1], sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    except VmError as error:
        print(f"capture: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
