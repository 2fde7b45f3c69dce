"""What each binary of a package has to have: python3 tests/package.py target/debian/fairslice_*.deb"""

import json
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
    "usr/lib/*/security/pam_fairslice.so": ("syslog", "clap"),
}
# What std's Backtrace::capture() asks the environment for: an error that takes a backtrace does.
BACKTRACE = b"RUST_LIB_BACKTRACE"


def dependencies(binary: Path) -> set[str]:
    with tempfile.NamedTemporaryFile() as section:
        subprocess.run(["objcopy", "--dump-section", f".dep-v0={section.name}", binary, "/dev/null"], check=True)
        packages = json.loads(zlib.decompress(section.read()))["packages"]
    return {package["name"] for package in packages if package.get("kind") != "build"}


def main() -> None:
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["dpkg-deb", "--extract", sys.argv[1], directory], check=True)
        for name, (wanted, unwanted) in BINARIES.items():
            [binary] = Path(directory).glob(name)
            found = dependencies(binary)
            if not {"fairslice-base", wanted} <= found or unwanted in found:
                wrong.append(f"{name}: its list of dependencies is not its own: {sorted(found)}")
            if BACKTRACE in binary.read_bytes():
                wrong.append(f"{name}: an error takes a backtrace where {BACKTRACE.decode()} asks for it")
    sys.exit("\n".join(wrong) or None)


main()
