"""Tables of the documentation that are generated from the config classes and from the command line."""

import argparse
import inspect
import json
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from search.cli import build_parser as command_line
from search.spec.schema import Spec
from vattn.base import Config, Kinded
from vattn.config import TrialConfig
from vattn.modules import ModuleConfig

#: Symbol of each bound that a number can have, by its name in annotated_types.
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


def config_classes() -> dict[str, type[Config]]:
    """Return every config class that a spec file is made of, by its key (see `config_key`)."""
    classes: dict[str, type[Config]] = {}
    for root in (Spec, TrialConfig):
        _collect(root, classes)
    return classes


def _collect(annotation: Any, classes: dict[str, type[Config]]) -> None:
    if inspect.isclass(annotation) and issubclass(annotation, Config):
        if config_key(annotation) not in classes:
            classes[config_key(annotation)] = annotation
            for field in annotation.model_fields.values():
                _collect(field.annotation, classes)
        return
    for part in get_args(annotation):
        _collect(part, classes)


def config_key(config: type[Config]) -> str:
    """Return the name of a config class; for a kind of a family, FAMILY-KIND."""
    families = [cls for cls in config.__mro__ if issubclass(cls, Kinded) and Kinded in cls.__bases__]
    if families and config in families[0].kinds.values():
        return f"{families[0].__name__}-{config.model_fields['kind'].default}"
    return config.__name__


def config_class(*key: str) -> type[Config]:
    """Return the config class of a name, or of a family and a kind; KeyError if there is none."""
    return config_classes()["-".join(key)]


def fields_table(config: type[Config]) -> str:
    """Return a Markdown table of the keys of a config: type with bounds, default, meaning."""
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{key}` | {value} | {default} | {meaning} |" for key, value, default, meaning in fields(config)]
    return "\n".join(lines)


def fields(config: type[Config]) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type with bounds, default and meaning of each field of a config, as Markdown."""
    for name, field in config.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        default = _default(field)
        if name == "kind":
            meaning, default = meaning or "chooses this one", "required"
        yield field.alias or name, value_type(field.annotation, field.metadata), default, meaning


def value_type(annotation: Any, metadata: Any = ()) -> str:
    """Return in words what values a field takes."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return value_type(parts[0], [*_flat(parts[1:]), *metadata])
    if origin is Literal:
        return ", ".join(f"`{_yaml(value)}`" for value in parts)
    if origin in (Union, types.UnionType):
        return _union(parts)
    if origin is tuple:
        return f"list of {value_type(parts[0])}{_bounds(metadata)}"
    if origin is dict:
        return f"mapping of {value_type(parts[0])} to {value_type(parts[1])}"
    if annotation is bool:
        return "`true`, `false`"
    if annotation in (int, float):
        return {int: "integer", float: "number"}[annotation] + _bounds(metadata)
    if annotation is str:
        return "text"
    if annotation is Any:
        return "anything"
    assert issubclass(annotation, Config), f"no words for {annotation}"
    return f"[{label(annotation)}](config:{config_key(annotation)})"


def _union(parts: tuple[Any, ...]) -> str:
    plain = [part for part in parts if part is not type(None)]
    configs = [part for part in plain if inspect.isclass(part) and issubclass(part, Config)]
    if len(configs) > 1 and len(configs) == len(plain):
        kinds = [part.model_fields["kind"].default for part in configs]
        return ", ".join(f"[`{kind}`](config:{config_key(part)})" for kind, part in zip(kinds, configs, strict=True))
    return " or ".join(value_type(part) for part in plain)


def _flat(metadata: Any) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _bounds(metadata: Any) -> str:
    found = [
        f"{sign} {getattr(item, name):g}" for item in metadata for name, sign in BOUNDS.items() if hasattr(item, name)
    ]
    return f" {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "not set"
    if isinstance(default, Config):
        return f"`{default.model_fields['kind'].default}`" if "kind" in type(default).model_fields else "its defaults"
    return f"`{_yaml(default)}`"


def _yaml(value: Any) -> str:
    text = json.dumps(value)
    return re.sub(r'"([A-Za-z0-9_.-]+)"', r"\1", text)


def label(config: type[Config]) -> str:
    """Return what the tables call a config class."""
    return config.__name__.removesuffix("Config").lower()


def facts_table(kind: str) -> str:
    """Return a Markdown table: where a mechanism can stand, how it starts, whether it sees the direction of time."""
    config = ModuleConfig.kinds[kind]()
    assert isinstance(config, ModuleConfig)
    places = ", ".join(f"`{place}`" for place in config.places)
    start = f"no: {config.no_identity}" if config.no_identity else "yes, with `init: identity`"
    direction = "no: it cannot tell a clip from its reverse" if config.reversal_equivariant else "yes"
    rows = {
        "position": f"default `{config.position}`; possible: {places}",
        "stages": f"default `{_yaml(config.stages)}`",
        "can start as the identity": start,
        "sees the direction of time (default options)": direction,
    }
    return "\n".join(
        ["| property | value |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows.items())]
    )


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield name and parser of each command."""
    for action in command_line()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def commands_text() -> str:
    """Return a Markdown section for each command: what it does, its usage, its arguments."""
    sections = []
    for name, parser in commands():
        lines = [f"## vattn {name}", "", f"{_sentence(parser.description or '')}", ""]
        lines += ["| argument | meaning |", "| --- | --- |"]
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                lines.append(f"| {_argument(action)} | {(action.help or '').replace('|', chr(92) + '|')} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _argument(action: argparse.Action) -> str:
    metavar = action.metavar if action.nargs != 0 else None
    shown = (
        " ".join(metavar)
        if isinstance(metavar, tuple)
        else metavar or ("" if action.nargs == 0 else action.dest.upper())
    )
    if not action.option_strings:
        return f"`{shown}`"
    text = f"`{action.option_strings[-1]}{' ' + shown if shown else ''}`"
    return f"{text} (required)" if action.required else text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
