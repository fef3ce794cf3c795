"""`docker compose exec [-e NAME]… SERVICE COMMAND…` without Docker.

Runs the command in the folder and with the environment of that service's process. CONTAINERS names the file
with the containers of tests/e2e/containers.py: service → {"root", "folder", "environment"}.
"""

import argparse
import json
import os
from pathlib import Path

from tests.deploy.scratch import inside


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("compose", choices=["compose"])
    parser.add_argument("exec", choices=["exec"])
    parser.add_argument("-e", action="append", default=[], dest="passed_on")
    parser.add_argument("service")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    container = json.loads(Path(os.environ["CONTAINERS"]).read_text())[arguments.service]
    os.chdir(container["folder"])
    command = [inside(word, Path(container["root"])) for word in arguments.command]
    passed_on = {name: os.environ[name] for name in arguments.passed_on}
    os.execvpe(command[0], command, container["environment"] | passed_on)  # noqa: S606


if __name__ == "__main__":
    main()
