"""The model card of a trained model, which is also the README.md of a repository of Hugging Face."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from search.analysis.intervals import Estimate, by_clips
from search.report.wording.values import format_estimate
from vattn.cost import costs_of
from vattn.data.config import DataConfig
from vattn.trained import TrainedModel

#: names of classes that are listed
_SHOWN = 200
#: metrics that are listed, in their order
_METRICS = ("top1", "top5", "mean_class", "loss")


def card(model: TrainedModel) -> str:
    """Return the card: what the model is, what it was measured to do, what it needs, and how it is used."""
    config, known = model.trained.config, model.file.provenance
    metrics, clips = _mapping(known.get("metrics")), _mapping(known.get("clips"))
    split, count = str(known.get("split", "val")), clips.get(str(known.get("split", "val")))
    count = count if isinstance(count, int) else None
    estimates = {
        name: by_clips(name, float(metrics[name]), count)
        for name in _METRICS
        if isinstance(metrics.get(name), int | float)
    }
    data, classes = config.data, len(model.labels)
    costs = costs_of(config.model, data.views, classes)
    attention = ", ".join(dict.fromkeys(module.kind for module in config.model.attention)) or "none"
    parts = [
        _front_matter(data.kind, split, estimates),
        f"# Video model: {config.model.backbone.kind} with attention: {attention}",
        f"It gives one of {classes} classes to a video. It was made with `vattn`, and stands on its own in one file.",
        "## Use",
        '```python\nimport vattn\n\nmodel = vattn.load("model.safetensors")\nprint(model("clip.mp4"))\n```',
        "## Evaluation",
        _evaluation(estimates, split, count, known),
        "## Input and cost",
        _table({
            "frames": f"{config.model.frames} ({data.sampling.kind}, {data.modality})",
            "crop": f"{data.views.crop(config.model.size)} pixels of frames with a shorter side of {data.store.size}",
            "views of a video": f"{data.views.clips} x {data.views.crops}",
            "parameters": f"{costs['params_m']:.4g} million",
            "GFLOPs": f"{costs['gflops']:.4g} a view, {costs['gflops_video']:.4g} a video",
        }),
        "## Training",
        _table(_training(model, known, clips)),
        "## Limits",
        "It knows only the classes below: any video gets one of them. It was measured on videos like those of its "
        "training; accuracy on others can be lower. Its probabilities are not calibrated.",
        "## Classes",
        _classes(model.labels),
        "## Config",
        f"```json\n{json.dumps(config.identity_tree(), indent=2)}\n```",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _front_matter(data: str, split: str, estimates: Mapping[str, Estimate]) -> str:
    """Return the metadata that Hugging Face reads."""
    tree: dict[str, Any] = {
        "library_name": "vattn", "pipeline_tag": "video-classification", "tags": ["video-classification", "vattn"],
    }  # fmt: skip
    if "top1" in estimates:
        result = {
            "task": {"type": "video-classification"}, "dataset": {"name": data, "type": data, "split": split},
            "metrics": [{"type": "accuracy", "name": "top-1", "value": round(estimates["top1"].value, 6)}],
        }  # fmt: skip
        tree["model-index"] = [{"name": "vattn", "results": [result]}]
    return f"---\n{yaml.safe_dump(tree, sort_keys=False).strip()}\n---"


def _evaluation(estimates: Mapping[str, Estimate], split: str, clips: int | None, known: Mapping[str, Any]) -> str:
    if not estimates:
        return "Nothing is recorded."
    rows = {name: format_estimate(name, estimate) for name, estimate in estimates.items()}
    of_epoch = f" after epoch {known['epoch']} of {known['epochs']}" if {"epoch", "epochs"} <= known.keys() else ""
    on = f" of {clips:,} clips" if clips else ""
    note = f"Measured on the {split} split{on}{of_epoch}; in brackets the 95 % interval by the number of clips."
    return f"{_table(rows)}\n\n{note}"


def _training(model: TrainedModel, known: Mapping[str, Any], clips: Mapping[str, Any]) -> dict[str, str]:
    rows = {"data": f"{_data_of(model.trained.config.data)}"}
    rows |= {f"{split} clips": f"{count:,}" for split, count in clips.items() if isinstance(count, int)}
    for name in ("seed", "ema", "weights"):
        if name in known:
            rows[name] = str(known[name])
    search = _mapping(known.get("search"))
    if search:
        rows["found by"] = f"trial {search.get('trial')} of the search {search.get('name')} ({search.get('id')})"
    started = _mapping(known.get("started_from"))
    rows |= {f"started from ({name})": json.dumps(value) for name, value in started.items()}
    rows |= {name: str(version) for name, version in _mapping(known.get("versions")).items()}
    return {name: _plain(value) for name, value in rows.items()}


def _data_of(data: DataConfig) -> str:
    return data.kind if data.split == 1 else f"{data.kind}, split {data.split}"


def _classes(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{_plain(label)}`" for label in labels[:_SHOWN])
    more = len(labels) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _plain(text: str) -> str:
    """Return a text of a file that may be a stranger's, without what Markdown gives a meaning."""
    return "".join(" " if c in "\r\n" else c for c in text if c not in "`|<>[]").strip()[:300]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
