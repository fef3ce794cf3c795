"""The control that a project learns, read from its labeling config; each config is read once."""

from collections import OrderedDict

from server.errors import BadLabelConfig
from server.label_studio.labeling_config import Question, read_question

MAX_QUESTIONS = 64
"""Configs that are remembered; the least recently used one is evicted."""

SEVERAL = 'Name one in the extra parameters of the ML backend, such as {"learn": "NAME"}.'

Key = tuple[str, str | None]
"""A labeling config and the name of the control to learn, None for its only one."""


class Questions:
    """Reads labeling configs, which takes milliseconds or, for odd ones, seconds. Use it in one thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, Question | str] = OrderedDict()

    def read(self, config: str, control: str | None) -> Question:
        """Raises BadLabelConfig if the config has no such control, or several and none is named."""
        key = (config, control)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = _read(config, control)
            if len(self._found) > MAX_QUESTIONS:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        if isinstance(found, str):
            raise BadLabelConfig(found)
        return found


def _read(config: str, control: str | None) -> Question | str:
    """The question, or why there is none."""
    try:
        question = read_question(config, control, SEVERAL)
    except BadLabelConfig as error:
        return str(error)
    if control is not None and question.answers.name != control:
        return (
            f"The labeling config has no control {control!r} that labels texts; it has "
            f"{question.answers.name!r}. Correct the name in the extra parameters of the ML backend."
        )
    return question
