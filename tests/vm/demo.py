"""make demo: fairslice on a real Debian machine, from the .deb to who was killed.

    python3 tests/vm/demo.py target/debian/fairslice_*.deb [--release trixie|bookworm]

Says what it does, with the time since the start, and ends in a table of what the policy
declares beside what was measured. Exit 0: all as declared. 1: not. 2: could not be run.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import measure
from image import RELEASES, VmError, base_image
from machine import Machine, Session, die_by_exception

SERVICES_SLICE = "foundry.slice/foundry-services.slice"
ALICE = "user.slice/user-1000.slice"
BOB = "user.slice/user-1001.slice"

# What the package's default policy declares, written down here a second time: a table that
# asked the tool under test for its left column would agree with any mistake.
DECLARED_SCORES = {"local-fs": -500, "local-doorman": -300, "local-content": 0, "local-slm": 500}
# Alice and bob have the same score: which of their hogs is larger, and goes first, is not declared.
HOGS = ["hog-alice", "hog-bob"]
# The logins have the score of local-content, and come with it in any order.
FIRST_VICTIM, LAST_VICTIMS = "local-slm", ["local-doorman", "local-fs"]
# Of services, of a login, and of another login or a group of weight 100.
DUE = [2 / 3, 1 / 6, 1 / 6]
ANCESTOR_MASK = "/etc/systemd/system/foundry.slice.d/40-fairslice.conf"
GROUP = "/etc/fairslice/policy.d/50-group.toml"


@dataclass
class Table:
    """One line for each claim."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def add(self, what: str, declared: str, measured: str, ok: bool | None = None) -> None:
        self.rows.append((what, declared, measured, declared == measured if ok is None else ok))

    def ok(self) -> bool:
        return all(row[3] for row in self.rows)

    def __str__(self) -> str:
        cells = [("what", "declared", "measured", "ok")]
        cells += [(what, declared, measured, "yes" if ok else "NO") for what, declared, measured, ok in self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)


class Demo:
    def __init__(self, package: Path, release: str):
        self.package, self.release = package, release
        self.started = time.monotonic()
        self.table = Table()

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {line}", flush=True)

    def run(self) -> bool:
        image = base_image(self.release, self.say)
        self.say(f"booting {RELEASES[self.release]}, emulated, 2 CPUs, 2 GiB, no swap")
        with Machine(image) as machine:
            self.say(f"it answers ssh, {machine.boot_seconds:.0f} s after power-on")
            self.machine = machine
            self.install()
            self.services()
            alice, bob = self.logins()
            self.cpu_shares(alice, bob)
            self.drills()
            self.memory(alice, bob)
            self.kill_order()
            self.say("switching the machine off")
        print(f"\n{self.table}\n")
        self.say("everything is as declared" if self.table.ok() else "NOT everything is as declared")
        return self.table.ok()

    def install(self) -> None:
        self.say(f"installing {self.package.name} with apt")
        measure.install_package(self.machine, self.package)

    def services(self) -> None:
        self.say(f"installing and starting {', '.join(measure.SERVICES)}, through fairslice-launch")
        measure.install_services(self.machine)
        found = measure.services(self.machine, measure.SERVICES)
        for unit, process in found.items():
            if process is None:
                raise VmError(f"{unit} does not run:\n{self.machine.root(f'journalctl -u {unit} -o cat')}")
            self.say(f"  {unit}: /{process.cgroup}, OOM score {process.oom_score_adj}, as {process.user}")
            measured = f"{process.slice}, {process.oom_score_adj}"
            declared = f"foundry-services.slice, {DECLARED_SCORES[unit]}"
            self.table.add(f"{unit}: slice, OOM score", declared, measured)
        score = measure.sshd_listener_score(self.machine)
        self.say(f"  sshd's listener: OOM score {score}, which it sets by itself")
        self.table.add("sshd: OOM score", "-1000", str(score))

    def logins(self) -> tuple[Session, Session]:
        self.say("logging in alice and bob over ssh")
        sessions = self.machine.session("alice"), self.machine.session("bob")
        for session, uid in zip(sessions, (1000, 1001), strict=True):
            login = measure.login_facts(session.run(measure.LOGIN_QUESTIONS))
            self.say(f"  {session.user}: /{login.process.cgroup}, OOM score {login.process.oom_score_adj}")
            self.say(f"    CARGO_TARGET_DIR={login.target_dir} ({login.owner}, {login.mode})")
            self.table.add(
                f"{session.user}: slice, weight, OOM score",
                f"user-{uid}.slice, 100, 0",
                f"{login.process.slice}, {login.cpu_weight}, {login.process.oom_score_adj}",
            )
            self.table.add(
                f"{session.user}: CARGO_TARGET_DIR",
                f"…/{session.user}, {session.user}:{session.user} 700",
                f"{login.target_dir or 'unset'}, {login.owner} {login.mode}".replace(measure.TARGET_ROOT, "…").rstrip(),
            )
        self.say("asking fairslice status whether all that is in force")
        answer = self.machine.root("fairslice status 2>&1; echo exit $?")
        for line in answer.splitlines()[:-1]:
            self.say(f"  {line}")
        self.table.add("fairslice status", "exit 0", answer.splitlines()[-1])
        return sessions

    def cpu_shares(self, alice: Session, bob: Session) -> None:
        self.say("local-slm gets busy, and so do alice and bob: 4 threads each on 2 CPUs")
        self.machine.root("systemctl kill -s USR1 local-slm")
        for session in (alice, bob):
            session.run("load --busy 4 > /dev/null & busy=$!")
        measured = measure.cpu_shares(self.machine, [SERVICES_SLICE, ALICE, BOB], seconds=6)
        # Shares say something only while everybody wants more than there is.
        contended = measured.cpus > 1.8
        note = "" if contended else f" ({measured.cpus:.2f} CPUs busy)"
        self.compare("CPU, services : alice : bob", measured, DUE, contended, note)
        self.machine.root("systemctl kill -s USR2 local-slm")
        for session in (alice, bob):
            session.run("kill $busy; wait $busy")

    def drills(self) -> None:
        """By loads of the drill's own, of which root has one as well, by whose login all of this is done."""
        self.say("alice and bob get a group whose members weigh 100 together; root, in none, weighs 100")
        self.machine.put({GROUP: "[logins.group.acme]\ntotal_weight = 100\n"})
        self.machine.root("groupadd --users alice,bob acme; fairslice apply")
        groups = [["foundry.slice"], [ALICE, BOB], ["user.slice/user-0.slice"]]
        self.drill("  drill, a group of both : root", groups, DUE, 0)
        self.say("the same without the weight that the package carries up to foundry.slice")
        self.machine.put({ANCESTOR_MASK: ""})
        measure.make_pid1_write_weights(self.machine)
        self.drill("  drill, that weight taken away", groups, [1 / 2, 1 / 4, 1 / 4], 1)

    def drill(self, what: str, groups: list[list[str]], due: list[float], status: int) -> None:
        """Whether each group of units gets its part, and the drill says whether that is as declared."""
        said, found = measure.drill(self.machine)
        measured = {row["unit"]: row["measured"] for row in found["cpu"]["rows"]}
        parts = [sum(measured[Path(unit).name] for unit in group) for group in groups]
        self.say(f"  exit {said}")
        self.compare(what, measure.Shares(parts, found["cpu"]["used"]), due, said == status)

    def compare(self, what: str, measured: measure.Shares, due: list[float], holds: bool, note: str = "") -> None:
        expected = " : ".join(f"{share:.3f}" for share in due)
        self.say(f"  measured {measured}, {measured.cpus:.2f} CPUs busy; due {expected}")
        self.table.add(what, expected, f"{measured}{note}", holds and measured.near(due))

    def memory(self, alice: Session, bob: Session) -> None:
        before = measure.services(self.machine, measure.SERVICES)
        self.say("alice and bob eat all memory that the ceiling of all logins lets them have: 400 and 300 MiB/s")
        measure.exhaust_memory(self.machine, [(alice, 400), (bob, 300)])
        killed = sorted(str(victim) for victim in measure.killed_in_order(self.machine))
        self.say(f"  the kernel killed {', '.join(killed) or 'nobody'}")
        self.table.add("killed at the logins' ceiling", ", ".join(HOGS), ", ".join(killed))

        # By main process, since a service that was killed and restarted did not survive.
        after = measure.services(self.machine, measure.SERVICES)
        survived = [unit for unit in measure.SERVICES if after[unit] and after[unit] == before[unit]]
        connected = [session.user for session in (alice, bob) if answers(session)]
        self.say(f"  alive: {', '.join(survived)}; ssh connections of {' and '.join(connected)}")
        self.table.add("services alive after it", ", ".join(measure.SERVICES), ", ".join(survived))
        self.table.add("ssh connections alive after it", "alice, bob", ", ".join(connected))

    def kill_order(self) -> None:
        self.say("fairslice drill --kill-order: a cgroup of its own runs out of memory")
        said, found = measure.drill(self.machine, "--kill-order")
        order = [row["unit"].removesuffix(".service") for row in found["kill_order"]["rows"]]
        self.say(f"  exit {said}; the kernel killed, in this order: those of {', '.join(order)}")
        declared, measured = (", ".join([first, "…", *last]) for first, last in [(FIRST_VICTIM, LAST_VICTIMS), (order[0], order[-2:])])
        self.table.add("  drill, killed in order", declared, measured, said == 0 and declared == measured)


def answers(session: Session) -> bool:
    try:
        return session.run("echo here") == "here\n"
    except VmError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description="fairslice, shown by measurement in an emulated machine")
    parser.add_argument("package", type=Path, help="the .deb, from make deb")
    parser.add_argument("--release", choices=RELEASES, default="trixie")
    options = parser.parse_args()
    die_by_exception()
    try:
        if not options.package.is_file():
            raise VmError(f"no such package: {options.package}: make deb")
        return 0 if Demo(options.package, options.release).run() else 1
    except VmError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: interrupted; the machine is gone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
