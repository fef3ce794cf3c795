"""Runs the steps of a command in order, and stops after a failure that the remaining steps depend on."""

from collections.abc import Callable, Iterator

from server.connect.checklist import Line, failed, note, passed
from server.connect.project import Project
from server.connect.remedies import plain_text, remedy
from server.errors import PrelabelError

Step = Callable[[], Iterator[Line]]
"""Checks or changes one thing and yields a line for each finding."""


class StepRunner:
    """Base of the two commands, with the steps that both begin with."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.options = project.options

    def can_continue(self) -> bool:
        """Whether the remaining steps make sense after one that failed."""
        return False

    def run(self, steps: list[Step], on_line: Callable[[Line], None]) -> bool:
        """Run the steps; `on_line` gets each finding. True if none failed."""
        all_passed = True
        for number, step in enumerate(steps, 1):
            step_failed = False
            for line in self._lines(step):
                on_line(line)
                step_failed |= line.mark == "✗"
            all_passed &= not step_failed
            if step_failed and number < len(steps) and not self.can_continue():
                on_line(note("Stopped here: the remaining steps depend on this one."))
                break
        return all_passed

    def _lines(self, step: Step) -> Iterator[Line]:
        try:
            yield from step()
        except PrelabelError as error:
            yield failed(plain_text(error), remedy(error))

    def label_studio(self) -> Iterator[Line]:
        """Label Studio responds and accepts the token."""
        url = self.options.label_studio
        version = self.project.read_if_present("version")
        user = self.project.read_if_present("current-user/whoami")
        if not (
            isinstance(user, dict) and "email" in user and isinstance(version, dict) and "release" in version
        ):
            yield failed(
                f"{url} responds, but not as Label Studio.",
                "Correct --label-studio: the address that the browser shows, up to its first path.",
            )
            return
        yield passed(f"Label Studio {version['release']} at {url} accepts the token of {user['email']}.")

    def label_studio_project(self) -> Iterator[Line]:
        """The project exists."""
        number = self.options.project
        if self.project.read_if_present(f"projects/{number}") is None:
            yield failed(
                f"There is no project {number} that this token has access to.",
                "Take the number from the address that the browser shows in the project: "
                "…/projects/NUMBER/data.",
            )
            return
        self.project.reload()
        data = self.project.data
        yield passed(f"Project {number}, “{data['title']}”: {data['task_number'] or 0:,} tasks.")
