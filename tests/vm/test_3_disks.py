"""Weights on a disk: what two services get of one, beside what is predicted, and what each systemd makes of a weight."""

import json

import measure
import pytest

UNITS = measure.UNITS
DISK = "second"
MIB = 1 << 20
# Whole milliseconds of an emulated CPU that stands still are no sign of a reader that wants no more; and who has just
# begun is not to be ahead.
KNOBS = {"low_latency": 0, "strict_guarantees": 1, "slice_idle": 50}
TOLERANCE = 0.1


@pytest.fixture(scope="module")
def disk(installed):
    """A second disk, with BFQ; its name."""
    name = installed.add_disk(DISK, 16 * MIB)
    by_bfq(installed, name)
    yield name
    installed.root(f"cd {UNITS}; rm -f disk-*.service; systemctl daemon-reload")
    installed.remove_disk(DISK)
    # BFQ stays loaded while a disk has it, and its attributes with it.
    installed.root("modprobe -r bfq; true")


def by_bfq(machine, disk: str) -> None:
    queue = f"/sys/block/{disk}/queue"
    knobs = "".join(f"; echo {value} > {queue}/iosched/{knob}" for knob, value in KNOBS.items())
    machine.root(f"echo bfq > {queue}/scheduler{knobs}")


def start(machine, disk: str, weights: dict[str, int]) -> None:
    """A service for each, which reads the whole time."""
    read = f"while :; do dd if=/dev/{disk} of=/dev/null bs=1M count=4096 iflag=direct status=none; done"
    machine.put({
        f"{UNITS}/disk-{name}.service": f"[Service]\nIOWeight={weight}\nExecStart=/bin/sh -c '{read}'\n"
        for name, weight in weights.items()
    })
    names = " ".join(f"disk-{name}" for name in weights)
    machine.root(f"systemctl daemon-reload; systemctl start {names}")


def stop(machine) -> None:
    machine.root("systemctl stop 'disk-*'")


@pytest.mark.parametrize("weight, counts", [(50, 50), (200, 109), (1200, 200), (10000, 1000)])
def test_what_systemd_makes_of_a_weight_for_bfq(installed, disk, weight, counts):
    start(installed, disk, {"one": weight})
    try:
        cgroup = "/sys/fs/cgroup/system.slice/disk-one.service"
        assert installed.root(f"cat {cgroup}/io.weight {cgroup}/io.bfq.weight").split() == [
            "default", str(weight), "default", str(counts),
        ]  # fmt: skip
        said = json.loads(installed.root("fairslice explain share --io --json disk-one"))
        of_disk = next(one for one in said["disks"] if one["disk"] == disk)
        assert (of_disk["by"], of_disk["low_latency"]) == ("bfq", False)
        assert (of_disk["chain"][-1]["weight"], of_disk["chain"][-1]["counted"]) == (weight, counts)
    finally:
        stop(installed)


@pytest.mark.alone
@pytest.mark.thorough
@pytest.mark.parametrize("weights", [{"light": 50, "heavy": 100}, {"light": 100, "heavy": 1200}], ids=str)
def test_two_to_one_is_predicted_and_measured(installed, disk, weights):
    start(installed, disk, weights)
    try:
        said = json.loads(installed.root("fairslice explain share --io --json --busy disk-light,disk-heavy"))
        of_disk = next(one for one in said["disks"] if one["disk"] == disk)
        predicted = {one["cgroup"].rsplit("/", 1)[-1]: one["share"] for one in of_disk["cgroups"]}
        light, heavy = predicted["disk-light.service"], predicted["disk-heavy.service"]
        assert heavy / light == pytest.approx(2)
        numbers = f"$(cat /sys/block/{disk}/dev)"
        files = " ".join(f"/sys/fs/cgroup/system.slice/disk-{name}.service/io.stat" for name in ("light", "heavy"))
        look = f"grep -h ^{numbers} {files} | grep -o 'rbytes=[0-9]*' | cut -d= -f2"
        read = [int(number) for number in installed.root(f"sleep 2; {look}; sleep 20; {look}").split()]
        got = [after - before for before, after in zip(read[:2], read[2:], strict=True)]
        print(f"{weights}: light {got[0] / MIB:.0f} MiB, heavy {got[1] / MIB:.0f} MiB, {got[1] / got[0]:.2f} : 1")
        # The disk is what both wait for.
        assert sum(got) > 0.8 * 20 * 16 * MIB, got
        assert got[1] / sum(got) == pytest.approx(heavy / (heavy + light), rel=TOLERANCE)
        assert got[1] / got[0] == pytest.approx(2, rel=TOLERANCE)
    finally:
        stop(installed)


POLICY = "/etc/fairslice/policy.d/70-disks.toml"
SHARED = """
[slice."disks-a.slice"]
match = ["disk-one", "disk-two"]
io_weight = 100
[slice."disks-b.slice"]
match = ["disk-three"]
io_weight = 50
[service.disk-two]
io_weight = 30
"""


@pytest.fixture
def shared(installed, disk):
    """Three services in two slices, which share the disk."""
    names = ("one", "two", "three")
    installed.put({POLICY: SHARED, **{
        f"{UNITS}/disk-{name}.service": "[Service]\nExecStart=/usr/bin/sleep infinity\n" for name in names
    }})
    installed.root("systemctl daemon-reload; systemctl start disk-one disk-two disk-three; fairslice apply; true")
    yield
    installed.root(
        "systemctl stop 'disk-*'; rm -rf /run/systemd/system.control/disks-b.slice.d;"
        f" rm -f {POLICY} {UNITS}/disk-*.service; systemctl daemon-reload; fairslice apply; true"
    )


@pytest.mark.alone
@pytest.mark.thorough
def test_a_drill_measures_what_is_declared_and_predicted(installed, disk, shared):
    status, found = measure.drill(installed, "--io")
    rows = {row["unit"]: row for row in found["io"]["rows"]}
    print(json.dumps(found["io"], indent=1))
    assert (found["io"]["disk"], found["cpu"]) == (disk, None)
    # That BFQ makes less of the packaged policy's weights above 100 is seen as well, and of nothing else.
    assert all(abs(row["measured"] - row["predicted"]) < 0.03 for row in rows.values())
    assert status == 1 and not rows["foundry.slice"]["ok"]
    due = {unit: row["predicted"] for unit, row in rows.items()}
    assert due["disks-a.slice"] == pytest.approx(2 * due["disks-b.slice"])
    assert due["disk-one.service"] == pytest.approx(due["disk-two.service"] * 100 / 30)
    assert rows["disks-a.slice"]["measured"] > 1.5 * rows["disks-b.slice"]["measured"]
    # Another weight than is declared is seen.
    installed.root("systemctl set-property --runtime disks-b.slice IOWeight=10")
    status, found = measure.drill(installed, "--io")
    row = next(row for row in found["io"]["rows"] if row["unit"] == "disks-b.slice")
    assert status == 1 and not row["ok"] and row["predicted"] == pytest.approx(row["measured"], abs=0.03)
    # Somebody reads.
    read = f"dd if=/dev/{disk} of=/dev/null bs=1M iflag=direct status=none"
    said = installed.root(f"{read} & sleep 2; fairslice drill --io --yes 2>&1; echo exit $?; kill %1 2>/dev/null; wait")
    assert f"{disk} is busy " in said and "exit 2\n" in said
    assert installed.root("find /sys/fs/cgroup -name 'fairslice-drill-*'; ps -eo comm | grep fairslice-drill; true") == ""


@pytest.fixture
def by_cost(installed, disk):
    """io.cost on the disk instead of BFQ, with a model that has it read so many bytes a second."""
    number = installed.root(f"echo none > /sys/block/{disk}/queue/scheduler; cat /sys/block/{disk}/dev").strip()

    def with_model(rate: int) -> None:
        model = f"ctrl=user model=linear rbps={rate} wbps={rate} " + " ".join(
            f"{of}={1000 * 1000}" for of in ("rseqiops", "rrandiops", "wseqiops", "wrandiops")
        )
        # min and max: the model is not to be bent to what the disk gives.
        installed.root(
            f"echo '{number} {model}' > /sys/fs/cgroup/io.cost.model;"
            f" echo '{number} enable=1 ctrl=user min=100.00 max=100.00' > /sys/fs/cgroup/io.cost.qos"
        )

    yield with_model
    installed.root(
        f"echo '{number} ctrl=auto' > /sys/fs/cgroup/io.cost.model; echo '{number} enable=0 ctrl=auto' >"
        " /sys/fs/cgroup/io.cost.qos"
    )
    by_bfq(installed, disk)


@pytest.mark.alone
@pytest.mark.thorough
def test_by_io_cost_all_is_as_declared_where_its_model_is_the_disks(installed, disk, shared, by_cost):
    by_cost(10 * MIB)
    status, found = measure.drill(installed, "--io")
    print(json.dumps(found["io"], indent=1))
    rows = {row["unit"]: row for row in found["io"]["rows"]}
    assert (status, found["io"]["disk"]) == (0, disk)
    assert rows["disks-a.slice"]["declared"] == pytest.approx(2 * rows["disks-b.slice"]["declared"])
    # One that has it do ten times as much as it does holds nobody back.
    by_cost(160 * MIB)
    said = installed.root("fairslice drill --io --yes; echo exit $?")
    assert f"io.cost divides what its model says that the disk can do (io.cost.model); {disk} gave 1" in said
    assert said.endswith("exit 1\n"), said


def test_a_disk_that_goes_by_no_weights_is_said_to(installed, disk):
    said = installed.root("fairslice explain share --io")
    assert f"\n{disk}: by weight, bfq\n" in said
    assert "\nnvme0n1: no weight counts: it has the scheduler none and no io.cost\n" in said
    installed.root(f"echo none > /sys/block/{disk}/queue/scheduler")
    said = installed.root("fairslice drill --io --yes 2>&1; echo exit $?")
    by_bfq(installed, disk)
    assert "weights decide nothing on the disks here, so nothing could be measured: nvme0n1 has the scheduler none" in said
    assert said.endswith("exit 2\n")


def findings(machine, code: str) -> list[dict]:
    found = json.loads(machine.root("fairslice doctor --no-policy --json; true"))["findings"]
    return [one for one in found if one["code"] == code]


def only(machine, code: str) -> dict:
    [found] = findings(machine, code)
    return found


@pytest.fixture
def as_before(installed, disk):
    """What fixes leave on the disks is gone again."""
    yield
    installed.root(
        "rm -f /etc/tmpfiles.d/io-cost.conf /etc/udev/rules.d/60-bfq.rules; udevadm control --reload;"
        " while read -r number rest; do"
        ' echo "$number enable=0" > /sys/fs/cgroup/io.cost.qos; done < /sys/fs/cgroup/io.cost.qos;'
        " echo none > /sys/block/nvme0n1/queue/scheduler;"
        " systemctl stop 'disk-*' disks.slice; rm -rf /etc/systemd/system.control/disk-*; systemctl daemon-reload"
    )
    by_bfq(installed, disk)


@pytest.mark.thorough
@pytest.mark.parametrize("way", [0, 1], ids=["io.cost", "bfq"])
def test_a_weight_that_no_disk_goes_by_is_found_and_either_fix_works(installed, disk, as_before, way):
    installed.root(f"echo none > /sys/block/{disk}/queue/scheduler")
    start(installed, disk, {"one": 40})
    found = only(installed, "FS079")
    assert found["subject"] == "disk-one.service"
    assert f"nvme0n1 has the scheduler none and no io.cost, {disk} has the scheduler none" in found["cause"]
    installed.root(found["fix"]["text"].split("; or ")[way])
    assert findings(installed, "FS079") == [] and findings(installed, "FS013") == []
    said = json.loads(installed.root("fairslice explain share --io --json disk-one"))["disks"]
    assert [one["by"] for one in said] == [["io.cost", "bfq"][way]] * 2
    assert [one["chain"][-1]["counted"] for one in said] == [40, 40]


@pytest.mark.thorough
@pytest.mark.parametrize("way", [0, 1], ids=["io.cost", "bfq"])
def test_a_disk_that_ignores_weights_beside_one_that_does_not_is_found(installed, disk, as_before, way):
    start(installed, disk, {"one": 40})
    found = only(installed, "FS077")
    assert found["what"] == "IOWeight=40 decides nothing on nvme0n1"
    installed.root(found["fix"]["text"].split("; or ")[way])
    assert findings(installed, "FS077") == []


@pytest.mark.thorough
def test_what_bfq_makes_of_a_weight_is_found_and_the_fix_works(installed, disk, as_before):
    installed.put({
        f"{UNITS}/disk-{name}.service": "[Service]\nSlice=disks.slice\nExecStart=/usr/bin/sleep infinity\n"
        for name in ("one", "two")
    })
    installed.root(
        "systemctl daemon-reload; systemctl start disk-one disk-two; systemctl set-property disk-one.service IOWeight=200"
    )
    found = only(installed, "FS076")
    assert found["what"] == f"IOWeight=200 counts as 109 on {disk}"
    assert found["cost"] == "with all beside it busy it gets 52.2% of the disk's time, not 66.7%"
    installed.root(found["fix"]["command"])
    assert findings(installed, "FS076") == []
    said = installed.root("cat /sys/fs/cgroup/disks.slice/disk-*.service/io.bfq.weight")
    assert said.split() == ["default", "100", "default", "50"]


@pytest.mark.thorough
def test_a_weight_that_bfq_was_never_told_is_found_and_the_fix_works(installed, disk, as_before):
    installed.root(f"echo none > /sys/block/{disk}/queue/scheduler; modprobe -r bfq")
    start(installed, disk, {"one": 40})
    by_bfq(installed, disk)
    found = only(installed, "FS013")
    assert found["what"] == f"IOWeight=40 counts as 100 on {disk}, not as 40"
    installed.root(found["fix"]["command"])
    assert findings(installed, "FS013") == []


def test_check_says_what_the_disks_make_of_a_weight(installed, disk):
    policy = "/tmp/weights.toml"
    installed.put({policy: '[slice."disks.slice"]\nio_weight = 200\n'})
    said = installed.root(f"fairslice check {policy}; echo exit $?")
    assert f"{policy}:2:13: warning: io_weight = 200 decides nothing on these disks: nvme0n1 has the scheduler" in said
    assert said.endswith("exit 1\n")
