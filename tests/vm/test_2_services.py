"""Services of every kind behind the launcher: in place, and where it has to put them there."""

import json
import re
import shlex
from dataclasses import dataclass

import measure
import pytest
from image import GUEST, run
from machine import Machine

SLICE = "foundry.slice/foundry-services.slice"
SCORE = 300
PORT = 7777
KIND = "/usr/local/bin/kind"
OTHER_ROOT = "/srv/other-root"

# Tried on this one only: nothing in it depends on the release.
BOOKWORM = pytest.mark.thorough("bookworm")

# What the launcher can do about a wrong slice.
SCOPE = "scope"
ONLY_ROOT = "only root can have PID 1 do that"


@dataclass(frozen=True)
class Kind:
    settings: str = ""
    command: str = f"{KIND} stay"
    misplaced: str = SCOPE  # or why it is left where it is
    since: int = 252  # the first systemd that has it


KINDS = {
    "simple": Kind("Type=simple"),
    "exec": Kind("Type=exec"),
    "notify": Kind("Type=notify", f"{KIND} notify"),
    "reload": Kind("Type=notify-reload", f"{KIND} reload", since=253),
    "forking": Kind(
        "Type=forking\nPIDFile=/run/k-forking.pid", f"{KIND} fork /run/k-forking.pid",
        misplaced="main process of a Type=forking service",
    ),
    "guessed": Kind(
        "Type=forking\nExecStartPre=rm -f /run/k-guessed.pid", f"{KIND} fork /run/k-guessed.pid",
        misplaced="main process of a Type=forking service",
    ),
    "restart": Kind("Restart=always"),
    "socket": Kind("", f"{KIND} listen door"),
    "user": Kind("User=foundry", misplaced=ONLY_ROOT),
    "dynamic": Kind("DynamicUser=yes", misplaced=ONLY_ROOT),
    "nonewprivs": Kind("NoNewPrivileges=yes"),
    "ambient": Kind("AmbientCapabilities=CAP_SYS_RESOURCE CAP_NET_BIND_SERVICE"),
    "granted": Kind("User=foundry\nAmbientCapabilities=CAP_SYS_RESOURCE", misplaced=ONLY_ROOT),
    "bounding": Kind("CapabilityBoundingSet="),
    "strict": Kind("ProtectSystem=strict"),
    "cgroups": Kind("ProtectControlGroups=yes"),
    "subset": Kind("ProcSubset=pid"),
    "private": Kind("PrivateUsers=yes"),
    "syscalls": Kind("SystemCallFilter=@system-service"),
    "mdwe": Kind("MemoryDenyWriteExecute=yes"),
    "families": Kind("RestrictAddressFamilies=none", misplaced="Address family not supported"),
    "rootdir": Kind(f"RootDirectory={OTHER_ROOT}\nMountAPIVFS=yes\nBindReadOnlyPaths=/run/systemd"),
    "worker@7": Kind(),
    r"escaped@srv-a\x2db:c": Kind(),
    "delegate": Kind("Delegate=yes"),
    "alias": Kind(),
}  # fmt: skip

# Of the launcher's line when PID 1 has not answered, or not moved the service, in time.
TOO_SLOW = re.compile("waiting for|time limit")

PARAMETERS = [pytest.param(name, id=re.sub(r"[^a-z0-9]+", "-", name)) for name in KINDS]


def unit(name: str) -> str:
    return f"local-k-{name}.service"


@dataclass(frozen=True)
class Facts:
    state: str
    result: str
    restarts: int
    pid: int
    cgroup: str
    score: int
    capabilities: list[str]  # the five sets


def facts(machine: Machine, names: list[str]) -> dict[str, Facts]:
    units = " ".join(f"'{unit(name)}'" for name in names)
    answer = machine.root(f"systemctl show -p ActiveState -p Result -p NRestarts -p MainPID {units}")
    shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in answer.split("\n\n")]
    pids = [unit["MainPID"] for unit in shown]
    files = (f"/proc/{pid}/{file}" for pid in pids for file in ("cgroup", "oom_score_adj", "status"))
    answer = machine.root(f"grep -sE '^0::|^[0-9-]+$|^Cap' {' '.join(files)}", check=False)
    processes: dict[str, list[str]] = {pid: [] for pid in pids}
    for line in answer.splitlines():
        _, _, pid, file = line.split("/", 3)
        processes[pid].append(file.split(":", 1)[1])
    found = {}
    for name, unit_, pid in zip(names, shown, pids, strict=True):
        cgroup, score, *capabilities = processes[pid] or ["0::/", "0"]
        found[name] = Facts(
            unit_["ActiveState"], unit_["Result"], int(unit_["NRestarts"]), int(pid),
            cgroup.removeprefix("0::/"), int(score), [line.split()[1] for line in capabilities],
        )  # fmt: skip
    return found


def launcher_lines(machine: Machine, mark: str) -> dict[str, list[str]]:
    """What the launcher said since the mark, by unit."""
    found: dict[str, list[str]] = {}
    for line in measure.journal_since(machine, mark, "fairslice-launch["):
        said = line.split("]: ", 1)[1]
        name = re.match(r"fairslice-launch: local-k-(.*?)\.service: ", said)
        found.setdefault(name.group(1) if name else "", []).append(said)
    return found


@pytest.fixture(scope="module")
def kinds(installed, tmp_path_factory):
    """One service of each kind, started; PID 1 gives them another OOM score than the policy."""
    machine = installed
    program = tmp_path_factory.mktemp("kind") / "kind"
    run(["gcc", "-static", "-O1", "-s", "-o", program, GUEST / "kind.c"])
    version = int(machine.root("systemctl --version").split()[1])
    names = [name for name, kind in KINDS.items() if kind.since <= version]
    files = {}
    for name in names:
        template = re.sub("@.*", "@", name)
        files[f"{measure.UNITS}/{unit(template)}"] = (
            f"[Service]\n{KINDS[name].settings}\nExecStart=/usr/bin/fairslice-launch -- {KINDS[name].command}\n"
        )
    files[f"{measure.UNITS}/local-k-socket.socket"] = (
        f"[Socket]\nListenStream=127.0.0.1:{PORT}\nFileDescriptorName=door\n"
    )
    files[f"{measure.UNITS}/local-k-.service.d/50-score.conf"] = "[Service]\nOOMScoreAdjust=0\n"
    scores = (f"[service.'local-k-{name}']\noom_score_adj = {SCORE}\n" for name in names)
    files["/etc/fairslice/policy.d/kinds.toml"] = "".join(scores)
    machine.put(files)
    machine.put({KIND: program.read_bytes(), f"{OTHER_ROOT}{KIND}": program.read_bytes()}, mode=0o755)
    machine.root(
        f"mkdir -p {OTHER_ROOT}/usr/bin && cp /usr/bin/fairslice-launch {OTHER_ROOT}/usr/bin/"
        f" && ln -s {unit('alias')} {measure.UNITS}/local-k-also.service"
        # PID 1 has the score, and who set it is gone: it is nobody's over the policy's.
        f" && fairslice check && systemctl daemon-reload && rm {measure.UNITS}/local-k-.service.d/50-score.conf"
    )
    machine.kinds = names
    machine.mark = measure.journal_mark(machine)
    start(machine)
    machine.said = launcher_lines(machine, machine.mark)
    machine.facts = facts(machine, names)
    yield machine
    machine.root(
        f"systemctl stop 'local-k-*'; rm -rf {measure.UNITS}/local-k-* /etc/fairslice/policy.d/kinds.toml"
        f" {KIND} {OTHER_ROOT} /run/k-*; systemctl daemon-reload; systemctl reset-failed"
    )


def keep_loaded(machine: Machine, unit: str) -> None:
    """PID 1 keeps what it has read of a unit that something refers to, also while that does not run."""
    target = f"hold-{unit.removesuffix('.service')}.target"
    machine.put({f"/run/systemd/system/{target}": f"[Unit]\nAfter={unit}\n"})
    machine.root(f"systemctl daemon-reload; systemctl start {target}")


def start(machine: Machine, verb: str = "start") -> None:
    names = [unit("also" if name == "alias" else name) for name in machine.kinds if name != "socket"]
    units = " ".join(f"'{name}'" for name in names)
    # One after the other: PID 1 has 10 s for a scope, and it is emulated.
    machine.root(
        f"for unit in local-k-socket.socket {units}; do systemctl {verb} $unit; done;"
        f" exec 3<> /dev/tcp/127.0.0.1/{PORT}; head -n 1 <&3",
        check=False,
    )


@pytest.fixture(scope="module")
def misplaced(kinds):
    """The same services, once PID 1 has another slice for them, by a file that is gone again."""
    machine = kinds
    slice_drop_in = f"{measure.UNITS}/local-k-.service.d/50-slice.conf"
    machine.put({slice_drop_in: "[Service]\nSlice=system.slice\n"})
    mark = measure.journal_mark(machine)
    machine.root(f"systemctl daemon-reload; rm {slice_drop_in}; systemctl stop local-k-socket.service")
    # A unit that was stopped is read anew.
    start(machine, "restart")
    machine.said_misplaced = launcher_lines(machine, mark)
    # PID 1 has 10 s, which two emulated machines on one real one do not always leave it.
    slow = [name for name, said in machine.said_misplaced.items() if TOO_SLOW.search(said[-1])]
    if slow:
        mark = measure.journal_mark(machine)
        machine.root(f"systemctl restart {' '.join(shlex.quote(unit(name)) for name in slow)}")
        machine.said_misplaced |= launcher_lines(machine, mark)
    machine.facts_misplaced = facts(machine, machine.kinds)
    yield machine
    machine.root("systemctl daemon-reload")


@pytest.mark.parametrize("name", PARAMETERS)
def test_any_kind_of_service_runs_behind_the_launcher(kinds, name):
    if name not in kinds.kinds:
        pytest.skip(f"systemd {KINDS[name].since} and newer")
    found = kinds.facts[name]
    assert (found.state, found.result, found.restarts) == ("active", "success", 0)
    assert f"{found.cgroup}/".startswith(f"{SLICE}/{unit(name)}/")
    # PID 1 set 0: that it is the policy's is the launcher's work.
    assert found.score == SCORE
    assert kinds.said.get(name) is None


@BOOKWORM
@pytest.mark.parametrize("name", PARAMETERS)
def test_any_kind_of_service_is_put_into_its_slice_or_reported(misplaced, name):
    if name not in misplaced.kinds:
        pytest.skip(f"systemd {KINDS[name].since} and newer")
    found, kind = misplaced.facts_misplaced[name], KINDS[name]
    assert (found.state, found.result, found.restarts) == ("active", "success", 0)
    assert found.score == SCORE
    (said,) = misplaced.said_misplaced[name]
    assert "foundry-services.slice" in said
    assert "systemctl cat" in said
    if kind.misplaced == SCOPE:
        scope = f"local-k-{name.replace('@', '-')}-{found.pid}.scope"
        assert found.cgroup == f"{SLICE}/{scope}"
        assert f"put there as {scope}" in said
    else:
        assert f"{found.cgroup}/".startswith("system.slice/")
        assert kind.misplaced in said
        assert said.endswith("; started all the same")


def test_a_granted_capability_is_gone_from_all_five_sets(kinds):
    bit = 1 << 24  # CAP_SYS_RESOURCE, capabilities(7)
    sets = [int(text, 16) for text in kinds.facts["ambient"].capabilities]
    assert len(sets) == 5
    assert all(mask & bit == 0 for mask in sets)
    # The other ambient one is the service's own.
    assert all(mask & 1 << 10 for mask in sets)
    # Without CAP_SETPCAP nobody may narrow a bounding set.
    inheritable, permitted, effective, bounding, ambient = (
        int(text, 16) for text in kinds.facts["granted"].capabilities
    )
    assert (inheritable, permitted, effective, ambient) == (0, 0, 0, 0)
    assert bounding & bit


def test_a_reload_by_notification_works(kinds):
    if "reload" not in kinds.kinds:
        pytest.skip("systemd 253 and newer")
    assert kinds.root(f"systemctl reload {unit('reload')} && systemctl show --value -p StatusText {unit('reload')}") == "reloaded\n"


@BOOKWORM
def test_a_moved_service_says_what_it_is(misplaced):
    pid = misplaced.facts_misplaced["simple"].pid
    status = misplaced.root(f"systemctl status --no-pager local-k-simple-{pid}.scope")
    assert "local-k-simple.service, put into foundry-services.slice by fairslice-launch" in status
    assert "man:fairslice-launch(1)" in status
    assert f"Main PID: {pid}" in misplaced.root(f"systemctl status --no-pager {unit('simple')}")
    # And fairslice finds it where it is.
    lines = misplaced.root(f"fairslice status {unit('simple')}", check=False).splitlines()
    line = next(line for line in lines if line.split()[0] == "slice")
    assert line.split()[1:4] == ["foundry-services.slice", "foundry-services.slice", "ok"]


# --- the life of a service that was moved ---

LIFE = "local-life"
# A child that ignores SIGTERM and outlives its parent.
FAMILY = "/bin/sh -c 'trap \"\" TERM; sleep 4711 & trap - TERM; exec sleep 4712'"


@dataclass(frozen=True)
class Life:
    state: str
    result: str
    pid: int
    scopes: list[str]
    processes: list[str]


def life(machine: Machine) -> Life:
    answer = machine.root(
        f"systemctl show --value -p ActiveState -p Result -p MainPID {LIFE};"
        f" echo scopes $(systemctl list-units --all --plain --no-legend '{LIFE}-*.scope' | cut -d' ' -f1);"
        " echo processes $(pgrep -f 'sleep 471[12]')"
    )
    pid, result, state, scopes, processes = answer.splitlines()
    return Life(state, result, int(pid), scopes.split()[1:], processes.split()[1:])


@pytest.fixture
def service(installed):
    """A function that starts a misplaced service with these settings and this command."""
    machine = installed

    def begin(settings: str, command: str = FAMILY) -> str:
        machine.put(
            {
                f"{measure.UNITS}/{LIFE}.service": (
                    f"[Service]\nTimeoutStopSec=1\n{settings}\nExecStart=/usr/bin/fairslice-launch -- {command}\n"
                ),
                f"{measure.UNITS}/{LIFE}.service.d/50-slice.conf": "[Service]\nSlice=system.slice\n",
            }
        )
        # By the administrator's own file it would be left there.
        gone = f"rm {measure.UNITS}/{LIFE}.service.d/50-slice.conf"
        start = f"SYSTEMD_LOG_LEVEL=err systemctl start {LIFE} 2>&1; echo exit $?"
        keep_loaded(machine, f"{LIFE}.service")
        return machine.root(f"{gone}; {start}", check=False)

    yield begin
    # The next one to begin reloads, and so does who cleans up after them all.
    machine.root(
        f"systemctl stop {LIFE} '{LIFE}-*.scope'; systemctl reset-failed {LIFE} 2> /dev/null;"
        f" systemctl stop hold-{LIFE}.target; rm -rf {measure.UNITS}/{LIFE}.service* /run/systemd/system/hold-{LIFE}.target"
    )


def test_the_administrators_own_slice_wins(installed, service):
    service("")
    mine = f"{measure.UNITS}/{LIFE}.service.d/50-mine.conf"
    installed.put({mine: "[Service]\nSlice=system.slice\n"})
    mark = measure.journal_mark(installed)
    installed.root(f"systemctl daemon-reload; systemctl stop {LIFE}; systemctl start {LIFE}")
    running = life(installed)
    assert (running.state, running.scopes) == ("active", [])
    assert measure.properties(installed, f"{LIFE}.service", "Slice") == {"Slice": "system.slice"}
    said = f"left in /system.slice/{LIFE}.service, declared foundry-services.slice: {mine}:2"
    assert measure.journal_since(installed, mark, said)


def test_stop_leaves_nothing_behind(installed, service):
    service("")
    running = life(installed)
    assert running.state == "active"
    assert running.scopes == [f"{LIFE}-{running.pid}.scope"]
    assert len(running.processes) == 2
    installed.root(f"systemctl stop {LIFE}; sleep 2")
    assert life(installed) == Life("inactive", "success", 0, [], [])


@BOOKWORM
def test_its_own_limits_go_with_it(installed, service):
    service("MemoryMax=100M\nCPUQuota=150%\nTasksMax=50\nCPUWeight=70")
    scope = f"/sys/fs/cgroup/{SLICE}/{life(installed).scopes[0]}"
    answer = installed.root(f"cd {scope} && cat memory.max cpu.max pids.max cpu.weight")
    assert answer.split() == ["104857600", "150000", "100000", "50", "70"]


def test_restart_and_sigkill_leave_one_generation(installed, service):
    service("Restart=always\nRestartSec=0")
    first = life(installed)
    installed.root(f"systemctl restart {LIFE}; sleep 2.5")
    second = life(installed)
    assert second.pid != first.pid
    assert second.scopes == [f"{LIFE}-{second.pid}.scope"]
    assert len(second.processes) == 2
    installed.root(f"kill -KILL {second.pid}; sleep 3")
    third = life(installed)
    assert third.pid not in (first.pid, second.pid, 0)
    assert (third.state, third.result) == ("active", "success")
    assert third.scopes == [f"{LIFE}-{third.pid}.scope"]
    assert len(third.processes) == 2


@BOOKWORM
def test_a_child_that_outlives_its_parent_is_stopped(installed, service):
    service("", "/bin/sh -c 'sleep 4711 & exec sleep 1'")
    installed.root("sleep 3")
    assert life(installed) == Life("inactive", "success", 0, [], [])


@BOOKWORM
def test_kill_mode_process_lets_children_live(installed, service):
    service("KillMode=process")
    installed.root(f"systemctl stop {LIFE}; sleep 1")
    after = life(installed)
    assert (after.state, len(after.processes)) == ("inactive", 1)


@BOOKWORM
def test_systemctl_kill_reaches_the_main_process(installed, service):
    service("")
    installed.root(f"systemctl kill {LIFE}; sleep 2.5")
    assert life(installed) == Life("inactive", "success", 0, [], [])


@BOOKWORM
def test_the_services_own_way_to_stop_comes_first(installed, service):
    # If the scope were stopped at the same time, "stopping" could not be written.
    service(
        "TimeoutStopSec=20\nExecStop=/bin/sh -c 'sleep 1; kill -USR1 $MAINPID; sleep 1'",
        "/bin/sh -c 'trap \"echo asked to stop > /run/k-stopped; exit 0\" USR1; trap \"exit 9\" TERM;"
        " while sleep 0.2; do :; done'",
    )
    installed.root(f"systemctl stop {LIFE}")
    assert installed.root("cat /run/k-stopped; rm /run/k-stopped") == "asked to stop\n"
    assert life(installed).result == "success"


@BOOKWORM
def test_a_failed_start_leaves_nothing_behind(installed, service):
    said = service("Type=notify\nTimeoutStartSec=2")
    assert said.splitlines()[-1] == "exit 1"
    installed.root("sleep 2.5")
    assert life(installed) == Life("failed", "timeout", 0, [], [])
    said = service("Type=oneshot", "/no/such/command")
    assert said.splitlines()[-1] == "exit 1"
    assert life(installed) == Life("failed", "exit-code", 0, [], [])
    assert "status=203/EXEC" in installed.root(f"systemctl status {LIFE} --no-pager", check=False)


@BOOKWORM
def test_each_command_of_a_oneshot_is_moved(installed, service):
    launch = "/usr/bin/fairslice-launch --"
    look = "/bin/sh -c 'cut -d: -f3 /proc/self/cgroup >> /run/k-oneshot'"
    service(f"Type=oneshot\nExecStart={launch} {look}\nExecStart={launch} {look}", look)
    cgroups = installed.root("cat /run/k-oneshot; rm /run/k-oneshot").split()
    assert len(cgroups) == 3
    assert all(group.startswith(f"/{SLICE}/{LIFE}-") for group in cgroups)
    assert life(installed) == Life("inactive", "success", 0, [], [])


@BOOKWORM
def test_a_pid1_that_does_not_answer_costs_ten_seconds(installed, service):
    # Nobody listens behind this socket; PID 1 has its own name for it back afterwards.
    replaced = "/run/systemd/private"
    installed.root(
        f"mv {replaced} {replaced}.real; systemd-socket-activate -l {replaced} --accept sleep 90 > /dev/null 2>&1 &"
        " echo $! > /run/k-silent; sleep 1"
    )
    try:
        answer = installed.root(
            "start=$(date +%s%N); cd /sys/fs/cgroup; fairslice-launch --unit local-life -- echo ran 2>&1;"
            " echo $(( ($(date +%s%N) - start) / 1000000 ));"
            " fairslice-launch --strict --unit local-life -- echo ran 2>&1; echo $?"
        )
    finally:
        installed.root(f"kill $(cat /run/k-silent); mv {replaced}.real {replaced}; rm /run/k-silent")
    said, ran, milliseconds, refused, status = answer.splitlines()
    assert "PID 1 did not answer within the time limit" in said
    assert ran == "ran"
    assert 9900 < int(milliseconds) < 20000
    assert "not started (--strict)" in refused
    assert status == "219"


# --- without systemd ---

@BOOKWORM
def test_without_systemd_the_slice_is_made_and_entered(installed):
    """A container: its own cgroup namespace, processes in its root, no /run/systemd."""
    policy = (
        '[slice."foundry-services.slice"]\nmatch = ["local-*"]\ncpu_weight = 300\nmemory_high = "50%"\n'
        "[service.local-fs]\noom_score_adj = 7\ncpu_weight = 50\n"
    )
    installed.put({"/srv/container/policy.toml": policy, "/srv/container/inside": CONTAINER}, mode=0o755)
    answer = installed.root(
        "systemd-run --quiet --wait --pipe -p Delegate=yes -p Type=exec --unit k-container"
        " env -u INVOCATION_ID unshare --mount --cgroup bash /srv/container/inside 2>&1"
    )
    lines = answer.splitlines()
    assert "@" in lines, answer
    said, tree = lines[: lines.index("@")], lines[lines.index("@") + 1 :]
    assert said == []
    leaf = f"/{SLICE}/local-fs.service"
    assert tree == [
        f"first {leaf} 7", f"second {leaf} 7", f"third /{SLICE}/local-doorman.service 0",
        "foundry.slice cpu.weight 300",
        f"{SLICE} cpu.weight 300",
        f"{SLICE} memory.high half",
        f"{SLICE}/local-fs.service cpu.weight 50",
        "rest has processes",
        "status and doctor: 0 0",
    ]  # fmt: skip


CONTAINER = rf"""
set -e
mount -t tmpfs tmpfs /run
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/etc && cp -r /etc/fairslice /run/etc/ && mount --bind /srv/container/policy.toml /etc/fairslice/policy.toml
look='echo $0 $(cut -d: -f3 /proc/self/cgroup) $(cat /proc/self/oom_score_adj)'
fairslice-launch --unit local-fs -- sh -c "$look" first > /run/1 2>&1 &
fairslice-launch --unit local-fs -- sh -c "$look" second > /run/2 2>&1 &
fairslice-launch -- /bin/sh -c 'exit 0' > /dev/null 2>&1 || true
fairslice-launch --unit local-doorman -- sh -c "$look" third > /run/3 2>&1
wait
grep -v '^first\|^second\|^third' /run/1 /run/2 /run/3 || true
echo @
cat /run/1 /run/2 /run/3
cd /sys/fs/cgroup
echo foundry.slice cpu.weight $(cat foundry.slice/cpu.weight)
echo {SLICE} cpu.weight $(cat {SLICE}/cpu.weight)
half=$(( $(awk '/^MemTotal/ {{ print $2 }}' /proc/meminfo) * 512 / 4096 * 4096 ))
[ $(cat {SLICE}/memory.high) = $half ] && echo {SLICE} memory.high half
echo {SLICE}/local-fs.service cpu.weight $(cat {SLICE}/local-fs.service/cpu.weight)
[ -n "$(cat init.scope/cgroup.procs)" ] && echo rest has processes
fairslice status >&2 && status=$? || status=$?
fairslice doctor >&2 && echo status and doctor: $status $? || echo status and doctor: $status $?
"""


@BOOKWORM
def test_a_container_without_controllers_gets_them_as_doctor_says(installed):
    installed.put({"/srv/container/undelegated": UNDELEGATED}, mode=0o755)

    def absent(delegate: str) -> list[dict]:
        # In a slice of its own, where nothing else wants a controller.
        answer = installed.root(
            f"systemd-run --quiet --wait --pipe --slice=k -p {delegate} -p Type=exec --unit k-container"
            " unshare --mount bash /srv/container/undelegated 2> /run/k-container"
        )
        return [one for one in json.loads(answer)["findings"] if one["code"] == "FS020"]

    without = absent("Delegate=no")
    assert [one["subject"] for one in without] == ["foundry-services.slice, foundry.slice"], without
    assert without[0]["cause"] == "this is a container, into which the cpu controller is not delegated"
    fix = re.fullmatch("set (Delegate=yes) for the container's unit, on the machine that it runs on", without[0]["fix"]["text"])
    assert absent(fix[1]) == []


# As a container manager does it: this machine's own files below an overlay, with a systemd of their own whose cgroup has
# nobody else in it, and what controllers there are.
UNDELEGATED = r"""
set -e
base=/run/inner
mkdir -p $base && mount -t tmpfs tmpfs $base && cd $base
mkdir up work root
mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
rm -f root/etc/fairslice/policy.d/*
printf '[slice."foundry-services.slice"]\nmatch = ["local-*"]\ncpu_weight = 300\n' > root/etc/fairslice/policy.toml
cat > root/etc/systemd/system/look.service << UNIT
[Unit]
SuccessAction=exit
FailureAction=exit
DefaultDependencies=no
Wants=local-fs.service
After=local-fs.service
[Service]
Type=oneshot
ExecStart=sh -c "fairslice doctor --json > /found; true"
UNIT
printf '[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=sleep infinity\n' > root/etc/systemd/system/local-fs.service
inside='
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs dev
for device in null zero full random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mount -t tmpfs tmpfs run
exec env -i container=other PATH=$PATH chroot . /lib/systemd/systemd --unit=look.service
'
cd /sys/fs/cgroup/k.slice/k-container.service
mkdir manager container
echo $$ > manager/cgroup.procs
sed 's/[^ ]* */+&/g' cgroup.controllers > cgroup.subtree_control
enter="echo 0 > container/cgroup.procs; cd $base; exec unshare --cgroup --uts --ipc --net bash -c '$inside'"
unshare --pid --fork bash -c "$enter" >&2 || true
cat $base/root/found
"""


# --- nobody notices ---

PROBE = "/usr/local/bin/probe"
LOOK = "local-look"
# One invocation runs the probe twice, directly and through the launcher. These differ by nature:
# systemd connects each command to the journal anew, and gives it a session keyring of its own.
DIFFERS_ANYWAY = re.compile(
    r"socket:\[\d+\]|ino:\\t\d+|(?<=JOURNAL_STREAM=)[\d:]+|(?<=^keyring.session )\d+"
)

CIRCUMSTANCES = {
    "plain": "",
    "user": "User=foundry\nSupplementaryGroups=operators\nWorkingDirectory=/var/tmp\nUMask=0027",
    "scheduled": "Nice=5\nCPUSchedulingPolicy=batch\nIOSchedulingClass=idle\nCPUAffinity=1\nTimerSlackNSec=1ms",
    "limited": "LimitNOFILE=777:888\nLimitCORE=5\nLimitSTACK=2M\nTasksMax=50",
    "signals": "IgnoreSIGPIPE=no",
    "secured": (
        "SecureBits=noroot-locked\nNoNewPrivileges=yes\nCapabilityBoundingSet=CAP_CHOWN CAP_KILL\n"
        "SystemCallFilter=@system-service @keyring @module\nLockPersonality=yes\nPersonality=x86\n"
        "MemoryDenyWriteExecute=yes\nProtectSystem=strict\nReadWritePaths=/run/look\nPrivateTmp=yes"
    ),
    "keyring": "KeyringMode=inherit",
    "streams": "StandardInput=null\nStandardOutput=file:/run/look/output\nStandardError=null\nLogNamespace=",
    "environment": "Environment=EMPTY= 'SPACE= a b ' NEWLINE=\\n \"QUOTES='\\\"\"\nUnsetEnvironment=PATH",
}  # fmt: skip


@pytest.fixture(scope="module")
def probe(installed, tmp_path_factory):
    machine = installed
    program = tmp_path_factory.mktemp("probe") / "probe"
    run(["gcc", "-static", "-O1", "-s", "-o", program, GUEST.parent.parent / "probe.c"])
    machine.put({PROBE: program.read_bytes()}, mode=0o755)
    yield machine
    machine.root(
        f"systemctl stop hold-{LOOK}.target; rm -rf {PROBE} {measure.UNITS}/{LOOK}* /run/look"
        f" /run/systemd/system/hold-{LOOK}.target; systemctl daemon-reload"
    )


def looks(machine: Machine, settings: str, score: int) -> list[list[str]]:
    """What the probe sees directly, and what it sees through the launcher, that need not differ."""
    arguments = "/run/look/now a '' 'b c' \"d\\te\" $$f"
    # PID 1 has it, and it is gone when the service starts.
    score_drop_in = f"{measure.UNITS}/{LOOK}.service.d/50-score.conf"
    machine.put(
        {
            f"{measure.UNITS}/{LOOK}.service": (
                f"[Service]\nType=oneshot\nSlice=foundry-services.slice\n{settings}\n"
                f"ExecStart={PROBE} {arguments}\nExecStart=+/bin/mv /run/look/now /run/look/direct\n"
                f"ExecStart=/usr/bin/fairslice-launch -- {PROBE} {arguments}\n"
            ),
            score_drop_in: "[Service]\nOOMScoreAdjust=0\n",
        }
    )
    keep_loaded(machine, f"{LOOK}.service")
    # What the policy says of it, as the launcher reads it; PID 1 has read its units before.
    generated = f"/run/systemd/generator/{LOOK}.service.d"
    answer = machine.root(
        f"mkdir -p {generated}; printf '[Service]\nSlice=foundry-services.slice\nOOMScoreAdjust={score}\n'"
        f" > {generated}/40-fairslice.conf; rm -rf /run/look; mkdir -m 777 /run/look; rm {score_drop_in};"
        f" SYSTEMD_LOG_LEVEL=err systemctl start {LOOK} 2>&1"
        f" || systemctl status --no-pager {LOOK}; cat /run/look/direct; echo @; cat /run/look/now"
    )
    found = []
    for text in answer.split("@\n"):
        lines = [DIFFERS_ANYWAY.sub("…", line) for line in text.splitlines()]
        pid = next(line.split()[1] for line in lines if line.startswith("pid "))
        assert any(line.endswith(f" SYSTEMD_EXEC_PID={pid}") for line in lines)
        # A group may have the number that this process has got.
        numbers = ("status.Uid", "status.Gid", "status.Groups")
        found.append([line if line.startswith(numbers) else re.sub(rf"\b{pid}\b", "PID", line) for line in lines])
    return found


def differences(pair: list[list[str]]) -> set[str]:
    direct, launched = pair
    assert len(direct) > 150
    return {line.split(" ", 1)[0] for line in set(direct) ^ set(launched)}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "plain" else BOOKWORM) for name in CIRCUMSTANCES]
)
def test_a_command_cannot_tell_that_it_was_launched(probe, name):
    assert differences(looks(probe, CIRCUMSTANCES[name], score=0)) == set()


@BOOKWORM
def test_a_command_sees_the_score_and_no_capability(probe):
    settings = "User=foundry\nAmbientCapabilities=CAP_SYS_RESOURCE CAP_SETPCAP"
    assert differences(looks(probe, settings, score=250)) == {
        "oom_score_adj", "status.CapAmb", "status.CapBnd", "status.CapEff", "status.CapInh", "status.CapPrm",
    }  # fmt: skip


@BOOKWORM
def test_the_comparison_sees_a_difference(probe):
    """The negative control: a launcher that is not invisible."""
    probe.root("printf '#!/bin/sh\\nshift; umask 077; exec \"$@\"\\n' > /run/visible; chmod +x /run/visible")
    probe.root("mount --bind /run/visible /usr/bin/fairslice-launch")
    try:
        assert "status.Umask" in differences(looks(probe, "", score=0))
    finally:
        probe.root("umount /usr/bin/fairslice-launch; rm /run/visible")


# --- adopted ---

VENDOR = """\
[Service]
Type=notify
User=foundry
ExecStart=!!-/usr/local/bin/kind  notify
"""


@BOOKWORM
def test_adopt_and_release_on_a_running_machine(kinds):
    machine = kinds
    machine.put(
        {
            "/usr/lib/systemd/system/local-vendor.service": VENDOR,
            f"{measure.UNITS}/local-w@.service": f"[Service]\nExecStart={KIND} stay\n",
        }
    )
    machine.root("systemctl daemon-reload; systemctl start local-vendor local-w@1 local-w@2")
    # What a file comes into and goes from has another time.
    passed = "^/etc/fairslice/policy.d d\\|^/etc/systemd/system d\\|[.]pwd"
    etc = f"find /etc -printf '%p %y %m %u %T@ %l\\n' | grep -v '{passed}' | sort; md5sum $(find /etc -type f)"
    before = machine.root(etc)
    try:
        dry = machine.root("fairslice adopt --dry-run local-vendor local-w@")
        assert "+ExecStart=!!-/usr/bin/fairslice-launch -- /usr/local/bin/kind  notify" in dry
        assert machine.root(etc) == before
        said = machine.root("fairslice adopt local-vendor local-w@")
        for unit_name in ("local-vendor.service", "local-w@1.service", "local-w@2.service"):
            assert unit_name in said.splitlines()[-1]
        assert "systemctl restart" in said.splitlines()[-1]
        pid = measure.services(machine, ["local-vendor"])["local-vendor"].pid
        again = machine.root("fairslice adopt local-vendor")
        assert "already adopted" in again
        assert measure.services(machine, ["local-vendor"])["local-vendor"].pid == pid, "nothing is restarted"
        machine.root("fairslice release local-vendor; fairslice adopt --restart local-vendor")
        found = measure.services(machine, ["local-vendor"])["local-vendor"]
        assert found.pid != pid
        assert found.user == "foundry"
        shown = machine.root("systemctl show -p ExecStart local-vendor")
        assert "path=/usr/bin/fairslice-launch" in shown
        # Removing the package must not leave a unit that cannot start: release --all is what it calls.
        machine.root("fairslice release --all --restart")
        assert "path=/usr/local/bin/kind" in machine.root("systemctl show -p ExecStart local-vendor")
        assert machine.root(etc) == before
    finally:
        machine.root(
            "fairslice release --all > /dev/null 2>&1; systemctl stop local-vendor 'local-w@*';"
            f" rm -f /usr/lib/systemd/system/local-vendor.service {measure.UNITS}/local-w@.service;"
            " systemctl daemon-reload"
        )
