"""The command `prelabel serve`, on this machine."""

import logging
import os

from rich.console import Console

from server.label_studio.credentials import token
from server.launch.launcher import serve
from server.launch.startup_banner import as_lines, startup_banner
from server.log_setup import is_json
from server.models.registry import Registry
from server.settings import Settings


def serve_here(settings: Settings, console: Console) -> None:
    """Serve until a signal ends the process. Once the port is open, the banner goes to the log as JSON, or to
    the console. Raises PrelabelError.
    """

    if settings.learn:
        token(os.environ)

    def show_banner(settings: Settings, registry: Registry) -> None:
        banner = startup_banner(settings, registry)
        if is_json(settings.log_format):
            logging.getLogger("prelabel").info("serving", extra={"fields": banner})
            return
        for line in as_lines(banner):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    serve(settings, show_banner)
