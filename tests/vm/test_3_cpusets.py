"""What "fairslice explain share" predicts is what the kernel gives to those who may not use every CPU; and a fix that
the doctor prints ends what it found.

Threads are free to move here, within what cpuset and affinity leave them.
"""

import json

import measure
import pytest

TOLERANCE = 0.05
UNITS = "/run/systemd/system"
BUSY = "ExecStart=/usr/local/bin/load --busy 2"


@pytest.fixture
def start(installed):
    """Starts units of these files, and has them gone again."""
    made: list[str] = []

    def start(units: dict[str, str], *services: str):
        made.extend(units)
        installed.put({f"{UNITS}/{name}": text for name, text in units.items()})
        installed.root(f"systemctl daemon-reload; systemctl start {' '.join(services)}; sleep 1")

    yield start
    names = " ".join(made)
    control = " ".join(f"/etc/systemd/system.control/{name}.d" for name in made)
    installed.root(
        f"systemctl kill --signal=KILL {names}; systemctl stop {names}; cd {UNITS} && rm -f {names}; rm -rf {control};"
        " systemctl daemon-reload; systemctl reset-failed"
    )


def shares(machine, cgroups: list[str], *arguments: str) -> list[float]:
    found = json.loads(machine.root(f"fairslice explain share --json {' '.join(arguments)}"))["cgroups"]
    by_cgroup = {one["cgroup"]: one["share"] for one in found}
    return [by_cgroup[f"/{cgroup}"] for cgroup in cgroups]


def service(lines: str = "", busy: str = BUSY) -> str:
    return f"[Service]\nSuccessExitStatus=SIGKILL\n{busy}\n{lines}"


def compare(machine, cgroups: list[str], expected: list[float], predicted: list[float]):
    """What was predicted is right, and is what they get of what they use together."""
    assert predicted == pytest.approx(expected, abs=0.001)
    measured = measure.cpu_shares(machine, cgroups)
    parts = [part / sum(expected) for part in expected]
    assert measured.near(parts, TOLERANCE), f"measured {measured}, and not {parts}"


@pytest.mark.alone
@pytest.mark.thorough
def test_those_bound_to_one_cpu_share_it(installed, start):
    start(
        {
            "one.slice": "[Slice]\nAllowedCPUs=0\n",
            "two.slice": "[Slice]\nAllowedCPUs=0\n",
            "free.slice": "[Slice]\n",
            "in-one.service": service("Slice=one.slice"),
            "in-two.service": service("Slice=two.slice"),
            "in-free.service": service("Slice=free.slice"),
        },
        "in-one",
        "in-two",
        "in-free",
    )
    cgroups = ["one.slice", "two.slice", "free.slice"]
    predicted = shares(installed, cgroups, "--busy", "in-one,in-two,in-free")
    compare(installed, cgroups, [0.25, 0.25, 0.5], predicted)


@pytest.mark.alone
@pytest.mark.thorough
def test_affinity_binds_as_a_cpuset_does(installed, start):
    start(
        {
            "decode.service": service("CPUAffinity=0\nCPUWeight=100"),
            "render.service": service("CPUAffinity=0\nCPUWeight=300"),
        },
        "decode",
        "render",
    )
    cgroups = ["system.slice/decode.service", "system.slice/render.service"]
    compare(installed, cgroups, [0.125, 0.375], shares(installed, cgroups, "--busy", "decode,render"))
    status = json.loads(installed.root("fairslice status --json; true"))["cgroups"]
    everything = json.loads(installed.root("fairslice explain share --json"))["cgroups"]
    [explained] = [one["share"] for one in everything if one["cgroup"] == "/system.slice/render.service"]
    [said] = [one["cpu_share"] for one in status if one["cgroup"] == "/system.slice/render.service"]
    # Between the two looks, threads come and go.
    assert said == pytest.approx(explained, abs=0.02)


@pytest.mark.alone
@pytest.mark.thorough
def test_a_thread_takes_its_part_of_the_weight_to_its_cpu(installed, start):
    start(
        {
            "pair.slice": "[Slice]\nCPUWeight=300\n",
            "first.service": service("Slice=pair.slice\nCPUAffinity=0\nCPUWeight=100"),
            "second.service": service(
                "Slice=pair.slice\nCPUAffinity=1\nCPUWeight=300", "ExecStart=/usr/local/bin/load --busy 1"
            ),
            "beside.service": service("Slice=beside.slice\nCPUAffinity=0"),
        },
        "first",
        "second",
        "beside",
    )
    cgroups = ["pair.slice/first.service", "pair.slice/second.service", "beside.slice"]
    predicted = shares(installed, cgroups, "--busy", "first,second,beside")
    compare(installed, cgroups, [0.2143, 0.5, 0.2857], predicted)


@pytest.mark.alone
@pytest.mark.thorough
def test_processes_beside_empty_cgroups_count(installed, start):
    cgroup = "/sys/fs/cgroup/system.slice/inner.service"
    command = f"mkdir -p {cgroup}/payload {cgroup}/runtime; exec /usr/local/bin/load --busy 2"
    inner = service("Delegate=yes", f"ExecStart=/bin/sh -c '{command}'")
    start({"inner.service": inner, "plain.service": service()}, "inner", "plain")
    cgroups = ["system.slice/inner.service", "system.slice/plain.service"]
    inner, plain = shares(installed, cgroups)
    assert inner == pytest.approx(plain) and inner > 0
    assert measure.cpu_shares(installed, cgroups).near([0.5, 0.5], TOLERANCE)


def findings(machine, code: str) -> list[dict]:
    found = json.loads(machine.root("fairslice doctor --no-policy --json || true"))["findings"]
    return [one for one in found if one["code"] == code]


@pytest.mark.thorough
def test_the_slice_of_instances_is_named_and_its_fix_works(installed, start):
    start({"crew@.service": service("CPUWeight=500")}, "crew@1", "crew@2")
    try:
        [found] = findings(installed, "FS021")
        assert "system-crew.slice" in found["cause"] and found["subject"] == "crew@1.service, crew@2.service"
        installed.root(found["fix"]["command"])
        assert findings(installed, "FS021") == []
        assert measure.cpu_weight(installed, "system.slice/system-crew.slice") == 1000
    finally:
        installed.root(
            "systemctl stop crew@1 crew@2; rm -rf /etc/systemd/system.control/system-crew.slice.d;"
            " systemctl daemon-reload"
        )
