"""A Label Studio in memory, at the seam of its API's client: one project with tasks and annotations."""

from dataclasses import dataclass, field
from json import loads
from typing import Any

from server.errors import LabelStudioRefused, LabelStudioUnreachable


@dataclass
class Studio:
    """`served` is the version with which the server answers Label Studio. `stored` has what was uploaded, by
    version and task.
    """

    config: str
    texts: list[str]
    served: str = "base-untrained"
    title: str = "base-untrained"
    version: str | None = "base-untrained"
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    uploaded: list[int] = field(default_factory=list)
    uploads_left: int = 100
    is_down: bool = False

    def annotate(self, task: int, label: str, *, by: int = 1, updated: str = "2026-01-01T10:00:00Z") -> int:
        """The number of the annotation, which is the task's."""
        region = {"from_name": "section", "type": "choices", "value": {"choices": [label]}}
        self.annotations[task] = {
            "id": task,
            "task": task,
            "completed_by": by,
            "updated_at": updated,
            "result": [region],
        }
        return task

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def call(self, method: str, path: str, *, params: Any = None, json: Any = None, **_: object) -> Any:
        if self.is_down:
            raise LabelStudioUnreachable("no response")
        return self._respond(method, path, params, json)

    def _respond(self, method: str, path: str, params: Any, json: Any) -> Any:
        match method, path.strip("/").split("/"):
            case "GET", ["projects", _]:
                return {
                    "id": 7,
                    "label_config": self.config,
                    "model_version": self.version,
                    "show_collab_predictions": True,
                }
            case "GET", ["tasks"]:
                return self._tasks(params)
            case "GET", ["ml"]:
                row = {"id": 1, "url": "http://prelabel:9090", "project": 7, "extra_params": {"learn": True}}
                return [row | {"title": self.title, "model_version": self.served}]
            case "GET", ["projects", _, "model-versions"]:
                return {version: len(found) for version, found in self.stored.items()}
            case "DELETE", ["projects", _, "model-versions"]:
                del self.stored[json["model_version"]]
                forgotten = {json["model_version"], self.title}  # as Label Studio does
                self.version = None if self.version in forgotten else self.version
                return None
            case "POST", ["projects", _, "import", "predictions"]:
                return self._store(json)
            case "PATCH", ["ml", _]:
                self.title = json["title"]
                return None
            case "PATCH", ["projects", _]:
                self.version = json.get("model_version", self.version)
                return None
        raise AssertionError((method, path))

    def _store(self, predictions: list[dict[str, Any]]) -> Any:
        if self.uploads_left == 0:
            raise LabelStudioRefused("forbidden", 403)
        self.uploads_left -= 1
        self.uploaded += [item["task"] for item in predictions]
        for item in predictions:
            self.stored.setdefault(item["model_version"], {})[item["task"]] = item
        return {"created": len(predictions)}

    def _tasks(self, params: dict[str, Any]) -> Any:
        filters = loads(params["query"])["filters"]["items"]
        found = [
            {
                "id": task,
                "data": {"description": text},
                "annotations": [self.annotations[task]] if task in self.annotations else [],
                "predictions": [
                    {"model_version": version} for version, each in self.stored.items() if task in each
                ],
            }
            for task, text in enumerate(self.texts, start=1)
            if all(self._meets(task, each) for each in filters)
        ]
        return {"total": len(found), "tasks": found[: params["page_size"]]}

    def _meets(self, task: int, condition: dict[str, Any]) -> bool:
        value, operator = condition["value"], condition["operator"]
        match condition["filter"].removeprefix("filter:tasks:"):
            case "total_annotations":
                return bool((task in self.annotations) == (operator == "greater"))
            case "predictions_model_versions":
                has = any(
                    version.find(value[0]) >= 0 and task in each for version, each in self.stored.items()
                )
                return bool(has == (operator == "contains"))
            case "id":
                compared = {
                    "greater": task > value,
                    "greater_or_equal": task >= value,
                    "less_or_equal": task <= value,
                }
                return bool(compared[operator])
        raise AssertionError(condition)
