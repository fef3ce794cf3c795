"""The learner as a process: `python -m export.learning`, started by a server that learns.

The first line of its standard input are its settings, as `server.launch.learner_process` writes them. It ends
when its standard input does.
"""

import json
import logging
import os
import sys
import threading

from export.learning.lock import only_learner
from server.errors import PrelabelError
from server.label_studio.api_client import Api
from server.label_studio.credentials import token
from server.learning.store import STORE, LearningStore
from server.log_setup import start_logging
from server.settings import Settings

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the store, which the server writes."""

FAILED_PAUSE = 30.0
"""Seconds after a failure that says nothing of a single project."""

END_GRACE = 5.0
"""Seconds to end by itself, when its server has ended."""


def main() -> None:
    settings = Settings(**json.loads(sys.stdin.readline()))
    start_logging(settings.log_level, settings.log_format)
    os.nice(19)
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    with only_learner(settings.learn_folder, wait=True):
        learn(settings, ended)


def learn(settings: Settings, ended: threading.Event) -> None:
    """Look after the projects until `ended`."""
    from export.learning.learner import Learner  # takes a second

    with LearningStore(settings.learn_folder / STORE) as store:
        learner: Learner | None = None
        while not ended.is_set():
            try:
                learner = learner or Learner(settings, store, Api(settings.learn, token(os.environ)))
                learner.step()
                ended.wait(INTERVAL)
            except PrelabelError as error:
                log.error("%s", error)
                ended.wait(FAILED_PAUSE)


def _wait_for_end(ended: threading.Event) -> None:
    """Whatever the learner does then: nothing is lost if it is cut off."""
    sys.stdin.read()
    ended.set()
    threading.Timer(END_GRACE, lambda: os._exit(0)).start()


if __name__ == "__main__":
    main()
