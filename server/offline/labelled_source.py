"""Where labelled texts come from: a file, or a project of Label Studio, written to a temporary file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from server.errors import BadSetting
from server.files import private_opener
from server.label_studio.api_client import Api
from server.label_studio.credentials import token, web_address
from server.label_studio.project_tasks import annotated_tasks, read_project
from server.offline.labelled import LabelledSource
from server.offline.predict_file import dumps
from server.offline.records import read_text


@dataclass(frozen=True)
class LabelledOptions:
    """What a command is given: a file, or a project of the Label Studio at an address; and how to read it, as
    for `LabelledSource`, with the labeling config as a file.
    """

    file: Path | None
    text: str | None = None
    label: str | None = None
    label_config: Path | None = None
    label_studio: str | None = None
    project: int | None = None

    def check(self) -> None:
        """Raises BadSetting for options that contradict each other."""
        if (self.label_studio is None) != (self.project is None):
            raise BadSetting("--label-studio and --project: give both or neither.")
        if (self.file is None) == (self.project is None):
            raise BadSetting("Give a file of labelled texts, or a project with --label-studio and --project.")
        if self.text is not None and (self.label_config is not None or self.project is not None):
            raise BadSetting("--text: the labeling config says which text is read; leave --text out.")


@contextmanager
def labelled_source(options: LabelledOptions, console: Console) -> Iterator[LabelledSource]:
    """The labelled texts of these options; those of a project are there until the end of the block. Raises
    BadSetting, BadInput, LabelStudioRefused, LabelStudioUnreachable.
    """
    options.check()
    config = None if options.label_config is None else read_text(options.label_config)
    if options.file is not None:
        yield LabelledSource(options.file, options.text, options.label, config)
        return
    with tempfile.TemporaryDirectory(prefix="prelabel-") as folder:
        path = Path(folder) / f"project-{options.project}.jsonl"
        with console.status(f"reading project {options.project}"):
            project_config = _write_project(options, path)
        yield LabelledSource(path, None, options.label, config or project_config)


def _write_project(options: LabelledOptions, path: Path) -> str:
    """Write the tasks of a project to a file; returns its labeling config."""
    url, number = web_address("--label-studio", options.label_studio or ""), options.project or 0
    with Api(url, token(os.environ)) as api, open(path, "wb", opener=private_opener) as file:
        config: str = read_project(api.get, number)["label_config"]
        file.writelines(dumps(task) + b"\n" for task in annotated_tasks(api.get, number))
    return config
