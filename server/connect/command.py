"""The command `prelabel connect`: runs the steps and prints the checklist."""

import os

from rich.console import Console

from server.connect import checklist
from server.connect.connect_steps import ConnectSteps
from server.connect.disconnect_steps import DisconnectSteps
from server.connect.options import ConnectOptions
from server.connect.project import Project
from server.label_studio.api_client import Api
from server.label_studio.credentials import token


def connect_backend(options: ConnectOptions) -> bool:
    """Connect, check or disconnect, and print a line per finding to stdout. True if nothing failed."""
    project = Project(options, Api(options.label_studio, token(os.environ)))
    steps = DisconnectSteps(project) if options.disconnect else ConnectSteps(project)
    stdout = Console()
    return steps.run(steps.steps(), lambda line: checklist.show(line, stdout))
