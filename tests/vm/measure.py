"""What is so inside a test machine: placement, scores, CPU shares, who was killed.

Every function asks with one command, because each costs a good part of a second.
"""

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from image import GUEST, VmError
from machine import Machine, Session

SERVICES = ["local-fs", "local-doorman", "local-content", "local-slm"]
TARGET_ROOT = "/srv/foundry/cargo-target"
UNITS = "/etc/systemd/system"


def install_package(machine: Machine, package: Path, command: str = "apt-get install -y") -> str:
    """Installs the .deb as an admin does, without a network; what apt and dpkg said."""
    # Outside /root, so that apt's own user can read it.
    machine.put({"/var/tmp/fairslice.deb": package.read_bytes()})
    return machine.root(f"DEBIAN_FRONTEND=noninteractive {command} /var/tmp/fairslice.deb 2>&1")


def install_services(machine: Machine) -> None:
    """The four services of the team, and the directory the private ones go under."""
    names = [f"{unit}.service" for unit in SERVICES]
    machine.put({f"{UNITS}/{name}": (GUEST / "units" / name).read_bytes() for name in names})
    machine.root(
        f"install -d -m 755 /srv/foundry {TARGET_ROOT} && systemctl enable --quiet --now {' '.join(SERVICES)} 2>&1"
    )


@dataclass(frozen=True)
class Process:
    cgroup: str  # as in /proc/PID/cgroup, without the leading slash
    oom_score_adj: int
    user: str
    pid: int

    @property
    def slice(self) -> str:
        """The slice it counts for: the innermost part of its path that is one."""
        slices = [part for part in self.cgroup.split("/") if part.endswith(".slice")]
        return slices[-1] if slices else "-.slice"


def services(machine: Machine, units: list[str]) -> dict[str, Process | None]:
    """The main process of each unit; None where none runs."""
    answer = machine.root(
        f"for unit in {' '.join(units)}; do"
        " pid=$(systemctl show --value --property MainPID $unit);"
        ' [ "$pid" = 0 ] || echo $unit $pid $(cut -d: -f3 /proc/$pid/cgroup)'
        " $(cat /proc/$pid/oom_score_adj) $(stat -c %U /proc/$pid); done"
    )
    found: dict[str, Process | None] = dict.fromkeys(units)
    for line in answer.splitlines():
        unit, pid, cgroup, score, user = line.split()
        found[unit] = Process(cgroup.lstrip("/"), int(score), user, int(pid))
    return found


# What a login says of itself. One line each, in this order.
LOGIN_QUESTIONS = (
    "cut -d: -f3 /proc/self/cgroup; cat /proc/self/oom_score_adj; id -un; echo $$; "
    'echo "${CARGO_TARGET_DIR-}"; stat -c "%U:%G %a" "${CARGO_TARGET_DIR:-/none}" 2>/dev/null || echo none; '
    "cat /sys/fs/cgroup/user.slice/user-$(id -u).slice/cpu.weight"
)


@dataclass(frozen=True)
class Login:
    process: Process
    target_dir: str  # CARGO_TARGET_DIR, empty when there is none
    owner: str  # user:group of that directory
    mode: str
    cpu_weight: int  # of the user's slice


def login_facts(answer: str) -> Login:
    """From what a shell printed for LOGIN_QUESTIONS."""
    lines = answer.splitlines()
    if len(lines) != 7:
        raise VmError(f"a login answered {len(lines)} lines instead of 7: {answer!r}")
    cgroup, score, user, pid, target, owner_mode, weight = lines
    owner, _, mode = owner_mode.partition(" ")
    return Login(Process(cgroup.lstrip("/"), int(score), user, int(pid)), target, owner, mode, int(weight))


def login_times(machine: Machine, users: list[str], at_a_time: int, command: str = "true") -> list[float]:
    """The seconds of each of many logins over ssh, from connecting to the end of the command.

    All of them and the command succeed, or it is an error.
    """
    done = machine.logins(users, command, at_a_time)
    failed = [answer for answer, _ in done if answer.status]
    if failed:
        raise VmError(f"{len(failed)} of {len(done)} logins failed, the first with {failed[0]}")
    return [seconds for _, seconds in done]


def sshd_listener_score(machine: Machine) -> int:
    return int(machine.root("cat /proc/$(systemctl show --value -p MainPID ssh)/oom_score_adj"))


@dataclass(frozen=True)
class Shares:
    shares: list[float]  # of what the groups used together
    cpus: float  # how many CPUs they kept busy

    def __str__(self) -> str:
        return " : ".join(f"{share:.3f}" for share in self.shares)

    def near(self, declared: list[float], tolerance: float = 0.03) -> bool:
        return all(abs(a - b) <= tolerance for a, b in zip(self.shares, declared, strict=True))


def cpu_shares(machine: Machine, groups: list[str], seconds: float = 10, settle: float = 2) -> Shares:
    """How the CPU time of a window was divided between cgroups, paths below /sys/fs/cgroup."""
    files = " ".join(f"/sys/fs/cgroup/{group}/cpu.stat" for group in groups)
    answer = machine.root(
        f"look() {{ cut -d' ' -f1 /proc/uptime; grep -h ^usage_usec {files}; }};"
        f" sleep {settle}; look; sleep {seconds}; look"
    )
    numbers = [float(line.split()[-1]) for line in answer.splitlines()]
    if len(numbers) != 2 * (len(groups) + 1):
        raise VmError(f"cpu.stat of {' '.join(groups)}: {answer!r}")
    before, after = numbers[: len(groups) + 1], numbers[len(groups) + 1 :]
    window, *used = [b - a for a, b in zip(before, after, strict=True)]
    total = sum(used) or 1
    return Shares([part / total for part in used], total / 1e6 / window)


def busy_shares(machine: Machine, groups: list[str], loads: str) -> Shares:
    """The same while loads that stand by are busy, `pkill`'s words for them, and only then: a login into a busy machine
    takes many times as long."""
    machine.root(f"sleep 0.5; pkill -USR1 {loads}")
    measured = cpu_shares(machine, groups, seconds=4, settle=1)
    machine.root(f"pkill -USR2 {loads}")
    return measured


def log_out(machine: Machine, user: str) -> None:
    """Ends a user's sessions, and waits for the slice to be gone: by default ten seconds later."""
    machine.root(
        f"loginctl terminate-user {user} 2>&1;"
        f" while systemctl is-active --quiet user-$(id -u {user}).slice; do sleep 0.2; done"
    )


def make_pid1_write_weights(machine: Machine) -> None:
    """daemon-reload changes a unit's property only; its cgroup gets it when a unit starts."""
    machine.root("systemctl daemon-reload && systemd-run --quiet --wait --slice=foundry-services.slice true")


def drill(machine: Machine, options: str = "", patience: float = 90) -> tuple[int, dict]:
    """The exit status of fairslice drill and what it says; refused because of what was going on just before, it is
    tried again."""
    end = time.monotonic() + patience
    while True:
        answer = machine.root(f"fairslice drill --yes --json {options} 2>&1; echo exit $?")
        said, status = answer.rsplit("exit ", 1)
        if said.startswith("{"):
            return int(status), json.loads(said)
        if not re.search("tasks wait|is the least busy|to take over| is busy ", said) or time.monotonic() > end:
            raise VmError(f"fairslice drill: {said}")
        time.sleep(1)


@dataclass(frozen=True)
class Killed:
    cgroup: str
    name: str

    def __str__(self) -> str:
        """The service, or the login's user by the name its load was given."""
        unit = self.cgroup.rsplit("/", 1)[-1]
        return self.name if unit.startswith("session-") else unit.removesuffix(".service")


def killed_in_order(machine: Machine) -> list[Killed]:
    """Whom the kernel's OOM killer took, from its own log."""
    lines = machine.root("journalctl -k -o cat --grep 'oom-kill:' || true")
    pattern = re.compile(r"task_memcg=([^,]*),task=([^,]*),")
    return [Killed(*match.groups()) for match in map(pattern.search, lines.splitlines()) if match]


def exhaust_memory(machine: Machine, eaters: list[tuple[Session, int]], deadline: float = 120) -> None:
    """Each login starts a child that eats that many MiB/s, and all wait until all were killed."""
    for session, rate in eaters:
        session.run(f"load --name hog-{session.user} --grow {rate} > /dev/null & hog=$!")
    end_at = time.monotonic() + deadline
    for session, _ in eaters:
        left = max(5, end_at - time.monotonic())
        session.run("wait $hog", left)


def listing(machine: Machine) -> set[str]:
    """Every file that an installation could leave behind: path, type, mode, owner, link target;
    for /etc the content too."""
    noise = (
        "/var/lib/dpkg/(status|lock|triggers|available)|/var/lib/systemd|/var/lib/private|/etc/.pwd.lock"
        "|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|/etc/ld.so.cache|/usr/share/mime"
        # PID 1 makes the directory when a test has it set a property for good; what is in it counts.
        "|/etc/systemd/system/|/etc/systemd/system.control d |/etc/cron.d/|/var/lib/apt/(lists|extended)|/etc/resolv.conf"
    )
    answer = machine.root(
        r"find /etc /usr /var/lib -xdev ! -type d -printf '%p %y %m %u:%g %l\n' -o -printf '%p %y %m %u:%g\n';"
        " find /etc -xdev -type f -exec md5sum {} +;"
        " find /run -xdev -path '*fairslice*' -o -path '/run/systemd/system.control/*'"
    )
    return {line for line in answer.splitlines() if not re.search(noise, line)}


def drop_ins(machine: Machine) -> dict[str, str]:
    """Our drop-ins in force, by unit."""
    answer = machine.root(
        "cd /run/systemd/generator && for file in */40-fairslice.conf; do"
        ' [ -f "$file" ] && echo "@ $file" && cat "$file"; done; true'
    )
    parts = re.split(r"^@ (.*)\.d/40-fairslice\.conf\n", answer, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def properties(machine: Machine, unit: str, *names: str) -> dict[str, str]:
    """What PID 1 says of a unit."""
    wanted = " ".join(f"-p {name}" for name in names)
    answer = machine.root(f"systemctl show {unit} {wanted}")
    return dict(line.split("=", 1) for line in answer.splitlines())


def cpu_weight(machine: Machine, group: str) -> int:
    return int(machine.root(f"cat /sys/fs/cgroup/{group}/cpu.weight"))


# No filter of journalctl's: systemd 252 then loses the first entry after the cursor.
JOURNAL_MARK = "journalctl --sync; journalctl -n 1 --show-cursor | sed -n 's/^-- cursor: //p'"


def journal_mark(machine: Machine) -> str:
    """A point in the journal, for journal_since."""
    return machine.root(JOURNAL_MARK).strip()


def journal_since(machine: Machine, mark: str, words: str = "") -> list[str]:
    """The lines with these words in them that came after the mark."""
    journal = machine.root(f"journalctl --sync; journalctl -o short --after-cursor='{mark}'")
    return [line for line in journal.splitlines() if words in line]


@contextlib.contextmanager
def sshd_started_with_score(machine: Machine, score: int):
    """An sshd whose children inherit a score, as with OOMScoreAdjust= in its unit (F10)."""
    drop_in = f"{UNITS}/ssh.service.d/score.conf"
    machine.put({drop_in: f"[Service]\nOOMScoreAdjust={score}\n"})
    machine.root("systemctl daemon-reload; systemctl restart ssh")
    try:
        yield
    finally:
        machine.root(f"rm -r {UNITS}/ssh.service.d; systemctl daemon-reload; systemctl restart ssh")
