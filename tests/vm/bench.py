"""The part of make bench-launch that needs PID 1: the launcher beside systemd-run and cgexec.

    python3 tests/vm/bench.py HARNESS target/debian/fairslice_*.deb [--release trixie|bookworm] [--rounds N]

HARNESS is benches/launch, built. It runs in an emulated machine as the main process of a service
that is as its policy says. Exit 0 whatever the figures are; 2: could not be run.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import measure
from image import RELEASES, VmError, base_image, run
from machine import Machine, die_by_exception

SOURCES = Path(__file__).resolve().parents[2] / "benches" / "launch"
DIRECTORY = "/opt/bench"
# One that is right, and one whose score is still to be set when the first one plays its part:
# a hundred higher, as the harness has it.
POLICY = "[service.local-bench]\noom_score_adj = 100\n[service.local-raise]\noom_score_adj = 200\n"
DEADLINE = 3600


def tools() -> dict[str, bytes]:
    """The C programs, static, so that they run in any machine."""
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


def bench(harness: Path, package: Path, release: str, rounds: int) -> str:
    image = base_image(release)
    print(f"\nbooting {RELEASES[release]}, emulated, 2 CPUs: every time below is that of an emulator", flush=True)
    with Machine(image) as machine:
        measure.install_package(machine, package)
        machine.put({"/etc/fairslice/policy.d/90-bench.toml": POLICY})
        programs = tools() | {"harness": harness.read_bytes()}
        machine.put({f"{DIRECTORY}/{name}": program for name, program in programs.items()}, mode=0o755)
        command = (
            "systemctl daemon-reload && systemd-run --quiet --wait --pipe --unit=local-bench.service"
            " --property=AmbientCapabilities=CAP_SYS_RESOURCE"
            f" {DIRECTORY}/harness --vm --launcher /usr/bin/fairslice-launch --tools {DIRECTORY} --rounds {rounds} 2>&1"
        )
        started = time.monotonic()
        said = machine.session("root").run(command, DEADLINE)
        print(f"it took {time.monotonic() - started:.0f} s", flush=True)
        return said


def main() -> int:
    parser = argparse.ArgumentParser(description="fairslice-launch beside what asks PID 1, in an emulated machine")
    parser.add_argument("harness", type=Path, help="benches/launch, built")
    parser.add_argument("package", type=Path, help="the .deb, from make deb")
    parser.add_argument("--release", choices=RELEASES, default="trixie")
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    die_by_exception()
    try:
        for path in (options.harness, options.package):
            if not path.is_file():
                raise VmError(f"no such file: {path}: make bench-launch")
        print(bench(options.harness, options.package, options.release, options.rounds))
        return 0
    except VmError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; the machine is gone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
