"""What `prelabel predict` reads and fills, here and on a cluster: the labeling config, and the text."""

from dataclasses import dataclass
from pathlib import Path

from server.bundle import LABELING_CONFIG, Bundle
from server.errors import BadInput, BadLabelConfig, BadSetting
from server.label_studio.labeling_config import TUTORIAL_CONFIG, LabelingPlan, read_plan
from server.offline.records import read_text
from server.offline.row_texts import RowText, text_instead
from server.settings import Settings


@dataclass(frozen=True)
class PredictOptions:
    """What the command line says of it: `label_config` is a file of XML; `text` a column, a path such as
    `review.body`, or a value such as `$title: $body`, which is read instead of that of the config.
    """

    label_config: Path | None = None
    text: str | None = None

    def check(self) -> None:
        """Raises BadSetting for options that contradict each other."""
        if self.text is not None and self.label_config is not None:
            raise BadSetting("--text: the labeling config says which text is read; leave --text out.")


def plan_of(
    options: PredictOptions, bundle: Bundle, settings: Settings
) -> tuple[LabelingPlan, RowText | None]:
    """The plan for the given labeling config, else the bundle's own, else the tutorial's; and what is read
    instead of its text. Raises BadInput, BadLabelConfig, BadSetting.
    """
    options.check()
    where, config = _labeling_config(options.label_config, bundle)
    try:
        plan = read_plan(config, bundle.labels, settings.label_map)
    except BadLabelConfig as error:
        raise BadLabelConfig(f"{where}: {error}") from None
    if options.text is None:
        return plan, None
    if len(plan.fields) > 1:
        values = ", ".join(field.value for field in plan.fields)
        raise BadSetting(f"--text: {where} reads several texts ({values}); leave --text out.")
    return plan, text_instead(plan.fields[0], options.text)


def _labeling_config(path: Path | None, bundle: Bundle) -> tuple[str, str]:
    """(what to call it in an error, the XML)."""
    if path is not None:
        try:
            return str(path), read_text(path)
        except BadInput as error:
            raise BadInput(f"--label-config: {error}") from None
    if bundle.labeling_config is not None:
        return str(bundle.path / LABELING_CONFIG), bundle.labeling_config
    return "the default labeling config", TUTORIAL_CONFIG
