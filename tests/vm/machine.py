"""A booted test machine: QEMU without KVM, reached by ssh, gone when this process is gone.

    with Machine(base_image("trixie")) as machine:
        machine.root("systemctl status")            # over one open connection: quick
        machine.ssh("alice", "id")                  # a login of its own
        work = machine.session("alice")             # a login that stays: work.run("...")
        machine.reboot()
"""

import contextlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from image import HERE, Image, VmError, require, run

TOOLS = {
    "ssh": "openssh-client",
    "setpriv": "util-linux",
}
@dataclass(frozen=True)
class Emulator:
    """What emulates an architecture's machines, and the Debian package that has it."""

    command: str
    package: str
    options: tuple[str, ...]
    console: str


EMULATORS = {
    # What a newer CPU has is emulated as well, and costs: with AVX2 and five levels of page tables a login takes
    # half as long again. QEMU 7.2 emulates cmpxchg16b so that the kernel double-faults in kmalloc.
    "amd64": Emulator("qemu-system-x86_64", "qemu-system-x86", ("-cpu", "qemu64,-cx16"), "ttyS0"),
    "arm64": Emulator("qemu-system-aarch64", "qemu-system-arm", ("-machine", "virt", "-cpu", "cortex-a72"), "ttyAMA0"),
}
BOOT_DEADLINE = 180  # seconds; 16 is usual on two free cores
COMMAND_DEADLINE = 120
SSH_FAILED = 255  # ssh's own exit status
HUNG_AFTER = 60  # seconds without sshd's banner
# Where a machine finds the directory that is served to it, the only host it can reach.
SERVER = "10.0.2.100"


@dataclass(frozen=True)
class Done:
    """What a command in the machine came to."""

    status: int
    out: str
    err: str


def die_by_exception() -> None:
    """Makes SIGTERM and SIGHUP unwind like Ctrl-C does, so that `with` blocks clean up."""

    def stop(number, _frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def child(command: list, stdin=subprocess.DEVNULL, **options) -> subprocess.Popen:
    """Starts a process that the kernel kills when this one dies, however it dies.

    It gets a process group of its own: Ctrl-C is for this program, which then stops its
    children in order. Call from the main thread: the kernel watches the starting thread.
    """
    words = ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in command)]
    return subprocess.Popen(words, stdin=stdin, process_group=0, **options)


class Session:
    """A login that stays open and runs one command after the other in one shell."""

    def __init__(self, user: str, words: list[str]):
        self.user = user
        self.ssh = child(
            [*words, "exec bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.pending = b""

    def run(self, command: str, deadline: float = COMMAND_DEADLINE) -> str:
        """What the command printed, errors too; its exit status does not matter here."""
        try:
            self.ssh.stdin.write(f"{command}\necho @done\n".encode())
            self.ssh.stdin.flush()
        except BrokenPipeError:
            raise VmError(f"the ssh connection of {self.user} is gone") from None
        end_at = time.monotonic() + deadline
        while b"@done\n" not in self.pending:
            ready, _, _ = select.select([self.ssh.stdout], [], [], max(0, end_at - time.monotonic()))
            if not ready:
                raise VmError(f"{self.user}'s shell gave no answer in {deadline:.0f} s: {command}")
            got = os.read(self.ssh.stdout.fileno(), 65536)
            if not got:
                said = self.pending.decode(errors="replace").strip()
                raise VmError(f"the ssh connection of {self.user} ended: {said}")
            self.pending += got
        answer, _, self.pending = self.pending.partition(b"@done\n")
        return answer.decode(errors="replace")

    def close(self) -> None:
        end(self.ssh)


class Machine:
    def __init__(self, image: Image, memory: int = 2048, cpus: int = 2, served: Path | None = None):
        """`served` is what http://SERVER/ has; cloud-init finds its seed in there, in `seed`."""
        self.image, self.memory, self.cpus, self.served = image, memory, cpus, served
        # More for the kernel's command line, from the next boot on.
        self.arguments: list[str] = []
        self.emulator = EMULATORS[image.architecture]
        self.cleanup = contextlib.ExitStack()
        self.boot_seconds = 0.0

    def __enter__(self) -> "Machine":
        require({**TOOLS, self.emulator.command: self.emulator.package})
        try:
            work = tempfile.TemporaryDirectory(prefix="fairslice-vm-")
            self.work = Path(self.cleanup.enter_context(work))
            self.console = self.work / "console.log"
            self.control = self.work / "control"
            self.disk = self.make_disk()
            self.boot_seconds = self.boot()
        except BaseException:
            self.cleanup.close()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self.cleanup.close()

    # --- starting ---

    def make_disk(self) -> str:
        """A copy of the base image to write to: an open file that never had a name.

        Nothing is left of it even when this process and QEMU are killed.
        """
        disk = self.cleanup.enter_context(tempfile.TemporaryFile(dir=self.work))
        path = f"/proc/{os.getpid()}/fd/{disk.fileno()}"
        run(["cp", "--sparse=always", self.image.disk, path])
        return path

    def boot(self) -> float:
        started = time.monotonic()
        self.qemu = self.start_qemu()
        self.connect()
        return time.monotonic() - started

    def start_qemu(self) -> subprocess.Popen:
        # Another process can take the port between our asking and QEMU's binding: ask again.
        for _attempt in range(3):
            self.port = free_port()
            qemu = child(self.qemu_command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.cleanup.callback(end, qemu)
            with contextlib.suppress(subprocess.TimeoutExpired):
                qemu.wait(timeout=1)
                said = qemu.stderr.read().strip()
                if "host forwarding" in said:
                    continue
                raise VmError(f"QEMU stopped at once: {said}")
            return qemu
        raise VmError("QEMU found no free port in three attempts: try again")

    def qemu_command(self) -> list:
        arguments = f"root=/dev/nvme0n1 rw console={self.emulator.console} net.ifnames=0 mitigations=off audit=0 loglevel=4"
        # Whether the timer ticks while the kernel waits for it is a matter of what else the CPUs here have to do.
        arguments += " no_timer_check"
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        seed = []
        if self.served:
            network += f",guestfwd=tcp:{SERVER}:80-cmd:{sys.executable} {HERE}/served.py {self.served}"
            seed = ["-smbios", f"type=1,serial=ds=nocloud;s=http://{SERVER}/seed/"]
        return [
            self.emulator.command, "-nodefaults", "-display", "none", "-no-reboot",
            "-accel", "tcg,thread=multi", *self.emulator.options,
            "-smp", self.cpus, "-m", self.memory,
            "-kernel", self.image.kernel,
            "-append", " ".join([arguments, *self.arguments]),
            "-drive", f"file={self.disk},format=raw,if=none,id=disk,cache=unsafe",
            "-device", "nvme,drive=disk,serial=base",
            "-netdev", network,
            "-device", "virtio-net-pci,netdev=net",
            "-serial", f"file:{self.console}",
            "-qmp", f"unix:{self.work}/qmp,server=on,wait=off",
            *seed,
        ]  # fmt: skip

    def connect(self) -> None:
        """Waits until sshd answers, then opens the connection that root() uses."""
        deadline = time.monotonic() + BOOT_DEADLINE
        while not self.sshd_answers():
            if self.qemu.poll() is not None:
                raise VmError(f"QEMU stopped while booting: {self.qemu.stderr.read().strip()}")
            if time.monotonic() > deadline:
                raise VmError(f"no ssh after {BOOT_DEADLINE} s; the console ends with\n{self.console_tail()}")
            time.sleep(0.3)
        self.control.unlink(missing_ok=True)
        self.master = child(
            [*self.ssh_words("root"), "-N", "-M", "-S", self.control],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.cleanup.callback(end, self.master)
        while not self.control.exists():
            if self.master.poll() is not None:
                raise VmError(f"root cannot log in: {self.master.stderr.read().strip()}\n{self.console_tail()}")
            if time.monotonic() > deadline:
                raise VmError(f"root's login did not finish; the console ends with\n{self.console_tail()}")
            time.sleep(0.1)

    def sshd_answers(self) -> bool:
        # QEMU accepts the connection before the machine is up: only the banner counts.
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.settimeout(5)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def console_tail(self, lines: int = 30) -> str:
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # --- using ---

    def ssh_options(self, user: str) -> list[str]:
        """For ssh, scp and sftp; the host is 127.0.0.1."""
        options = {
            "Port": self.port, "User": user,
            "IdentityFile": self.image.key, "IdentitiesOnly": "yes", "BatchMode": "yes",
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            # The default exchanges take a second more each under emulation.
            "KexAlgorithms": "curve25519-sha256", "Ciphers": "chacha20-poly1305@openssh.com",
            "ConnectTimeout": 60, "ServerAliveInterval": 20, "ServerAliveCountMax": 6,
        }  # fmt: skip
        return ["-F", "none", *(f"-o{name}={value}" for name, value in options.items())]

    def ssh_words(self, user: str) -> list[str]:
        return ["ssh", *self.ssh_options(user), "127.0.0.1"]

    def root(self, script: str, check: bool = True, input: bytes | None = None) -> str:
        """Runs a shell script as root over the open connection; what it printed."""
        words = [*self.ssh_words("root"), "-S", str(self.control), script]
        done = self.finish(words, input)
        if check and done.status:
            raise VmError(f"in the machine, exit {done.status}: {script}\n{done.out}{done.err}")
        return done.out

    def ssh(self, user: str, command: str, check: bool = True, terminal: bool = False) -> Done:
        """One whole login: authentication, PAM session, command, end of session."""
        done = self.finish([*self.ssh_words(user), *(["-tt"] if terminal else []), command])
        if check and done.status:
            raise VmError(f"login of {user}, exit {done.status}: {command}\n{done.out}{done.err}")
        return done

    def session(self, user: str) -> Session:
        """A login that stays open until it is closed or the machine stops."""
        session = Session(user, self.ssh_words(user))
        self.cleanup.callback(session.close)
        return session

    def logins(self, users: list[str], command: str, at_a_time: int) -> list[tuple[Done, float]]:
        """One login for each, so many at a time, and its seconds; in the order of their ends."""
        waiting, running, done = list(reversed(users)), {}, []
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    words = [*self.ssh_words(waiting.pop()), command]
                    process = child(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    running[process] = time.monotonic()
                time.sleep(0.01)
                for process in [process for process in running if process.poll() is not None]:
                    seconds = time.monotonic() - running.pop(process)
                    out, err = process.communicate()
                    done.append((Done(process.returncode, out, err), seconds))
                # The slowest of 20 takes 100 s where others use the machine as well.
                if running and time.monotonic() - min(running.values()) > COMMAND_DEADLINE * 2:
                    raise VmError(f"a login took more than {COMMAND_DEADLINE * 2} s: {command}")
        finally:
            for process in running:
                end(process)
        return done

    def put(self, files: dict[str, bytes | str], mode: int = 0o644) -> None:
        """Writes files of root's, all with one command; directories are made as needed."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for target, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                entry = tarfile.TarInfo(target.lstrip("/"))
                entry.size, entry.mode, entry.mtime = len(data), mode, int(time.time())
                tar.addfile(entry, io.BytesIO(data))
        self.root("tar -x --no-overwrite-dir --no-same-owner -C /", input=archive.getvalue())

    def finish(self, words: list[str], input: bytes | None = None) -> Done:
        try:
            done = finish(words, input)
        except VmError:
            self.look()
            raise
        if done.status == SSH_FAILED:
            self.look()
        return done

    def look(self) -> None:
        """Stops the machine if it hangs, so that whatever else is asked of it fails at once."""
        end_at = time.monotonic() + HUNG_AFTER
        while not self.sshd_answers():
            if self.qemu.poll() is not None:
                raise VmError(f"QEMU is gone; the console ends with\n{self.console_tail()}")
            if time.monotonic() > end_at:
                found = f"QEMU: {self.emulator_state()}\nthe console ends with\n{self.console_tail()}"
                end(self.qemu)
                raise VmError(f"no answer for {HUNG_AFTER} s, stopped. {found}")
            time.sleep(1)

    def emulator_state(self) -> str:
        """What QEMU says of itself, and where its CPUs are."""
        registers = {"command-line": "info registers -a"}
        said = []
        with contextlib.suppress(OSError, ValueError):
            for answer in self.monitor(("query-status", {}), ("human-monitor-command", registers)):
                said.append(answer.get("return", answer))
        status = said[0] if said else "it does not answer either"
        registers = said[1] if len(said) > 1 else ""
        where = [line for line in str(registers).splitlines() if line.startswith(("CPU#", "RIP"))]
        return f"{status} {' '.join(where)}"

    def monitor(self, *commands: tuple[str, dict]):
        """What QEMU answers to commands: docs/interop/qmp-spec of QEMU."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(5)
            monitor.connect(f"{self.work}/qmp")
            lines = monitor.makefile("rw")
            lines.readline()
            for name, arguments in (("qmp_capabilities", {}), *commands):
                print(json.dumps({"execute": name, "arguments": arguments}), file=lines, flush=True)
                while "return" not in (answer := json.loads(lines.readline())) and "error" not in answer:
                    pass
                if name != "qmp_capabilities":
                    yield answer

    def add_disk(self, name: str, bytes_per_second: int) -> str:
        """Plugs in a disk of 1 GiB of nothing, so slow; its name in the machine. It is gone with the next boot."""
        reads = {"driver": "null-co", "size": 1 << 30, "read-zeroes": True}
        slow = {"driver": "throttle", "node-name": name, "throttle-group": f"{name}-group", "file": reads}
        group = {"qom-type": "throttle-group", "id": f"{name}-group", "limits": {"bps-total": bytes_per_second}}
        disk = {"driver": "virtio-blk-pci", "drive": name, "id": f"{name}-disk", "serial": name}
        for answer in self.monitor(("object-add", group), ("blockdev-add", slow), ("device_add", disk)):
            if "error" in answer:
                raise VmError(f"QEMU takes no disk: {answer['error']}")
        self.root(f"until [ -e /dev/disk/by-id/virtio-{name} ]; do sleep 0.2; done")
        return self.root(f"basename $(readlink /dev/disk/by-id/virtio-{name})").strip()

    def remove_disk(self, name: str) -> None:
        """Unplugs it again."""
        device = self.root(f"basename $(readlink /dev/disk/by-id/virtio-{name})").strip()
        for _ in self.monitor(("device_del", {"id": f"{name}-disk"})):
            pass
        self.root(f"while [ -e /sys/block/{device} ]; do sleep 0.2; done")
        for _ in self.monitor(("blockdev-del", {"node-name": name}), ("object-del", {"id": f"{name}-group"})):
            pass

    def reboot(self, orderly: bool = True) -> float:
        """Shuts down, or pulls the plug, and boots again; the seconds from one end to the other."""
        before = self.root("cat /proc/sys/kernel/random/boot_id")
        started = time.monotonic()
        # Not root(): that the connection ends is no sign of a machine that hangs.
        command = "systemctl reboot" if orderly else "sync; systemctl reboot -ff"
        finish([*self.ssh_words("root"), "-S", str(self.control), command])
        # A fresh QEMU is a real power cycle, and quicker than a reset inside it: after that,
        # unpacking the kernel over the code it had translated takes up to 100 s.
        try:
            self.qemu.wait(timeout=BOOT_DEADLINE)
        except subprocess.TimeoutExpired:
            raise VmError(f"it does not shut down; the console ends with\n{self.console_tail()}") from None
        end(self.master)
        self.boot()
        if self.root("cat /proc/sys/kernel/random/boot_id") == before:
            raise VmError("it did not reboot: the boot id is the same")
        return time.monotonic() - started


def finish(words: list[str], input: bytes | None = None) -> Done:
    # Not child(): run() kills it on any exception, and it ends with QEMU in any case.
    stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(words, capture_output=True, timeout=COMMAND_DEADLINE, **stdin)
    except subprocess.TimeoutExpired:
        raise VmError(f"no answer in {COMMAND_DEADLINE} s: {words[-1]}") from None
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def end(process: subprocess.Popen) -> None:
    """Stops a child that may have ended already."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
