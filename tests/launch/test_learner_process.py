"""The learner runs next to the server: started again when it ends, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from server.launch.learner_process import FIELDS, learner_process, learner_settings
from server.settings import Settings, load_settings

LEARNER = textwrap.dedent("""
    import os, sys
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {sys.stdin.readline()}")
    sys.stdin.read()
""")


def wait_for(condition: Callable[[], bool]) -> None:
    """Without a limit of its own: that of the test run ends it."""
    while not condition():
        os.sched_yield()


def starts(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_learner_that_ends_is_started_again_and_ends_with_the_server(tmp_path: Path) -> None:
    file = tmp_path / "starts"
    with learner_process("7", [sys.executable, "-c", LEARNER, str(file)], pause=0):
        wait_for(lambda: len(starts(file)) == 1)
        ((first, threads, line),) = starts(file)
        assert (threads, line) == ("1", "7")
        os.kill(int(first), signal.SIGKILL)
        wait_for(lambda: len(starts(file)) == 2)
    assert all(is_gone(int(process)) for process, *_ in starts(file))


def test_a_learner_ends_when_the_server_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "starts"
    server = textwrap.dedent(f"""
        import sys
        from server.launch.learner_process import learner_process
        with learner_process("7", [sys.executable, "-c", {LEARNER!r}, {str(file)!r}]):
            sys.stdin.read()
    """)
    process = subprocess.Popen([sys.executable, "-c", server], stdin=subprocess.PIPE)
    wait_for(lambda: len(starts(file)) == 1)
    process.kill()
    process.communicate()
    ((learner, *_),) = starts(file)
    wait_for(lambda: is_gone(int(learner)))


def test_a_learner_gets_the_settings_of_the_server(tmp_path: Path) -> None:
    given = load_settings(
        bundle=(tmp_path / "films",),
        learn="http://studio:8080",
        learn_folder=tmp_path,
        label_map=["Negative=bad", "Positive=good"],
        order="random",
        basic_auth_user="studio",
        basic_auth_pass="secret",
    )
    read = Settings(**json.loads(learner_settings(given)))
    assert {name: getattr(read, name) for name in FIELDS} == {name: getattr(given, name) for name in FIELDS}
    assert read.basic_auth_pass == given.basic_auth_pass
