"""The harness itself: it leaves nothing behind, however it ends. Needs no package."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import image
import pytest

HERE = Path(__file__).resolve().parent
PATIENCE = 60  # seconds, for a busy machine: each of these takes one or two
BOOT = "import machine, image\nmachine.die_by_exception()\nwith machine.Machine(image.base_image('trixie')): pass"


def processes_with(text: str) -> list[int]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if text in (directory / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(directory.name))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


def wait_for(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_and_no_disk_outlives_the_one_that_started_it(tmp_path, number):
    image.base_image("trixie")
    mark = f"file:{tmp_path}"  # in QEMU's command line only: the console's log
    starter = subprocess.Popen(
        [sys.executable, "-c", BOOT],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE)},
        stderr=subprocess.DEVNULL,
        # A shell has its background jobs ignore it, and these tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert wait_for(lambda: processes_with(mark), PATIENCE), "QEMU never started"
        starter.send_signal(number)
        assert starter.wait(timeout=PATIENCE) != 0
        assert wait_for(lambda: not processes_with(mark), PATIENCE), "QEMU is still there"
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        # SIGKILL leaves no time to remove the console's log; nothing larger may stay.
        assert all(path.name == "console.log" for path in left)
        assert number == signal.SIGKILL or not left
    finally:
        starter.kill()
        starter.wait()


def test_a_killed_build_leaves_no_entry_no_mount_and_no_process(tmp_path):
    builder = subprocess.Popen(
        [sys.executable, HERE / "image.py", "trixie"],
        env=os.environ | {"FAIRSLICE_VM_CACHE": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    in_tree = str(tmp_path / ".build-")
    try:
        # Some way into it: apt runs with the tree's path.
        assert wait_for(lambda: list(tmp_path.glob(".build-*/tree/etc")), PATIENCE), "the build never started"
        builder.kill()
        builder.wait()
        assert wait_for(lambda: not processes_with(in_tree), PATIENCE), "mmdebstrap is still there"
        assert in_tree not in Path("/proc/self/mounts").read_text()
        assert not list(tmp_path.glob("trixie-*"))
    finally:
        builder.kill()
        builder.wait()
    image.sweep(tmp_path, "trixie")
    assert not list(tmp_path.glob(".build-*"))


def test_two_builds_at_once_make_one_image(tmp_path, monkeypatch):
    built = []

    def slow_build(release, entry):
        built.append(release)
        time.sleep(0.3)
        entry.mkdir()

    monkeypatch.setenv("FAIRSLICE_VM_CACHE", str(tmp_path))
    monkeypatch.setattr(image, "build", slow_build)
    entries = []
    threads = [
        threading.Thread(target=lambda: entries.append(image.base_image("trixie", lambda _line: None)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["trixie"]
    assert entries[0] == entries[1]
