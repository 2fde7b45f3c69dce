"""The package in other versions."""

import subprocess
from pathlib import Path


def repackaged(package: Path, directory: Path, version: str, policy: str) -> Path:
    """The package as another version, whose default policy has a line more."""
    tree = directory / version
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    with open(tree / "etc/fairslice/policy.toml", "a") as file:
        file.write(f"{policy}\n")
    (tree / "DEBIAN" / "md5sums").unlink(missing_ok=True)
    architecture = next(line.split()[1] for line in lines if line.startswith("Architecture:"))
    result = directory / f"fairslice_{version}_{architecture}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, result], check=True, stdout=subprocess.DEVNULL)
    return result
