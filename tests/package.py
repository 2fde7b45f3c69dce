"""What each binary of a package has to have: python3 tests/package.py target/debian/fairslice_*.deb

The package may be for another architecture than this machine's, whose binutils are there then.
"""

import json
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

# With a dependency that it has, and one that it must not have got.
BINARIES = {
    "usr/bin/fairslice": ("clap", "syslog"),
    "usr/bin/fairslice-launch": ("lexopt", "clap"),
    "usr/lib/systemd/system-generators/fairslice-generator": ("toml", "syslog"),
    "usr/lib/{DEB_HOST_MULTIARCH}/security/pam_fairslice.so": ("syslog", "clap"),
}
# What is linked with at run time: the launcher is static, the module brings nothing into its host.
NEEDED = {
    "fairslice": {"libc.so.6", "libgcc_s.so.1"},
    "fairslice-launch": set(),
    "fairslice-generator": {"libc.so.6", "libgcc_s.so.1"},
    "pam_fairslice.so": {"libpam.so.0", "libc.so.6"},
}
# What std's Backtrace::capture() asks the environment for: an error that takes a backtrace does.
BACKTRACE = b"RUST_LIB_BACKTRACE"


def output(*command) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def of_architecture(package: str) -> dict[str, str]:
    """dpkg-architecture's variables for the one that the package is for."""
    architecture = output("dpkg-deb", "--field", package, "Architecture").strip()
    # It warns of a compiler that is another architecture's than what is asked for.
    lines = output("dpkg-architecture", "--host-arch", architecture, "--force").splitlines()
    return dict(line.split("=", 1) for line in lines)


def dependencies(binary: Path, objcopy: str) -> set[str]:
    with tempfile.NamedTemporaryFile() as section:
        subprocess.run([objcopy, "--dump-section", f".dep-v0={section.name}", binary, "/dev/null"], check=True)
        packages = json.loads(zlib.decompress(section.read()))["packages"]
    return {package["name"] for package in packages if package.get("kind") != "build"}


def needed(binary: Path) -> set[str]:
    """The shared objects that it asks for, without the loader, whose name is the architecture's."""
    found = re.findall(r"Shared library: \[(.*)\]", output("readelf", "--dynamic", "--wide", binary))
    return {name for name in found if not name.startswith("ld-linux")}


def machine(binary: Path) -> str:
    [found] = re.findall(r"Machine: +(.*)", output("readelf", "--file-header", "--wide", binary))
    return found


def main() -> None:
    wrong = []
    architecture = of_architecture(sys.argv[1])
    wanted_machine = {"amd64": "Advanced Micro Devices X86-64", "arm64": "AArch64"}[architecture["DEB_HOST_ARCH"]]
    objcopy = architecture["DEB_HOST_GNU_TYPE"] + "-objcopy"
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["dpkg-deb", "--extract", sys.argv[1], directory], check=True)
        for name, (wanted, unwanted) in BINARIES.items():
            name = name.format(**architecture)
            binary = Path(directory) / name
            if (found := machine(binary)) != wanted_machine:
                wrong.append(f"{name}: for {found}")
            found = dependencies(binary, objcopy)
            if not {"fairslice-base", wanted} <= found or unwanted in found:
                wrong.append(f"{name}: its list of dependencies is not its own: {sorted(found)}")
            if (found := needed(binary)) != NEEDED[binary.name]:
                wrong.append(f"{name}: linked with {sorted(found)}")
            if BACKTRACE in binary.read_bytes():
                wrong.append(f"{name}: an error takes a backtrace where {BACKTRACE.decode()} asks for it")
    sys.exit("\n".join(wrong) or None)


main()
