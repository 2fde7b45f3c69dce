"""The alarms on a live machine: a drift makes one fire in the Prometheus that watches it, and the fix that doctor
prints ends it.

The rules are those of the package with seconds for minutes, and the looks follow one another: what is tried is the way
from a cgroup to an alarm and back. What each alarm fires at is tried by tests/alarms.rs.
"""

import json
import re
import time
from pathlib import Path

import measure
import pytest
from image import VmError
from machine import Machine

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging/prometheus/fairslice.rules.yml"
SLICE = "foundry-services.slice"
# Not below /var/tmp, of which a service with DynamicUser= has its own.
AT = "/opt/alarms"
TIMER = "/run/systemd/system/fairslice-metrics.timer.d/often.conf"
PORT = 9090
UNITS = "fairslice-metrics.timer alarms-prometheus alarms-exporter"
CONFIG = """
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [rules.yml]
scrape_configs: [{job_name: node, static_configs: [{targets: ['127.0.0.1:9100']}]}]
"""
# As fairslice(1), METRICS, has it; and of the other collectors none, which emulated CPUs are busy with.
EXPORTER = "--collector.textfile.directory=/var/lib/*/node-exporter --collector.disable-defaults --collector.textfile"
DEADLINE = 120  # seconds

pytestmark = pytest.mark.thorough


def unpacked(package: str) -> bytes:
    """What tests/prepare has unpacked: Debian's own, as this machine's release has it."""
    program = ROOT / f"target/tools/{package}/usr/bin/{package}"
    if not program.exists():
        raise VmError(f"no {program}: tests/prepare test unpacks it")
    return program.read_bytes()


def quick() -> str:
    text = re.sub(r"\b(\d+)m\b", r"\1s", RULES.read_text())
    # A rate needs two scrapes.
    return re.sub(r"\[(\d+)s\]", r"[\g<1>0s]", text)


@pytest.fixture(scope="module")
def watched(installed):
    """Looks one after the other, an exporter that has them, and a Prometheus that collects them."""
    programs = {f"{AT}/{name}": unpacked(name) for name in ("prometheus", "prometheus-node-exporter")}
    installed.put(programs, mode=0o755)
    installed.put({
        f"{AT}/prometheus.yml": CONFIG,
        f"{AT}/rules.yml": quick(),
        TIMER: "[Timer]\nOnUnitInactiveSec=\nOnUnitInactiveSec=1s\nAccuracySec=100ms\n",
    })  # fmt: skip
    run = "systemd-run --quiet --property=DynamicUser=yes --property=RuntimeDirectory=alarms"
    installed.root(
        f"systemctl daemon-reload; systemctl start fairslice-metrics.timer fairslice-metrics.service;"
        f" {run} --unit=alarms-exporter {AT}/prometheus-node-exporter {EXPORTER};"
        f" {run} --unit=alarms-prometheus {AT}/prometheus --config.file={AT}/prometheus.yml"
        f" --storage.tsdb.path=/run/alarms --web.listen-address=127.0.0.1:{PORT}"
    )
    try:
        yield installed
    finally:
        installed.root(
            f"systemctl stop {UNITS}; systemctl reset-failed alarms-prometheus alarms-exporter 2> /dev/null;"
            f" rm -rf {AT} {Path(TIMER).parent} /var/lib/fairslice; systemctl daemon-reload"
        )


def ask(machine: Machine, path: str) -> dict:
    """What Prometheus answers; nothing while it does not."""
    answer = machine.root(
        f"exec 3<> /dev/tcp/127.0.0.1/{PORT} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 20 cat <&3",
        check=False,
    )
    _, _, body = answer.partition("\r\n\r\n")
    return json.loads(body)["data"] if body.startswith("{") else {}


def alarms(machine: Machine) -> set[tuple[str, str, str]]:
    """Each that is pending or firing: its name, its unit, its state."""
    told = ask(machine, "/api/v1/alerts").get("alerts", [])
    return {(one["labels"]["alertname"], one["labels"].get("unit", ""), one["state"]) for one in told}


def until(machine: Machine, what: str, holds, since: float, timeline: list[str]) -> set[tuple[str, str, str]]:
    """The alarms as soon as that holds of them."""
    end = time.monotonic() + DEADLINE
    while not holds(found := alarms(machine)):
        assert time.monotonic() < end, f"{what}: {found}, after {timeline}"
        time.sleep(0.3)
    timeline.append(f"{what} {time.monotonic() - since:.1f} s")
    return found


def test_a_drift_is_an_alarm_until_it_is_mended(watched, capsys):
    end = time.monotonic() + DEADLINE
    looked = "/api/v1/query?query=fairslice_look_timestamp_seconds"
    while not ask(watched, looked).get("result"):
        assert time.monotonic() < end, watched.root("journalctl -b -o cat -u 'alarms-*' -u fairslice-metrics | tail -30")
        time.sleep(0.5)
    alarm = ("FairsliceSettingNotInForce", SLICE)
    timeline: list[str] = []
    until(watched, "quiet", lambda found: not found, time.monotonic(), timeline)

    watched.root(f"systemctl set-property {SLICE} CPUWeight=50")
    since = time.monotonic()
    until(watched, "seen", lambda found: any(one[:2] == alarm for one in found), since, timeline)
    found = until(watched, "fires", lambda found: (*alarm, "firing") in found, since, timeline)
    assert {one[0] for one in found} == {alarm[0]}, found
    findings = json.loads(watched.root("fairslice doctor --json", check=False))["findings"]
    [fix] = [finding["fix"] for finding in findings if SLICE in finding["subject"]]
    watched.root(fix["command"])
    since = time.monotonic()
    until(watched, "mended: over", lambda found: not found, since, timeline)
    assert measure.properties(watched, SLICE, "CPUWeight") == {"CPUWeight": "200"}
    with capsys.disabled():
        print(f"\n{fix['command']}: {', '.join(timeline)}")
