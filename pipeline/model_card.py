"""The model card of an exported model, README.md in its folder: what it is, how to use it, and its scores on test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.plain_yaml import written
from reports.diary.escaping import in_markdown

_CHARADES_LICENCE = "https://prior.allenai.org/projects/data/charades/license.txt"
_USE = """from pipeline.model_folder import load_recogniser

model = load_recogniser("PATH/OF/THIS/FOLDER")
for event in model.label_video("holiday.mov"):
    print(event.segment, model.names[event.label], f"{event.mean_probability:.2f}")
"""
_METRICS = {  # (type, name, what it is measured on)
    "events.recordings.f1": ("f1", "Event F1 at IoU 0.3", "recordings"),
    "events.videos.f1": ("f1", "Event F1 at IoU 0.3", "videos"),
    "micro_f1": ("f1", "Micro-F1", "windows"),
    "map": ("mAP", "mAP", "windows"),
}


_PROTOCOL_METRICS = {"micro_f1": ("f1", "Micro-F1"), "map": ("mAP", "mAP")}
_DATA_SETS = {"charades": "Charades", "demo": "Rendered demo of the Video Diary Logger", "own": "Own labelled videos"}

DataSet = Literal["charades", "demo", "own"]


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside the scores.

    `backbone` is the id of the frozen model's weights. `data_set` says what the heads were trained on: Charades has a
    licence that binds what is made of it. `trained_on` is a sentence.
    """

    model: str
    profile: str
    label_set: str
    backbone: str
    labels: Sequence[str]
    trained_on: str
    data_set: DataSet


class Measured(NamedTuple):
    """A score: `kind` is the hub's name of the metric, `num_drawn` how many the interval is bootstrapped over."""

    kind: str
    name: str
    of: str
    protocol: str
    split: str
    value: float
    low: float | None
    high: float | None
    num_drawn: int


def model_card(facts: CardFacts, scores: Mapping[str, Any]) -> str:
    """The card as Markdown below YAML that model hubs read. `scores` is what scores.json holds.

    Each score stands in the `model-index` with protocol, split, value and 95% interval.
    """
    measured = list(_measured(facts.model, scores))
    head: dict[str, Any] = {
        "library_name": "video-diary-logger",
        "pipeline_tag": "video-classification",
        "base_model": facts.backbone,
        "tags": ["v-jepa-2", "multi-label", "action-recognition", "temporal-action-detection"],
        "license": "mit" if facts.data_set == "demo" else "other",
    }
    if facts.data_set == "charades":
        head |= {"license_name": "charades-non-commercial", "license_link": _CHARADES_LICENCE}
    head["model-index"] = [
        {
            "name": f"video-diary-{facts.profile}-{facts.label_set}-{facts.model}",
            "results": [_result(facts, own) for own in measured],
        }
    ]
    return "\n".join(["---", f"{written(head)}---", *_text(facts, measured)]) + "\n"


def _result(facts: CardFacts, own: Measured) -> dict[str, Any]:
    interval = {} if own.low is None else {"interval_95": [own.low, own.high]}
    return {
        "task": {"type": "video-classification", "name": "Multi-label action recognition"},
        "dataset": {
            "type": {"charades": "charades", "demo": "rendered-demo", "own": "own"}[facts.data_set],
            "name": _DATA_SETS[facts.data_set],
            "config": facts.label_set,
            "split": own.split,
            "args": {"of": own.of},
        },
        "metrics": [
            {
                "type": own.kind,
                "name": f"{own.name}, {own.of}",
                "value": own.value,
                "config": own.protocol,
                "args": interval | {"num_drawn": own.num_drawn},
            }
        ],
    }


def _measured(model: str, scores: Mapping[str, Any]) -> Iterator[Measured]:
    """The model's scores with intervals, then those by other protocols."""
    protocol = scores["protocol"].partition(":")[0]
    for key, (kind, name, of) in _METRICS.items():
        own = scores["intervals"][model].get(key)
        if own is not None and own["value"] is not None:
            bounds = (own["value"], own["low"], own["high"])
            yield Measured(kind, name, of, protocol, "test", *bounds, scores["num_drawn"][key])
    for name, block in scores.get("protocols", {}).items():
        own = block["models"].get(model)
        if name != protocol and own is not None and own["value"] is not None:
            kind, metric = _PROTOCOL_METRICS[block["metric"]]
            bounds = (own["value"], own["low"], own["high"])
            yield Measured(kind, metric, "videos", name, block["split"], *bounds, block["n_subjects"])


def _text(facts: CardFacts, measured: Sequence[Measured]) -> Iterator[str]:
    yield f"# {facts.model} on `{facts.backbone}`: {len(facts.labels)} actions, several at once"
    yield ""
    yield (
        "Recognises everyday actions in video, and states them as events with start, end and probability. Heads on "
        f"V-JEPA 2 features, made by the Video Diary Logger (profile `{facts.profile}`, label set "
        f"`{facts.label_set}`). {in_markdown(facts.trained_on)}"
    )
    yield from ("", "## Use", "", "With the Video Diary Logger installed:", "", "```python", _USE + "```", "")
    yield "The folder is whole: the backbone is in it, and nothing is fetched. No pickle is read."
    yield from ("", "## Scores", "", f"On {_DATA_SETS[facts.data_set]}, split test.", "")
    yield "| Protocol | Metric | Of | Value | 95% interval | Drawn |"
    yield "|---|---|---|--:|---|--:|"
    for own in measured:
        bounds = "–" if own.low is None else f"{own.low:.3f} to {own.high:.3f}"
        yield f"| `{own.protocol}` | {own.name} | {own.of} | {own.value:.3f} | {bounds} | {own.num_drawn} |"
    yield ""
    yield "Drawn: how many people, or recordings of one person each, the interval is bootstrapped over."
    yield from ("", "## Labels", "", ", ".join(map(in_markdown, facts.labels)) + ".", "", "## Licence", "")
    if facts.data_set == "charades":
        yield (
            "The heads were trained on Charades, which is for non-commercial use and may not be passed on: use and "
            f"share them as [its licence]({_CHARADES_LICENCE}) allows. The backbone has a licence of its own."
        )
    elif facts.data_set == "own":
        yield "The heads were trained on videos of somebody's own: whoever shares them says here what others may do."
    else:
        yield "MIT. The model knows a drawn world alone: it shows how the folder works, and is of no use on real video."
