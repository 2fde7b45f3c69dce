"""What tests/settings.rs compares with is what the systemd of each release says today."""

import settings


def test_systemd_says_of_each_line_what_is_recorded(machine):
    version = machine.root("systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p'").strip()
    column = settings.VERSIONS.index(version)
    machine.put(settings.units())
    said = settings.verdicts(machine.root(settings.COMMAND + f"; rm -r {settings.PLACE}"))
    lines = settings.corpus()
    assert len(lines) > 1000 and len(set(said)) == 3
    differ = [(text, verdict) for (_, known, text), verdict in zip(lines, said, strict=True) if known[column] != verdict]
    assert differ == []
