"""What systemd says about the lines of tests/settings.tsv, one unit for each.

    python3 tests/vm/settings.py VERSION DIRECTORY

writes into the file's column of VERSION what systemd-analyze says that lies below DIRECTORY: a tree of a release
that has it (mmdebstrap --variant=minbase --include=systemd RELEASE DIRECTORY), with /proc; as root.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "settings.tsv"
VERSIONS = ["252", "257", "262"]
PLACE = "/run/verify"
# Alone, without the units of the machine.
COMMAND = (
    f"cd {PLACE} && SYSTEMD_UNIT_PATH={PLACE}: systemd-analyze verify --man=no --generators=no $(cat units) 2>&1; true"
)
# What makes a unit of a kind one.
BASES = {
    "service": "[Service]\nExecStart=/bin/true\n",
    "slice": "",
    "socket": "[Socket]\nListenStream=/run/{0}\n",
    "mount": "[Mount]\nWhat=tmpfs\nWhere=/{0}\n",
    "swap": "[Swap]\nWhat=/{0}\n",
    "timer": "[Timer]\nOnCalendar=daily\n",
}
TAKEN, UNKNOWN, REFUSED = "-", "K", "V"


def corpus() -> list[list[str]]:
    """Kind, verdicts and text of each line."""
    lines = FILE.read_text().splitlines()
    return [line.split("\t", 2) for line in lines if not line.startswith("#")]


def units() -> dict[str, str]:
    """The files of them all, and `units`, which has the names."""
    files, names = {}, []
    for number, (kind, _, text) in enumerate(corpus()):
        name, text = f"c{number}", text.replace("\\n", "\n")
        base = BASES[kind.removesuffix("@")].format(name)
        # Outside of a section is only what stands before all of them.
        whole = f"{base}{text}\n" if text.startswith("[") else f"{text}\n{base}"
        if kind.endswith("@"):
            kind = kind.removesuffix("@")
            files[f"{PLACE}/{name}@.{kind}"] = whole
            name += "@7"
        else:
            files[f"{PLACE}/{name}.{kind}"] = whole
        if kind in ("socket", "timer"):
            files[f"{PLACE}/{name}.service"] = BASES["service"]
        names.append(f"{PLACE}/{name}.{kind}")
    return files | {f"{PLACE}/units": "\n".join(names)}


def verdicts(said: str) -> list[str]:
    """One for each line of the corpus, from what systemd-analyze printed."""
    found: dict[int, str] = {}
    for line in said.splitlines():
        unit = re.search(r"\bc(\d+)(?:@7?)?\.\w+", line)
        at_line = re.match(r"\S+:\d+: (.*)", line)
        if unit is None or not (at_line or re.search(r"Unit (?!c\d)\S*slice failed to load", line)):
            continue
        unknown = r"Unknown (key|section)|Assignment outside|Missing .=|.*not supported for this unit type|Support for option"
        verdict = UNKNOWN if at_line and re.match(unknown, at_line[1]) else REFUSED
        found.setdefault(int(unit[1]), verdict)
    return [found.get(number, TAKEN) for number in range(len(corpus()))]


def record(version: str, directory: Path) -> None:
    # A unit of an earlier run would be loaded as well.
    shutil.rmtree(directory / PLACE.lstrip("/"), ignore_errors=True)
    (directory / PLACE.lstrip("/")).mkdir()
    for path, text in units().items():
        (directory / path.lstrip("/")).write_text(text)
    done = subprocess.run(["chroot", directory, "sh", "-c", COMMAND], capture_output=True, text=True, check=True)
    column = VERSIONS.index(version)
    head = [line for line in FILE.read_text().splitlines() if line.startswith("#")]
    lines = []
    for (kind, before, text), verdict in zip(corpus(), verdicts(done.stdout), strict=True):
        lines.append("\t".join((kind, before[:column] + verdict + before[column + 1 :], text)))
    FILE.write_text("\n".join(head + lines) + "\n")


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]))
