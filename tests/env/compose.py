"""Reads docker-compose.yml for tests/containers, which acts it out without an engine.

compose.py FILE environment SERVICE    NAME=VALUE, one a line
compose.py FILE arguments SERVICE      entrypoint and command, NUL after each
compose.py FILE options SERVICE        what `podman run` takes of the service's hardening, one a line
compose.py FILE image SERVICE
"""

import os
import re
import sys

import yaml


def interpolate(text):
    """Compose's `${NAME:-default}`, `${NAME}` and `$$`."""

    def value(match):
        if match[0] == "$$":
            return "$"
        return os.environ.get(match[1]) or match[2] or ""

    return re.sub(r"\$\$|\$\{(\w+)(?::-([^}]*))?\}", value, str(text))


def words(value):
    if value is None:
        return []
    return [interpolate(word) for word in ([value] if isinstance(value, str) else value)]


def main(path, what, name):
    with open(path, encoding="utf-8") as file:
        service = yaml.safe_load(file)["services"][name]
    if what == "environment":
        for key, value in service.get("environment", {}).items():
            print(f"{key}={interpolate(value)}")
    elif what == "arguments":
        sys.stdout.write("".join(f"{word}\0" for word in words(service.get("entrypoint")) + words(service.get("command"))))
    elif what == "image":
        print(service["image"])
    elif what == "options":
        if service.get("read_only"):
            print("--read-only")
        if "user" in service:
            print(f"--user={service['user']}")
        if "pids_limit" in service:
            print(f"--pids-limit={service['pids_limit']}")
        for capability in service.get("cap_drop", []):
            print(f"--cap-drop={capability}")
        for option in service.get("security_opt", []):
            print(f"--security-opt={option.removesuffix(':true')}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
