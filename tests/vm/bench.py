"""The parts of make bench-launch, make bench-login and make bench-drill that need PID 1.

    python3 tests/vm/bench.py launch HARNESS target/debian/fairslice_*.deb     benches/launch, built
    python3 tests/vm/bench.py login DIRECTORY target/debian/fairslice_*.deb    benches/login, built: see Makefile
    python3 tests/vm/bench.py ssh target/debian/fairslice_*.deb                whole logins
    python3 tests/vm/bench.py drill target/debian/fairslice_*.deb              what others feel of a drill

launch: the launcher beside systemd-run and cgexec, as the main process of a service that is as its policy
says. login: the module beside pam_systemd, where there is a slice of a user to look after. ssh: logins with
and without the module. drill: the requests of a service while a drill runs, while nothing else does, while an
ordinary process keeps a CPU busy, and while PID 1 starts ten scopes. Each runs in an emulated machine. Exit 0
whatever the figures are; 2: could not be run.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import measure
from image import RELEASES, VmError, base_image, run
from machine import Machine, die_by_exception

BENCHES = Path(__file__).resolve().parents[2] / "benches"
SOURCES = BENCHES / "launch"
DIRECTORY = "/opt/bench"
# One that is right, and one whose score is still to be set when the first one plays its part:
# a hundred higher, as the harness has it.
POLICY = "[service.local-bench]\noom_score_adj = 100\n[service.local-raise]\noom_score_adj = 200\n"
DEADLINE = 3600
LOGINS, AT_A_TIME, BLOCK = 200, 20, 50
# What goes on beside the neighbour, each as often as the others and in random order.
CPU = "drill --cpu"
BESIDE = {
    "nothing": "sleep 6",
    "an ordinary busy process": "timeout 6 load --busy 1 --bound > /dev/null; true",
    "ten times systemd-run": "for i in $(seq 10); do systemd-run --quiet --scope --slice=foundry-services.slice true; done",
    CPU: "fairslice drill --yes --json",
    "drill --memory": "fairslice drill --yes --memory",
    "drill --kill-order": "fairslice drill --yes --kill-order",
}
# Of the same drills: without the start of their loads, and without their end, which takes less than so many seconds.
BUSY, END = "  while its loads are busy", 0.3
PAUSE = 2
SEED = 7


def tools() -> dict[str, bytes]:
    """The C programs of benches/launch, static, so that they run in any machine."""
    built = {}
    with tempfile.TemporaryDirectory() as work:
        options = ["-std=gnu11", "-static", "-O2", "-o"]
        for name, compiler, more in [
            ("noop", "gcc", ["-nostdlib"]),
            ("stop", "gcc", []),
            ("chain", "gcc", []),
            ("chain-musl", "musl-gcc", ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]),
        ]:
            if shutil.which(compiler):
                run([compiler, *options, f"{work}/{name}", *more, SOURCES / f"{name.removesuffix('-musl')}.c"])
                built[name] = Path(work, name).read_bytes()
    return built


def launch(machine: Machine, options: argparse.Namespace) -> str:
    machine.put({"/etc/fairslice/policy.d/90-bench.toml": POLICY})
    programs = tools() | {"harness": options.built.read_bytes()}
    machine.put({f"{DIRECTORY}/{name}": program for name, program in programs.items()}, mode=0o755)
    return machine.session("root").run(
        "systemctl daemon-reload && systemd-run --quiet --wait --pipe --unit=local-bench.service"
        " --property=AmbientCapabilities=CAP_SYS_RESOURCE"
        f" {DIRECTORY}/harness --vm --launcher /usr/bin/fairslice-launch --tools {DIRECTORY}"
        f" --rounds {options.rounds} 2>&1",
        DEADLINE,
    )


def login(machine: Machine, options: argparse.Namespace) -> str:
    # The package has its files outside /usr on Debian 12. Not installed: it would join in every login.
    module, helper = (next((options.built / "peers").rglob(name)) for name in ("pam_tmpdir.so", "pam-tmpdir-helper"))
    machine.put({f"/usr/lib/x86_64-linux-gnu/security/{module.name}": module.read_bytes()})
    machine.put({f"/usr/sbin/{helper.name}": helper.read_bytes()}, mode=0o4755)
    machine.put({f"{DIRECTORY}/{name}": (options.built / name).read_bytes() for name in ("harness", "session")}, 0o755)
    machine.root(f"install -d -m 755 {measure.TARGET_ROOT}")
    # Her slice and her systemd --user are there all the time.
    machine.session("alice").run("true")
    return machine.session("root").run(
        "systemd-run --quiet --scope --slice=user-$(id -u alice).slice"
        f" {DIRECTORY}/harness --vm --session {DIRECTORY}/session --rounds {options.rounds} 2>&1",
        DEADLINE,
    )


def percentile(values: list, of: int) -> float:
    return sorted(values)[(len(values) - 1) * of // 100]


def ssh(machine: Machine, options: argparse.Namespace) -> str:
    """In alternating blocks, so that a machine that gets slower meanwhile does so for both."""
    machine.root(f"install -d -m 755 {measure.TARGET_ROOT}")
    users = ["alice", "bob"] * (BLOCK // 2)
    measure.login_times(machine, users[:AT_A_TIME], AT_A_TIME)
    times = {"--disable": [], "--enable": []}
    for block in range(LOGINS // BLOCK):
        for profile in sorted(times, reverse=block % 2 == 1):
            machine.root(f"DEBIAN_FRONTEND=noninteractive pam-auth-update {profile} fairslice")
            mark = measure.journal_mark(machine)
            started = time.monotonic()
            times[profile] += measure.login_times(machine, users, AT_A_TIME)
            print(f"{profile} fairslice: {BLOCK} logins in {time.monotonic() - started:.0f} s", flush=True)
            if said := measure.journal_since(machine, mark, "pam_fairslice"):
                raise VmError(f"the module had something to say, first: {said[0]}")
    lines = [f"{LOGINS} logins over ssh, {AT_A_TIME} at a time, in blocks of {BLOCK}; milliseconds"]
    for profile, name in ("--disable", "without pam_fairslice"), ("--enable", "with it"):
        median, late = (percentile(times[profile], of) for of in (50, 99))
        lines.append(f"{name:22} median {median * 1000:6.0f}   99th percentile {late * 1000:6.0f}")
    return "\n".join(lines)


def drill(machine: Machine, options: argparse.Namespace) -> str:
    measure.install_services(machine)
    with tempfile.TemporaryDirectory() as work:
        run(["gcc", "-static", "-O1", "-o", f"{work}/pace", BENCHES / "drill" / "pace.c"])
        machine.put({f"{DIRECTORY}/pace": Path(work, "pace").read_bytes()}, mode=0o755)
    # In memory: what it prints is written while it is measured.
    requests = "/dev/shm/requests"
    machine.root(
        "systemd-run --quiet --unit=local-neighbour --slice=foundry-services.slice"
        f" --property=StandardOutput=truncate:{requests} {DIRECTORY}/pace"
    )
    order = list(BESIDE) * options.rounds
    random.Random(SEED).shuffle(order)
    rows = list(BESIDE)
    rows.insert(rows.index(CPU) + 1, BUSY)
    spans: dict[str, list[tuple[int, int]]] = {name: [] for name in rows}
    clock = "cut -d' ' -f1 /proc/uptime"
    session = machine.session("root")
    for at, name in enumerate(order):
        said = session.run(f"sleep {PAUSE}; {clock}; {{ {BESIDE[name]}; }} > /tmp/found 2> /tmp/said; echo $?; {clock}; cat /tmp/said")
        begun, status, ended, *why = said.splitlines()
        if status != "0":
            print(f"{name}, left out: exit {status}: {' '.join(why)}", flush=True)
            continue
        begun, ended = float(begun), float(ended)
        spans[name].append((int(begun * 1e9), int(ended * 1e9)))
        if name == CPU:
            busy = json.loads(session.run("cat /tmp/found"))["cpu"]["seconds"]
            spans[BUSY].append((int((ended - busy) * 1e9), int((ended - END) * 1e9)))
        print(f"{at + 1} of {len(order)}: {name}, {ended - begun:.1f} s", flush=True)
    session.run("systemctl stop local-neighbour")
    # The last one is written in part.
    lines = session.run(f"cat {requests}").splitlines()[:-1]
    taken = [tuple(map(int, line.split())) for line in lines]
    table = [f"requests of a service every 10 ms, each 0.5 ms of work; milliseconds; seed {SEED}"]
    for name, of_name in spans.items():
        late = [late for due, late in taken if any(begun <= due < ended for begun, ended in of_name)]
        if late:
            at = "   ".join(f"{of:>4} {percentile(late, of) / 1e6:6.2f}" for of in (50, 90, 99))
            table.append(f"{name:26} {len(late):6} requests   percentiles {at}")
    return "\n".join(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="what has to be measured where systemd is PID 1")
    parts = parser.add_subparsers(required=True)
    for part, rounds in (launch, 1000), (login, 200), (ssh, None), (drill, 10):
        arguments = parts.add_parser(part.__name__)
        arguments.set_defaults(part=part)
        if part in (launch, login):
            arguments.add_argument("built", type=Path, help=f"benches/{part.__name__}, built")
        if rounds:
            arguments.add_argument("--rounds", type=int, default=rounds)
        arguments.add_argument("package", type=Path, help="the .deb, from make deb")
        arguments.add_argument("--release", choices=RELEASES, default="trixie")
    options = parser.parse_args()
    die_by_exception()
    try:
        for path in filter(None, (vars(options).get("built"), options.package)):
            if not path.exists():
                raise VmError(f"no such file: {path}: make bench-launch, bench-login or bench-drill makes it")
        image = base_image(options.release)
        name = RELEASES[options.release]
        print(f"\nbooting {name}, emulated, 2 CPUs: every time below is that of an emulator", flush=True)
        with Machine(image) as machine:
            measure.install_package(machine, options.package)
            # The machine boots with audit=0. So the kernel has no such netlink protocol, and starts modprobe for
            # it twice in each PAM session, when libpam has something for the audit: no machine of use does that.
            machine.root("echo > /proc/sys/kernel/modprobe")
            started = time.monotonic()
            said = options.part(machine, options)
            print(f"it took {time.monotonic() - started:.0f} s", flush=True)
        print(said)
        return 0
    except VmError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; the machine is gone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
