"""What the page says of each protocol."""

from __future__ import annotations

from reports.evaluation.protocols import protocol_table

BLOCK = {
    "sentence": "What it is.",
    "split": "test",
    "metric": "micro_f1",
    "n_labels": 80,
    "n_videos": 1000,
    "n_subjects": 53,
    "labels_without_positives": ["c001"],
}


def test_each_protocol_says_what_it_rests_on_and_shows_every_model() -> None:
    linear = {"value": 0.5, "low": 0.4, "high": 0.6, "threshold": 0.1, "chosen_on_val": 0.45}
    unknown = {"value": None, "low": None, "high": None}
    models, (first, second) = protocol_table(
        {
            "prototype": BLOCK | {"models": {"random": unknown, "linear": linear}},
            "videoglue_frozen": BLOCK
            | {"models": {"attentive": {"value": 0.7, "low": 0.6, "high": 0.8}}, "labels_without_positives": []},
        }
    )
    assert models == ["random", "linear", "attentive"]
    assert first.counts == "test: 1,000 videos of 53 people, 80 labels, 1 of them without positives"
    assert [(cell.text, cell.count) for cell in first.cells] == [
        ("–", "– to –"),
        ("0.500", "0.400 to 0.600; 0.450 chosen on validation"),
        ("–", ""),
    ]
    assert second.counts == "test: 1,000 videos of 53 people, 80 labels"
    assert [cell.text for cell in second.cells] == ["–", "–", "0.700"]
