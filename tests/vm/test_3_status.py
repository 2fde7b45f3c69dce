"""fairslice status on a real machine: the tree is the machine's, what is busy is seen to be, and the
metrics are read by the parsers of those who defined them."""

import collections
import contextlib
import json
from pathlib import Path

import jsonschema
import measure
import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

COLLECTED = "/var/lib/fairslice/node-exporter"


pytestmark = pytest.mark.thorough("bookworm")


def test_the_tree_is_the_machines_and_use_is_seen(installed):
    with contextlib.closing(installed.session("alice")) as session:
        uid = session.run("load --busy 1 > /dev/null & id -u").strip()
        text = installed.root("timeout 8 fairslice status --watch=1 || true")
        session.run("pkill -x load")
    rows = {line.split("─")[-1].split()[0].lstrip("!"): line for line in text.splitlines() if line.strip()}
    slices = ["machine", "foundry.slice", "foundry-services.slice", "user.slice"]
    for unit in [*slices, "local-fs.service", "ssh.service"]:
        assert unit in rows, f"{unit} is not in {text}"
    line = rows[f"user-{uid}.slice"]
    assert "(alice)" in line
    # weight, share, and use of the CPUs: one of two.
    used = float(line.split(")")[1].split()[2].rstrip("%"))
    assert 30 < used < 60, line


def test_detail_agrees_with_the_kernel(installed):
    text = installed.root("fairslice status local-fs")
    pid = measure.services(installed, ["local-fs"])["local-fs"].pid
    score = installed.root(f"cat /proc/{pid}/oom_score").strip()
    line = next(line for line in text.splitlines() if "(main)" in line)
    assert line.split()[0] == str(pid) and f" {score} " in line, text
    assert "oom_score_adj  -500" in text and "differs" not in text, text
    assert installed.root("fairslice status alise 2>&1 || echo $?").endswith("2\n")


# Private directories that anybody may change, where a service sees another /home and another /tmp.
DIRS = "/etc/fairslice/policy.d/60-dirs.toml"
DIRS_POLICY = """
[private_dir.GOCACHE]
path = "{home}/go-cache"
[private_dir.SCCACHE_DIR]
path = "/tmp/sccache-{user}"
"""


def test_the_metrics_are_what_collectors_read(installed):
    with contextlib.closing(installed.session("alice")) as session:
        session.run("mkdir -m 777 ~/go-cache /tmp/sccache-alice")
        installed.put({DIRS: DIRS_POLICY})
        installed.root("systemctl start fairslice-metrics.service")
        try:
            text = installed.root(f"cd {COLLECTED}; stat -c %a fairslice.prom; ls -A; cat fairslice.prom")
            findings = json.loads(installed.root("fairslice doctor --json", check=False))["findings"]
            journal = installed.root("journalctl -b -o cat -u fairslice-metrics")
            enabled = installed.root("systemctl is-enabled fairslice-metrics.timer || true").strip()
        finally:
            installed.root(f"rm -r /var/lib/fairslice {DIRS} /tmp/sccache-alice /home/alice/go-cache")
    mode, names, text = text.split("\n", 2)
    assert (mode, names, enabled) == ("644", "fairslice.prom", "disabled")
    # In the service it can look at as much as outside of it.
    assert "not looked at" not in journal, journal
    codes = collections.Counter(finding["code"] for finding in findings)
    assert codes["FS051"] == 2, findings
    for read in parser.text_string_to_metric_families, openmetrics_parser.text_string_to_metric_families:
        families = {family.name: family.samples for family in read(text)}
        weights = {sample.labels["unit"]: sample.value for sample in families["fairslice_cpu_weight"]}
        assert weights["foundry-services.slice"] == 200
        assert all(sample.value for sample in families["fairslice_setting_holds"])
        counts = {sample.labels["code"]: sample.value for sample in families["fairslice_findings"]}
        assert counts == codes
        assert families["fairslice_findings_all"][0].value == len(findings)


def test_json_is_what_its_schema_says(installed):
    schemas = Path(__file__).parents[2] / "docs/json"
    with contextlib.closing(installed.session("alice")) as session:
        session.run("true")
        for name, command in [
            ("status", "status"),
            ("status", "status local-fs alice"),
            ("doctor", "doctor"),
            ("explain-login", "explain login alice"),
            ("explain-unit", "explain unit local-fs"),
            ("explain-share", "explain share alice"),
            ("explain-memory", "explain memory"),
            ("explain-oom", "explain oom"),
            ("explain-process", "explain process 1"),
            ("explain-process", "me"),
            ("apply", "apply --dry-run"),
        ]:
            schema = json.loads((schemas / f"{name}.schema.json").read_text())
            jsonschema.Draft202012Validator.check_schema(schema)
            jsonschema.validate(json.loads(installed.root(f"fairslice {command} --json", check=False)), schema)
        assert installed.root("ls /usr/share/doc/fairslice/json").split() == sorted(p.name for p in schemas.iterdir())
