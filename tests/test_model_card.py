"""The model card of an exported folder: what hubs read of it, and what a person does with it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pipeline.model_card import CardFacts, model_card
from pipeline.model_folder import load_recogniser
from tests.model_folders import LABELS, make_model_folder
from tests.videos import evenly, write_video

FACTS = CardFacts(
    model="temporal",
    profile="charades",
    label_set="diary",
    backbone="facebook/vjepa2-vitl-fpc16-256-ssv2",
    labels=list(LABELS.values()),
    trained_on="It knows films of actors.",
    data_set="charades",
)
SCORES = {
    "protocol": "held_out: chosen on val, scores on test",
    "num_drawn": {"micro_f1": 10, "map": 10, "events.recordings.f1": 4},
    "intervals": {
        "temporal": {
            "micro_f1": {"value": 0.797399, "low": 0.766782, "high": 0.824526},
            "map": {"value": 0.720321, "low": None, "high": None},
            "events.recordings.f1": {"value": None, "low": None, "high": None},
        },
        "linear": {"micro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}},
    },
    "protocols": {
        "held_out": {"metric": "micro_f1", "split": "test", "n_subjects": 10, "models": {"temporal": {"value": 0.8}}},
        "charades_classify": {
            "metric": "map",
            "split": "test",
            "n_subjects": 10,
            "models": {"temporal": {"value": 0.25, "low": 0.2, "high": 0.3}, "prior": {"value": 0.1}},
        },
    },
}


def test_a_hub_reads_scores_with_protocol_split_and_interval() -> None:
    """The YAML is the library's own format; a score that is not known is no result, another model's neither."""
    data: Any = ModelCard(model_card(FACTS, SCORES)).data
    assert (data.library_name, data.pipeline_tag) == ("video-diary-logger", "video-classification")
    assert data.base_model == "facebook/vjepa2-vitl-fpc16-256-ssv2"
    first, second, official = data.eval_results
    assert (first.metric_name, first.metric_value, first.metric_config) == ("Micro-F1, windows", 0.797399, "held_out")
    assert (first.dataset_split, first.dataset_config, first.dataset_args) == ("test", "diary", {"of": "windows"})
    assert first.metric_args == {"interval_95": [0.766782, 0.824526], "num_drawn": 10}
    assert second.metric_args == {"num_drawn": 10}
    assert (official.metric_name, official.metric_value, official.metric_config) == (
        "mAP, videos",
        0.25,
        "charades_classify",
    )
    assert "| `held_out` | Micro-F1 | windows | 0.797 | 0.767 to 0.825 | 10 |" in model_card(FACTS, SCORES)


def test_the_licence_of_charades_goes_with_its_heads() -> None:
    """Heads trained on it carry its licence, in the YAML and in a sentence; those of the demo are MIT."""
    text = model_card(FACTS, SCORES)
    assert ModelCard(text).data.to_dict()["license_name"] == "charades-non-commercial"
    assert "may not be passed on" in text
    for facts, name in ((replace(FACTS, data_set="demo"), "mit"), (replace(FACTS, data_set="own"), "other")):
        own = model_card(facts, SCORES)
        assert ModelCard(own).data.to_dict()["license"] == name
        assert "Charades" not in own


def test_words_of_the_users_are_no_markup() -> None:
    """A label and a sentence stand in the card as they were written, whatever signs they hold."""
    facts = replace(FACTS, labels=["<b>Waving</b>", "a_b*c"], trained_on="It knows [me](https://example.org).")
    text = model_card(facts, SCORES)
    for escaped in ("\\<b>Waving", "a_b\\*c", "\\[me"):
        assert escaped in text


@pytest.mark.slow
def test_its_lines_load_the_folder_and_label_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code of the card, with the two paths filled in, prints what a diary of the video would tell.

    The card is no part of the sealed folder: edited, it still loads.
    """
    folder = make_model_folder(tmp_path, card=model_card(FACTS, SCORES))
    video = write_video(tmp_path / "film.mp4", evenly(36, 12), size=(64, 48))
    card = folder / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 5
    card.write_text("My own words.")
    exec(code.replace("PATH/OF/THIS/FOLDER", str(folder)).replace("holiday.mov", str(video)), {})
    printed = capsys.readouterr().out.splitlines()
    recogniser = load_recogniser(folder)
    events = recogniser.label_video(video)
    assert events
    assert [line.split(") ")[1] for line in printed] == [
        f"{recogniser.names[event.label]} {event.mean_probability:.2f}" for event in events
    ]
