"""The base image of a Debian release: a disk, its kernel, and the key that opens it.

    python3 tests/vm/image.py [bookworm|trixie|forky|cloud|arm64 …]    builds what is not cached, prints where

Built once into ${FAIRSLICE_VM_CACHE:-~/.cache/fairslice/vm} and never changed afterwards:
every machine writes to a throw-away copy of it. An entry's name carries a hash of
everything it is made from, so an edit here or under guest/ makes a new one.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"

RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13", "forky": "Debian testing"}

# The cloud kernel has ext4 and NVMe built in: it mounts its root without an initrd, which
# saves 5 s of every boot and 10 s of every build.
PACKAGES = [
    "udev",
    "systemd", "systemd-sysv", "libpam-systemd", "libpam-runtime", "dbus",
    "openssh-client", "openssh-server", "sudo", "cron", "procps", "cgroup-tools",
    # Further ways in: test_3_ways_in.py.
    "at", "login", "systemd-container", "tmux",
    # What else kills: test_4_oom.py starts them.
    "earlyoom", "systemd-oomd",
]  # fmt: skip
# An image of Debian 13 with what providers of machines put into theirs.
CLOUD = "cloud"
CLOUD_PACKAGES = ["cloud-init", "e2fsprogs", "iproute2", "needrestart", "unattended-upgrades"]
# An image of Debian 13 for that architecture; all others are for amd64.
ARM64 = "arm64"
EXCLUDED = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"]
DISK_SIZE = "3G"  # sparse
OLD_AFTER_DAYS = 14

TOOLS = {  # command: the Debian package that has it
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "gcc": "gcc",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}


class VmError(Exception):
    """Something the reader can act on: one line, with the remedy."""


@dataclass(frozen=True)
class Image:
    name: str
    directory: Path

    @property
    def architecture(self) -> str:
        return architecture(self.name)

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"


def architecture(name: str) -> str:
    return ARM64 if name == ARM64 else "amd64"


def cache_directory() -> Path:
    if chosen := os.environ.get("FAIRSLICE_VM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fairslice" / "vm"


def base_image(name: str, say=print) -> Image:
    """The image of that name, a release's, CLOUD or ARM64, built first if the cache has none."""
    if name not in (names := (*RELEASES, CLOUD, ARM64)):
        raise VmError(f"no image {name!r}: choose one of {', '.join(names)}")
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    entry = cache / f"{name}-{fingerprint()}"
    # Whoever comes second waits here and finds the finished entry. The kernel releases the
    # lock of a killed build; what that left behind is swept before the next one.
    with locked(cache / f"{name}.lock"):
        if not entry.is_dir():
            sweep(cache, name)
            say(f"building the {RELEASES.get(name, name)} image, once")
            started = time.monotonic()
            build(name, entry)
            say(f"image built in {time.monotonic() - started:.0f} s: {entry}")
        os.utime(entry)
    return Image(name, entry)


def fingerprint() -> str:
    """A hash of everything an image is made from. guest/units is installed later, by tests."""
    made_from = [Path(__file__), GUEST / "customise.sh", GUEST / "load.c"]
    made_from += sorted(path for path in (GUEST / "rootfs").rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in made_from:
        digest.update(f"{path.relative_to(HERE)}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def locked(path: Path):
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep(cache: Path, name: str) -> None:
    """Removes what killed builds left, and entries that nobody has used for a while."""
    for leftover in cache.glob(f".build-{name}-*"):
        shutil.rmtree(leftover)
    for entry in cache.glob(f"{name}-*"):
        if time.time() - entry.stat().st_mtime > OLD_AFTER_DAYS * 86400:
            shutil.rmtree(entry)


def build(name: str, entry: Path) -> None:
    require(TOOLS)
    if os.geteuid() != 0:
        return build_with_sudo(name, entry)
    work = Path(tempfile.mkdtemp(prefix=f".build-{name}-", dir=entry.parent))
    try:
        result = work / "result"
        result.mkdir()
        make_key(result / "id_ed25519")
        shutil.copy(result / "id_ed25519.pub", work / "authorized_keys")
        gcc = "aarch64-linux-gnu-gcc" if name == ARM64 else "gcc"
        run([gcc, "-static", "-O1", "-pthread", "-s", "-o", work / "load", GUEST / "load.c"])

        tree = work / "tree"
        bootstrap(name, tree, work)
        shutil.copy(next((tree / "boot").glob("vmlinuz-*")), result / "vmlinuz")
        run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1",
             "-d", tree, result / "disk.img", DISK_SIZE])  # fmt: skip
        if owner := os.environ.get("SUDO_UID"):
            for path in (result, *result.iterdir()):
                os.chown(path, int(owner), -1)
        result.rename(entry)
    finally:
        shutil.rmtree(work)


def build_with_sudo(name: str, entry: Path) -> None:
    """Files of a machine's own users can be made by root only; the rest runs as anybody."""
    if not shutil.which("sudo"):
        raise VmError("building an image needs root: run this as root, or install sudo")
    # The lock is held already, and is not inherited: build directly.
    code = "import sys, image, pathlib; image.build(sys.argv[1], pathlib.Path(sys.argv[2]))"
    run(["sudo", "env", f"PYTHONPATH={HERE}", sys.executable, "-c", code, name, entry])


def make_key(path: Path) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fairslice-vm", "-f", path])


def bootstrap(name: str, tree: Path, work: Path) -> None:
    release = name if name in RELEASES else "trixie"
    packages = [f"linux-image-cloud-{architecture(name)}", *PACKAGES, *(CLOUD_PACKAGES if name == CLOUD else [])]
    # A mount and a PID namespace of its own: whatever happens to this process, no mount and
    # no child of mmdebstrap outlives it.
    run(
        ["setpriv", "--pdeathsig", "KILL",
         "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
         f"--architectures={architecture(name)}", f"--include={','.join(packages)}",
         *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
         '--aptopt=Acquire::Languages "none"',
         # A mirror's copy of testing may be a week old.
         *(['--aptopt=Acquire::Check-Valid-Until "false"'] if release == "forky" else []),
         f"--customize-hook={GUEST / 'customise.sh'}",
         release, tree],
        environment={"INITRD": "No", "VM_BUILD": str(work), "VM_IMAGE": name},
    )  # fmt: skip


def require(tools: dict[str, str]) -> None:
    missing = sorted(package for tool, package in tools.items() if not shutil.which(tool))
    if missing:
        raise VmError(f"missing tools: apt-get install --no-install-recommends {' '.join(missing)}")


def run(command: list, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise VmError(f"failed with {done.returncode}: {' '.join(map(str, command))}\n{tail}")


def main() -> int:
    try:
        for name in sys.argv[1:] or RELEASES:
            print(base_image(name, say=lambda line: print(line, file=sys.stderr)).directory)
    except VmError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
