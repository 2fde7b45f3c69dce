"""What a user with an account, and with group write on a shared cache, tries against root's hands: one test
for each hole that an audit of 0.1.0 found. Against that package each of them fails.

bob is the one who tries. guest/attack.c has what takes more than a shell.
"""

import contextlib
import json
import re
import unicodedata

import measure
import pytest
from image import GUEST, run

pytestmark = pytest.mark.thorough

ATTACK = "/usr/local/bin/attack"
FUSE = "/usr/local/bin/fuse"
ROOT = measure.TARGET_ROOT
CACHE = "/srv/foundry/shared"
POLICY = "/etc/fairslice/policy.toml"
FRAGMENT = "/etc/fairslice/policy.d/60-attacks.toml"
# A root directory that an attacker has prepared. Generators see no /tmp.
OTHER = "/srv/other"
BOBS = "/sys/fs/cgroup/user.slice/user-1001.slice/user@1001.service"


def as_user(user: str, command: str) -> str:
    return f"setpriv --reuid {user} --regid {user} --init-groups -- sh -c '{command}'"


@contextlib.contextmanager
def attacker(machine, command: str, user: str = "bob"):
    """At work until the block ends."""
    machine.root(
        f"rm -f /run/attack; systemd-run --quiet --unit attack -p User={user} -p StandardOutput=file:/run/attack"
        f" {command}; until grep -qs ready /run/attack; do systemctl -q is-active attack || exit 1; sleep 0.1; done"
    )
    try:
        yield
    finally:
        machine.root("systemctl stop attack 2> /dev/null; systemctl reset-failed attack 2> /dev/null; rm /run/attack")


@contextlib.contextmanager
def fragment(machine, text: str):
    """A policy with this in it."""
    machine.put({FRAGMENT: text})
    machine.root("systemctl daemon-reload")
    try:
        yield
    finally:
        machine.root(f"rm {FRAGMENT}; systemctl daemon-reload; fairslice apply > /dev/null")


@pytest.fixture(scope="module")
def scene(installed, tmp_path_factory):
    """bob and root share what the group `cache` may write to; carol has nothing to do with it."""
    for program, source in {ATTACK: GUEST / "attack.c", FUSE: GUEST.parent.parent / "fuse.c"}.items():
        built = tmp_path_factory.mktemp("attack") / "program"
        run(["gcc", "-static", "-O1", "-pthread", "-s", "-o", built, source])
        installed.put({program: built.read_bytes()}, mode=0o755)
    installed.root(
        "useradd --create-home --shell /bin/bash carol; groupadd cache; gpasswd --add bob cache > /dev/null;"
        f" useradd --system prometheus; rm -rf {ROOT}/*"
    )
    yield installed
    installed.root(
        f"rm -rf {ATTACK} {FUSE} {ROOT}/* {OTHER}; systemctl stop user@1001; userdel --remove carol 2>&1;"
        " userdel prometheus; groupdel cache"
    )


# --- Rows 1 to 4: a shared cache that is handed over ---


@pytest.fixture
def cache(scene):
    scene.root(f"install -d -m 2775 -g cache {CACHE} {CACHE}/debug")
    yield scene
    scene.root(f"rm -rf {CACHE} {ROOT}/* {ROOT}/.[a-z]* /root/secret /srv/linked /srv/group /tmp/ran-as")


def tree(machine) -> str:
    """Every entry with owner, mode and content."""
    return machine.root(
        f"cd {CACHE}; find . -printf '%p %y %u %g %m %l\\n' | sort; find . -type f -exec md5sum {{}} + | sort"
    )


def assert_refused(said: str) -> None:
    line, status = said.splitlines()
    assert "fairslice-policy(5)" in line and status == "exit 2", said


def adopt(machine, user: str) -> str:
    return machine.root(f"fairslice private-dir adopt {CACHE} --to {user} 2>&1; echo exit $?")


def test_1_a_racer_gets_no_file_of_roots_changed(cache):
    cache.root(
        f"install -d -o bob {CACHE}/debug/race; install -m 600 /dev/null /root/secret;"
        " install -m 666 -o carol /dev/null /srv/linked"
    )
    with attacker(cache, f"{ATTACK} race {CACHE}/debug/race /root/secret /srv/linked"):
        said = adopt(cache, "alice")
        owners = cache.root(f"find {CACHE} {ROOT} -mindepth 2 -printf '%u\\n' | sort | uniq -c")
    assert cache.root("stat -c '%U %a' /root/secret /srv/linked").splitlines() == ["root 600", "carol 666"]
    # The names are swapped all the time, but nothing changes hands.
    assert {line.split()[1] for line in owners.splitlines()} == {"bob"}, owners
    assert_refused(said)


def test_2_a_hidden_descriptor_writes_into_nobodys_directory(cache):
    script = f"{CACHE}/debug/build.sh"
    cache.root(as_user("bob", f"echo true > {script}; chmod 755 {script}"))
    before = tree(cache)
    with attacker(cache, f"{ATTACK} hold {script} 'id -un > /tmp/ran-as'"):
        said = adopt(cache, "alice")
        # What alice's next build does, with what she has.
        cache.root(f"sleep 0.5; {as_user('alice', f'sh {ROOT}/alice/debug/build.sh 2> /dev/null')} || true")
    assert cache.root("cat /tmp/ran-as 2> /dev/null || true") == ""
    assert tree(cache) == before
    assert_refused(said)


def test_3_what_others_own_is_not_given_away(cache):
    cache.root(
        f"install -d -m 775 -g cache /srv/group; cd /srv/group; umask 77; echo a > roots; echo b > carols;"
        f" chown carol carols; {as_user('bob', f'mv roots carols {CACHE}/debug')}"
    )
    before = tree(cache)
    said = adopt(cache, "bob")
    read = cache.root(as_user("bob", f"cat {ROOT}/bob/debug/* {CACHE}/debug/* 2> /dev/null || true"))
    assert read == ""
    assert tree(cache) == before
    assert_refused(said)


def test_4_what_is_put_back_does_not_become_readable(cache):
    cache.root(f"install -d -m 700 -o carol {CACHE}/carols; {as_user('carol', f'echo a > {CACHE}/carols/secret')}")
    with attacker(cache, f"{ATTACK} back {CACHE} carols"):
        before = tree(cache)
        said = adopt(cache, "alice")
        read = cache.root(as_user("bob", f"cat {CACHE}/carols/secret 2> /dev/null || true"))
    assert read == ""
    assert tree(cache) == before
    assert_refused(said)


# --- Rows 5, 9, 10, 14, 15, 17, 18: files ---


def test_5_the_metrics_are_not_written_through_a_link(scene):
    collected = "/var/lib/prometheus/node-exporter"
    scene.root(
        f"install -d -o prometheus /var/lib/prometheus; mkdir {OTHER};"
        f" {as_user('prometheus', f'ln -s {OTHER} {collected}')}"
    )
    try:
        scene.root("systemctl start fairslice-metrics")
        assert scene.root(f"ls -A {OTHER}") == ""
        own = scene.root("systemctl show --value -p StateDirectory fairslice-metrics").split()
        assert own, "no directory of its own"
        assert "# EOF" in scene.root(f"cat /var/lib/{own[0]}/*.prom")
        said = scene.root(
            f"fairslice status --format openmetrics --output {collected}/fairslice.prom 2>&1; echo exit $?"
        )
        line, status = said.splitlines()
        assert collected in line and status == "exit 2"
        assert scene.root(f"ls -A {OTHER}") == ""
    finally:
        scene.root(f"rm -rf {OTHER} /var/lib/prometheus /var/lib/fairslice")


def test_9_a_process_whose_directory_has_no_name_stops_nothing(scene):
    scene.root(
        f"for user in alice bob; do install -d -m 700 -o $user -g $user {ROOT}/$user {ROOT}/$user/debug;"
        f" runuser -u $user -- touch {ROOT}/$user/debug/.cargo-lock; done; sleep 1.1"
    )
    with fragment(scene, f'[private_dir.CARGO_TARGET_DIR]\npath = "{ROOT}/{{user}}"\nmax_age = "1s"\n'):
        with attacker(scene, f"{ATTACK} deep /home/bob"):
            pid = scene.root("systemctl show --value -p MainPID attack").strip()
            said = scene.root("fairslice private-dir age 2>&1; echo exit $?")
    left = scene.root(f"cd {ROOT} && ls -d alice/debug bob/debug 2>/dev/null", check=False)
    scene.root("rm -rf /home/bob/ddd*")
    # What it uses cannot be told, so nothing of bob's is aged, and it is said why.
    assert left == "bob/debug\n", said
    assert pid in said and "exit 2" not in said, said


def test_10_nobody_else_holds_the_lock(scene):
    # Whatever it is, it is there once something was changed.
    with fragment(scene, "[logins]\ncpu_weight = 120\n"):
        scene.root("fairslice apply > /dev/null")
        scene.put({FRAGMENT: "[logins]\ncpu_weight = 130\n"})
        with attacker(scene, f"{ATTACK} lock /run/fairslice"):
            said = scene.root("fairslice apply 2>&1; echo exit $?")
        assert said.splitlines()[-1] == "exit 0", said
        assert "130" in said
        # Root's own is waited for, and named; for the logins' sake too.
        with attacker(scene, f"{ATTACK} lock /run/fairslice", user="root"):
            said = scene.root("timeout 5 fairslice apply --logins 2>&1; echo exit $?")
        assert "waiting for" in said and f"{ATTACK} lock" in said, said
        assert said.splitlines()[-1] == "exit 124"


def test_14_a_policy_that_others_can_write_is_not_believed(scene):
    scene.root(f"cp -p {POLICY} /root/policy; chgrp cache {POLICY}; chmod g+w {POLICY}")
    try:
        said = scene.root("fairslice check; echo exit $?")
        found = json.loads(scene.root("fairslice doctor --json", check=False))["findings"]
        scene.root(as_user("bob", f'sed "s/= [12]00 /= 777 /" {POLICY} > /tmp/p; cat /tmp/p > {POLICY}; rm /tmp/p'))
        scene.root("systemctl daemon-reload")
        drop_in = measure.drop_ins(scene)["foundry-services.slice"]
        weight = scene.ssh("alice", "cat /sys/fs/cgroup/user.slice/user-$(id -u).slice/cpu.weight").out
    finally:
        scene.root(f"cp -p /root/policy {POLICY}; rm /root/policy; systemctl daemon-reload; fairslice apply > /dev/null")
    # The last good one holds.
    assert "CPUWeight=200" in drop_in
    assert weight == "100\n"
    line, *_, status = said.splitlines()
    assert POLICY in line and status == "exit 1", said
    about = [finding for finding in found if finding["file"] == POLICY or finding["subject"] == POLICY]
    assert any(POLICY in (finding["fix"]["command"] or "") for finding in about), found


def test_15_a_compiled_policy_of_another_layout_is_not_read(scene):
    """postcard writes 4321 and 4322 as e1 21 and e2 21. Before the policy stands the layout, 16 digits."""
    compiled = "/run/fairslice/policy.compiled"
    edit = f"perl -0777 -pi -e 's/\\xe1\\x21/\\xe2\\x21/' {compiled}"
    # What a build of 0.1.0 begins with that has other fields.
    other = f"perl -0777 -pi -e 's/^\\x10[0-9a-f]{{16}}/\\x050.1.0/s' {compiled}"

    def login() -> str:
        return scene.ssh("alice", "cat /sys/fs/cgroup/user.slice/user-$(id -u).slice/cpu.weight").out.strip()

    with fragment(scene, "[logins]\ncpu_weight = 4321\n"):
        scene.root(edit)
        # With the layout's own header it is read.
        assert login() == "4322"
        scene.root(other)
        mark = measure.journal_mark(scene)
        # What the slice was given holds; of this policy nothing is read.
        assert login() == "4322"
        assert any("policy.compiled is of another version" in line for line in measure.journal_since(scene, mark))


def test_17_a_file_system_of_a_users_is_nobodys_private_directory(scene):
    scene.root(f"chgrp cache {ROOT}; chmod g+w {ROOT}")
    # As fusermount3 does it for bob, with allow_other.
    alice, bob = scene.root("id -u alice; id -u bob").split()
    scene.root(
        f"systemd-run --quiet --unit fuse -p PrivateMounts=no {FUSE} {ROOT} {bob} {alice};"
        f" until grep -q ' {ROOT} ' /proc/mounts; do sleep 0.1; done"
    )
    try:
        explained = scene.root("fairslice explain login alice")
        login = scene.ssh("alice", "echo $CARGO_TARGET_DIR").out
    finally:
        scene.root(f"umount -l {ROOT}; systemctl stop fuse; chgrp root {ROOT}; chmod g-w {ROOT}")
    assert login == "\n"
    assert f"uid {bob}" in explained, explained


def test_18_check_warns_of_a_directory_that_anybody_can_make(scene):
    with fragment(scene, '[private_dir.TMPDIR]\npath = "/tmp/{user}"\n'):
        said = scene.root("fairslice check; echo exit $?")
    line, *_, status = said.splitlines()
    assert FRAGMENT in line and "/tmp" in line and status == "exit 1", said


# --- Rows 6, 7, 8, 13, 16: names ---

# A name of a process, and of a cgroup: it clears the screen. No cgroup has a newline in its name.
PROCESS, CGROUP = r"\e[2Ja\nfake", r"e\e]0;title\a\e[2J"
HOSTILE = rf"""#!/bin/bash
cd /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)
mkdir main system.slice system.slice/x $'\xff' $'{CGROUP}'
echo $$ > main/cgroup.procs
(echo $BASHPID > $'\xff/cgroup.procs'; echo 1000 > /proc/self/oom_score_adj; exec load --name hog --hold 64 >> ~/held) &
(echo $BASHPID > $'{CGROUP}/cgroup.procs'; echo 900 > /proc/self/oom_score_adj; exec load --name $'{PROCESS}' --hold 32 >> ~/held) &
(printf earlyoom > /proc/self/comm; sleep infinity; true) &
echo '+cpu +memory' > cgroup.subtree_control
echo 7 > system.slice/cpu.weight
echo '+memory' > system.slice/cgroup.subtree_control
for cgroup in system.slice system.slice/x; do echo 300M > $cgroup/memory.low; done
until [ $(grep -c holds ~/held) = 2 ]; do sleep 0.1; done
touch ~/ready
wait
"""
COMMANDS = [
    "status", "status bob", "status ssh", "doctor", "check", "policy", "explain oom", "explain oom bob",
    "explain memory", "explain memory bob", "explain share", "explain share bob", "explain login bob",
    "explain unit ssh", "apply --dry-run", "private-dir age",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(scene):
    """bob's cgroups and processes; what each command says of them on a terminal, by command."""
    scene.put({"/home/bob/hostile": HOSTILE}, mode=0o755)
    start = "XDG_RUNTIME_DIR=/run/user/1001 exec systemd-run --user --quiet --unit hostile -p Delegate=yes ~bob/hostile"
    scene.root(
        f"systemctl start user@1001; {as_user('bob', start)};"
        " for i in $(seq 200); do [ -e /home/bob/ready ] && exit; sleep 0.1; done; journalctl -b -n 20 _UID=1001; exit 1"
    )
    commands = "; ".join(f"echo; echo '@ {command}'; fairslice {command}" for command in COMMANDS)
    text = scene.ssh("root", f"stty -opost; export TERM=xterm; {commands}", check=False, terminal=True).out
    _, *said = re.split(r"\n@ (.*)\n", text)
    yield scene, dict(zip(said[::2], said[1::2], strict=True))
    scene.root("systemctl stop user@1001; rm /home/bob/ready /home/bob/held /home/bob/hostile")


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def is_raw(character: str) -> bool:
    """A control character, what is no UTF-8, and what is not seen or turns the writing round."""
    return unicodedata.category(character) in ("Cc", "Cf") or character == "\ufffd"


def test_6_no_name_reaches_the_terminal_as_it_is(hostile):
    _, said = hostile
    assert list(said) == COMMANDS
    assert COLOUR.search(said["explain oom"]), "no terminal"
    for command, text in said.items():
        lines = COLOUR.sub("", text).split("\n")
        assert not [line for line in lines if any(map(is_raw, line)) or line.startswith("fake")], command
    # It was there to be shown.
    assert r"\x1b[2Ja\nfake" in said["explain oom"], said["explain oom"]


def test_7_a_process_in_a_cgroup_of_any_name_counts(hostile):
    machine, _ = hostile
    said = json.loads(machine.root("fairslice explain oom --json"))
    pid = int(machine.root("pgrep -x hog"))
    assert said["victims"][0]["pid"] == pid, said["victims"][:3]


def test_8_a_users_cgroup_is_no_unit(hostile):
    machine, said = hostile
    assert "300M" not in said["doctor"], said["doctor"]
    for command in ("status", "explain share", "explain memory"):
        # Of that name there is one.
        assert len(re.findall(r"(?m)^\W*system\.slice", said[command])) <= 1, said[command]


def test_16_a_process_called_earlyoom_is_not_believed(hostile):
    machine, _ = hostile
    assert machine.root("pgrep -x earlyoom") != ""
    assert json.loads(machine.root("fairslice explain oom --json"))["earlyoom"] is None


def test_13_nested_cgroups_cost_what_they_are(hostile):
    machine, _ = hostile
    deep = f"{BOBS}/app.slice/hostile.service/deep"
    nested = "/".join(["n"] * 1000)
    try:
        machine.root(as_user("bob", f"mkdir -p {deep}/{nested}"))
        answer = machine.root(
            "clock() { cut -d. -f1-2 /proc/uptime | cut -d' ' -f1; }; clock; find /sys/fs/cgroup > /dev/null; clock;"
            " timeout 60 fairslice status 2>&1; clock"
        )
    finally:
        machine.root(f"cd {deep} && find . -mindepth 1 -depth -type d -delete; rmdir {deep}")
    begun, found, *said, ended = answer.splitlines()
    find, status = float(found) - float(begun), float(ended) - float(found)
    assert status < 4 * find, f"find {find:.1f} s, status {status:.1f} s"
    # It says where it stopped.
    assert any("more cgroups in /user.slice/user-1001.slice/user@1001.service" in line for line in said), said[-3:]


# --- Rows 11, 12: the environment and what is granted ---

NONE = "0000000000000000"


@pytest.mark.parametrize("asked", ["--unit local-fs", "--unit unknown", "--unit ''"], ids=["right", "unknown", "wrong"])
def test_11_a_granted_capability_is_gone_whatever_came_of_it(scene, asked):
    answer = scene.root(
        "systemd-run --quiet --wait --collect --pipe --unit local-granted -p User=nobody"
        " -p AmbientCapabilities=CAP_SYS_RESOURCE -p OOMScoreAdjust=-500"
        f" fairslice-launch {asked} -- grep -E '^Cap[IPEA]' /proc/self/status 2> /dev/null"
    )
    assert answer.split() == ["CapInh:", NONE, "CapPrm:", NONE, "CapEff:", NONE, "CapAmb:", NONE]


@pytest.fixture
def other_root(scene):
    """What bob would have root believe: another policy, and a link where the score is written."""
    files = {
        "etc/fairslice/policy.toml": "[logins]\ncpu_weight = 7777\n",
        "proc/self/cgroup": "0::/foundry.slice/foundry-services.slice/local-fs.service\n",
        "run/systemd/generator/local-fs.service.d/40-fairslice.conf": "[Service]\nOOMScoreAdjust=-500\n",
        "run/systemd/system/empty": "",
    }
    scene.put({f"{OTHER}/{name}": text for name, text in files.items()})
    scene.root(
        f"cp /proc/meminfo {OTHER}/proc; ln -s /root/secret {OTHER}/proc/self/oom_score_adj; chown -R bob {OTHER};"
        " echo untouched > /root/secret"
    )
    yield scene
    scene.root(f"rm -rf {OTHER} /root/secret")


def test_12_no_variable_tells_the_launcher_where_to_write(other_root):
    other_root.root(
        f"systemd-run --quiet --wait --collect --unit local-environment -p Environment=FAIRSLICE_ROOT={OTHER}"
        " fairslice-launch --unit local-fs -- true"
    )
    assert other_root.root("cat /root/secret") == "untouched\n"


def test_12_no_variable_tells_the_generator_what_to_read(other_root):
    config = "/run/systemd/system.conf.d/attack.conf"

    def reloaded(value: str) -> str:
        other_root.put({config: f"[Manager]\nManagerEnvironment=FAIRSLICE_ROOT={value}\n"})
        other_root.root("systemctl daemon-reload")
        return measure.drop_ins(other_root).get("user-.slice", "")

    try:
        assert "CPUWeight=100" in reloaded(OTHER)
    finally:
        # PID 1 keeps the variable: this value is as good as none.
        reloaded("/")
        other_root.root(f"rm {config}; rmdir --ignore-fail-on-non-empty $(dirname {config}); systemctl daemon-reload")
