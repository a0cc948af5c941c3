"""The model card of an exported model, README.md in its folder: what it is, how to use it, and its scores on test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside the scores.

    `backbone` is the id of the frozen model's weights. `is_charades` says whether it was trained on Charades, whose
    licence binds what is made of it; otherwise it was trained on the rendered demo. `trained_on` is a sentence.
    """

    model: str
    profile: str
    label_set: str
    backbone: str
    labels: Sequence[str]
    trained_on: str
    is_charades: bool


def model_card(facts: CardFacts, scores: Mapping[str, Any]) -> str:
    """The card as Markdown below YAML that model hubs read. `scores` is what scores.json holds.

    Each score stands in the `model-index` with protocol, split, value and 95% interval.
    """
    from huggingface_hub import EvalResult, ModelCardData

    is_charades = facts.is_charades
    protocol, _, meaning = scores["protocol"].partition(": ")
    measured = list(_measured(facts.model, scores))
    data_set = "Charades" if is_charades else "Rendered demo of the Video Diary Logger"
    data = ModelCardData(
        model_name=f"video-diary-{facts.profile}-{facts.label_set}-{facts.model}",
        library_name="video-diary-logger",
        pipeline_tag="video-classification",
        base_model=facts.backbone,
        tags=["v-jepa-2", "multi-label", "action-recognition", "temporal-action-detection"],
        eval_results=[
            EvalResult(
                task_type="video-classification",
                task_name="Multi-label action recognition",
                dataset_type="charades" if is_charades else "rendered-demo",
                dataset_name=data_set,
                dataset_config=facts.label_set,
                dataset_split="test",
                dataset_args={"of": of},
                metric_type=kind,
                metric_name=f"{name}, {of}",
                metric_value=own["value"],
                metric_config=protocol,
                metric_args=({} if own["low"] is None else {"interval_95": [own["low"], own["high"]]})
                | {"num_drawn": num_drawn},
            )
            for kind, name, of, own, num_drawn in measured
        ],
        license="other" if is_charades else "mit",
        license_name="charades-non-commercial" if is_charades else None,
        license_link=_CHARADES_LICENCE if is_charades else None,
    )
    return "\n".join(["---", data.to_yaml(), "---", *_text(facts, protocol, meaning, measured)]) + "\n"


def _measured(model: str, scores: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any], int]]:
    """Kind and name of each metric, what it is measured on, its value with bounds, and how many are drawn."""
    for key, (kind, name, of) in _METRICS.items():
        own = scores["intervals"][model].get(key)
        if own is not None and own["value"] is not None:
            yield kind, name, of, own, scores["num_drawn"][key]


def _text(
    facts: CardFacts,
    protocol: str,
    meaning: str,
    measured: Sequence[tuple[str, str, str, Mapping[str, Any], int]],
) -> Iterator[str]:
    yield f"# {facts.model} on `{facts.backbone}`: {len(facts.labels)} actions, several at once"
    yield ""
    yield (
        "Recognises everyday actions in video, and states them as events with start, end and probability. Heads on "
        f"V-JEPA 2 features, made by the Video Diary Logger (profile `{facts.profile}`, label set "
        f"`{facts.label_set}`). {facts.trained_on}"
    )
    yield from ("", "## Use", "", "With the Video Diary Logger installed:", "", "```python", _USE + "```", "")
    yield "The folder is whole: the backbone is in it, and nothing is fetched. No pickle is read."
    yield from ("", "## Scores", "", f"Protocol `{protocol}`: {meaning}.", "")
    yield "| Metric | On test | Value | 95% interval | Drawn |"
    yield "|---|---|--:|---|--:|"
    for _, name, of, own, num_drawn in measured:
        bounds = "–" if own["low"] is None else f"{own['low']:.3f} to {own['high']:.3f}"
        yield f"| {name} | {of} | {own['value']:.3f} | {bounds} | {num_drawn} |"
    yield ""
    yield "Drawn: how many people, or recordings of one person each, the interval is bootstrapped over."
    yield from ("", "## Labels", "", ", ".join(facts.labels) + ".", "", "## Licence", "")
    if facts.is_charades:
        yield (
            "The heads were trained on Charades, which is for non-commercial use and may not be passed on: use and "
            f"share them as [its licence]({_CHARADES_LICENCE}) allows. The backbone has a licence of its own."
        )
    else:
        yield "MIT. The model knows a drawn world alone: it shows how the folder works, and is of no use on real video."
