"""Adopted services from outside: which command runs, and what systemd and the journal say of it."""

import re
import subprocess
from pathlib import Path

import measure
import pytest
from image import VmError
from machine import Machine

pytestmark = pytest.mark.thorough

LIB = "/usr/lib/systemd/system"
LAUNCHED = "path=/usr/bin/fairslice-launch "
RECORD = "/etc/fairslice/policy.d/50-adopted.toml"


@pytest.fixture
def machine_as_it_was(installed):
    """Units that a test makes begin with "local-v-", and what it installs lies in /opt/v."""
    yield installed
    installed.root(
        "fairslice release --all > /dev/null; systemctl stop 'local-v-*'; rm -rf /opt/v"
        f" {measure.UNITS}/local-v-* {LIB}/local-v-* /etc/fairslice/policy.d/v.toml; systemctl daemon-reload;"
        " systemctl reset-failed"
    )
    assert installed.root(f"ls {RECORD} /run/systemd/generator/*/zz* 2> /dev/null; true") == ""


def restarted(machine: Machine, unit: str) -> str:
    """What runs after a reload and a restart, with its arguments; it has been launched."""
    answer = machine.root(
        f"systemctl daemon-reload; systemctl restart {unit}; sleep 1; systemctl show -p ExecStart {unit};"
        f" tr '\\0' ' ' < /proc/$(systemctl show --value -p MainPID {unit})/cmdline"
    )
    shown, _, command = answer.rpartition("\n")
    assert shown.count("path=") == 1 and LAUNCHED in shown, answer
    return command.strip()


def test_the_command_of_now_runs(machine_as_it_was):
    machine, unit, drop_ins = machine_as_it_was, "local-v-eng", f"{measure.UNITS}/local-v-eng.service.d"
    vendor = f"{LIB}/{unit}.service"
    machine.put({vendor: "[Service]\nExecStart=/bin/sleep 1001\n"})
    machine.root(f"systemctl daemon-reload; fairslice adopt {unit}")
    assert restarted(machine, unit) == "/bin/sleep 1001"
    # The package is upgraded.
    machine.put({vendor: "[Service]\nExecStart=/bin/sleep 2002\n"})
    assert restarted(machine, unit) == "/bin/sleep 2002"
    # "systemctl edit", then a script whose file would sort after ours.
    machine.put({f"{drop_ins}/override.conf": "[Service]\nExecStart=\nExecStart=/bin/sleep 3003\n"})
    assert restarted(machine, unit) == "/bin/sleep 3003"
    machine.put({f"{drop_ins}/zzz-lora.conf": "[Service]\nExecStart=\nExecStart=/bin/sleep 4004\n"})
    assert restarted(machine, unit) == "/bin/sleep 4004"
    # One that the script has copied the launcher into: it is found, before removal leaves the unit without it.
    copied = "[Service]\nExecStart=\nExecStart=/usr/bin/fairslice-launch -- /bin/sleep 5005\n"
    machine.put({f"{drop_ins}/zzz-lora.conf": copied})
    assert restarted(machine, unit) == "/bin/sleep 5005"
    said = machine.root(f"fairslice release {unit} 2>&1; echo exit $?")
    assert f"it has the launcher by {drop_ins}/zzz-lora.conf:3" in said and said.endswith("exit 1\n")
    stopped = machine.root("/var/lib/dpkg/info/fairslice.prerm remove 2>&1; echo exit $?")
    assert f"{drop_ins}/zzz-lora.conf:3: ExecStart=" in stopped and stopped.endswith("exit 1\n")
    machine.root(f"rm -r {drop_ins}; systemctl daemon-reload; fairslice adopt {unit}")
    # The upgrade moves the binary, which the unit names without a path.
    machine.put({vendor: "[Service]\nExecSearchPath=/opt/v/old:/opt/v/new\nExecStart=engd 6006\n"})
    machine.root("mkdir -p /opt/v/old /opt/v/new; cp /bin/sleep /opt/v/old/engd")
    assert restarted(machine, unit) == "engd 6006"
    machine.root("mv /opt/v/old/engd /opt/v/new/")
    assert restarted(machine, unit) == "engd 6006"
    assert machine.root(f"readlink /proc/$(systemctl show --value -p MainPID {unit})/exe") == "/opt/v/new/engd\n"
    found = machine.root("fairslice doctor --json; true")
    assert not re.search("FS06[023]", found), found
    # What cannot be launched runs without, and everybody says so.
    machine.put({vendor: "[Service]\nAppArmorProfile=-none\nExecStart=/bin/sleep 7007\n"})
    said = machine.root(
        f"systemctl daemon-reload; systemctl restart {unit}; systemctl show -p ExecStart {unit}; fairslice check;"
        " fairslice doctor; fairslice status 2>&1 >/dev/null; journalctl -b -t fairslice-generator -o cat",
        check=False,
    )
    assert LAUNCHED not in said and "path=/bin/sleep" in said
    assert said.count(f"AppArmorProfile=-none ({vendor}:2)") == 4, said


def test_the_journal_calls_it_by_its_own_name(machine_as_it_was):
    machine = machine_as_it_was
    program = "#!/bin/sh\necho from $0\n"
    machine.put({f"/opt/v/{name}": program.encode() for name in ("meterd", "prepare", "two")}, mode=0o755)
    oneshot = "[Service]\nType=oneshot\n"
    units = {
        "meter": f"{oneshot}ExecStart=/opt/v/meterd\n",
        "pre": f"{oneshot}ExecStartPre=/opt/v/prepare\nExecStart=@/opt/v/meterd other\n",
        "own": f"{oneshot}SyslogIdentifier=mine\nExecStart=/opt/v/meterd\n",
        "both": f"{oneshot}ExecStart=/opt/v/meterd\nExecStart=/opt/v/two\n",
    }
    machine.put({f"{measure.UNITS}/local-v-{name}.service": text for name, text in units.items()})
    names = " ".join(f"local-v-{name}" for name in units)

    def called() -> dict[str, list[str]]:
        mark = measure.journal_mark(machine)
        machine.root(f"systemctl daemon-reload; systemctl start {names}; journalctl --sync")
        lines = (re.search(r" (\S+?)\[\d+\]: from /opt/v/(\w+)", line) for line in measure.journal_since(machine, mark, "from /opt/v"))
        found: dict[str, list[str]] = {}
        for line in filter(None, lines):
            found.setdefault(line[2], []).append(line[1])
        return {program: sorted(names) for program, names in found.items()}

    without = called()
    assert without == {"meterd": ["meterd", "meterd", "meterd", "mine"], "prepare": ["prepare"], "two": ["two"]}
    machine.root(f"fairslice adopt {names}")
    # A unit has one name for all that it prints, and none where its commands have several.
    assert called() == {
        "meterd": ["fairslice-launch", "meterd", "meterd", "mine"], "prepare": ["meterd"], "two": ["fairslice-launch"],
    }  # fmt: skip


def test_prefixes_mean_what_they_mean(machine_as_it_was):
    """What each of these services has printed, with the launcher as without."""
    machine = machine_as_it_was
    machine.put({"/opt/v/say": b"#!/bin/sh\necho $(id -un) \"$@\"; exit $1\n"}, mode=0o755)
    lines = {
        "dash": "ExecStart=-/opt/v/say 3 dash",
        "colon": "Environment=A=b\nExecStart=:/opt/v/say 0 $A ${A}",
        "plain": "Environment=A=b\nExecStart=/opt/v/say 0 $A ${A} $$A %p",
        "plus": "User=foundry\nExecStart=+/opt/v/say 0 plus",
        "bang": "User=foundry\nExecStart=!/opt/v/say 0 bang",
        "user": "User=foundry\nExecStart=/opt/v/say 0 user",
        "argv0": "ExecStart=@/bin/sh called -c 'echo $0'",
        "search": "ExecSearchPath=/opt/v\nExecStart=say 0 search",
    }
    files = {
        f"{measure.UNITS}/local-v-{name}.service": f"[Service]\nType=oneshot\nStandardOutput=file:/run/v-{name}\n{text}\n"
        for name, text in lines.items()
    }
    machine.put(files)
    names = " ".join(f"local-v-{name}" for name in lines)

    def printed() -> str:
        return machine.root(
            f"rm -f /run/v-*; systemctl daemon-reload; systemctl start {names}; grep . /run/v-*;"
            f" systemctl show -p Result -p ExecMainStatus -p User {names}"
        )

    without = printed()
    assert "dash" in without and "b b $A local-v-plain" in without and "called" in without
    machine.root(f"fairslice adopt {names}")
    assert machine.root(f"systemctl show -p ExecStart {names}").count(LAUNCHED) == len(lines)
    assert printed() == without
    machine.root("rm -f /run/v-*")


def test_what_is_seen_of_it_besides(machine_as_it_was):
    machine, unit = machine_as_it_was, "local-v-main"
    machine.root("mkdir -p /opt/v; cp /bin/sleep /opt/v/maind")
    machine.put(
        {
            f"{measure.UNITS}/{unit}.service": "[Service]\nType=exec\nLimitCORE=infinity\nWorkingDirectory=/opt/v\nExecStart=/opt/v/maind 99\n",
            f"{measure.UNITS}/local-v-gone.service": "[Service]\nType=exec\nExecStart=/opt/v/gone\n",
        }
    )
    names = f"{unit} local-v-gone"
    without = machine.root(f"systemctl daemon-reload; systemctl start local-v-gone 2>&1; echo exit $?", check=False)
    assert without.endswith("exit 1\n")
    machine.root(f"fairslice adopt {names}; systemctl restart {unit}")
    pid = machine.root(f"systemctl show --value -p MainPID {unit}").strip()
    seen = machine.root(f"systemctl status --no-pager {unit}; cat /proc/{pid}/comm; readlink /proc/{pid}/exe; ps -o args= {pid}")
    assert f"Main PID: {pid} (maind)" in seen
    assert seen.splitlines()[-3:] == ["maind", "/opt/v/maind", "/opt/v/maind 99"]
    assert LAUNCHED in machine.root(f"systemctl show -p ExecStart {unit}")
    # A core dump is the command's.
    machine.root(
        f"echo '/opt/v/core.%e' > /proc/sys/kernel/core_pattern; kill -ABRT {pid}; sleep 2; systemctl show -p Result {unit}"
    )
    assert machine.root("ls /opt/v/core*; echo core > /proc/sys/kernel/core_pattern") == "/opt/v/core.maind\n"
    # That there is no command is seen after the start, by the same status.
    said = machine.root("systemctl start local-v-gone; sleep 1; systemctl show -p Result -p ExecMainStatus local-v-gone", check=False)
    assert "ExecMainStatus=203" in said and "Result=exit-code" in said


def test_a_slice_is_launched_by_one_line(machine_as_it_was):
    """By the policy itself, a template and all its instances, but for what is excepted."""
    machine = machine_as_it_was
    machine.put(
        {
            f"{measure.UNITS}/local-v-w@.service": "[Service]\nExecStart=/bin/sleep 1%i\n",
            f"{measure.UNITS}/local-v-w@2.service.d/own.conf": "[Service]\nExecStart=\nExecStart=/bin/sleep 77%i\n",
            f"{measure.UNITS}/local-v-none.service": "[Service]\nExecStart=/bin/sleep 88\n",
            "/etc/fairslice/policy.d/v.toml": (
                "[slice.'foundry-services.slice']\nlauncher = true\n"
                "[service.local-v-none]\nlauncher = false\n[service.'local-v-w@3']\nlauncher = false\n"
            ),
        }
    )
    instances = "local-v-w@1 local-v-w@2 local-v-w@3 local-v-none"
    said = machine.root("fairslice apply --dry-run; fairslice apply", check=False)
    assert "daemon-reload" in said
    machine.root(f"systemctl restart {instances}")
    shown = machine.root(f"for unit in {instances}; do systemctl show -p ExecStart $unit; done").splitlines()
    assert [LAUNCHED in line for line in shown] == [True, True, False, False], shown
    assert ["sleep 11" in shown[0], "sleep 772" in shown[1], "sleep 13" in shown[2]] == [True] * 3
    assert "has the launcher by launcher = true (/etc/fairslice/policy.d/v.toml:2)" in machine.root(
        "fairslice release local-v-w@ 2>&1; true"
    )


def test_a_profile_that_is_attached_by_path_is_the_commands(machine_as_it_was):
    machine, unit = machine_as_it_was, "local-v-tight"
    machine.put({"/root/profile": compiled("profile v-tight /opt/v/tight {\n  /** rmix,\n}\n")})
    machine.put({f"{LIB}/{unit}.service": "[Service]\nExecStart=/opt/v/tight infinity\n"})
    confined = f"cat /proc/$(systemctl show --value -p MainPID {unit})/attr/current"
    machine.root("install -D /usr/bin/sleep /opt/v/tight; cat /root/profile > /sys/kernel/security/apparmor/.load")
    try:
        machine.root(f"systemctl daemon-reload; systemctl start {unit}")
        assert machine.root(confined) == "v-tight (enforce)\n"
        machine.root(f"fairslice adopt {unit}")
        assert restarted(machine, unit) == "/opt/v/tight infinity"
        assert machine.root(confined) == "v-tight (enforce)\n"
    finally:
        machine.root("printf v-tight > /sys/kernel/security/apparmor/.remove; rm /root/profile")


def compiled(profile: str) -> bytes:
    """Here: the machine has no parser."""
    unpacked = Path(__file__).parents[2] / "target/tools/apparmor"
    parser = next(unpacked.glob("**/sbin/apparmor_parser"), None)
    if parser is None:
        raise VmError(f"no apparmor_parser in {unpacked}: tests/prepare test unpacks it")
    words = [parser, "--quiet", "--skip-kernel-load", "--skip-cache", "--stdout"]
    return subprocess.run(words, input=profile.encode(), check=True, capture_output=True).stdout
