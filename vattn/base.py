"""The base of every recipe: frozen, complete, strict, and read from JSON-like trees."""

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform

from pydantic import BaseModel, ConfigDict, Discriminator, Tag


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Frozen(type(BaseModel)):
    """Tells type checkers what the configuration below does; any `Field(...)` counts as a default for them."""


class Config(BaseModel, metaclass=_Frozen):
    """A frozen recipe. Unknown keys and implicit conversions ("3" for 3) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, tree: Any) -> Self:
        """Build from plain mappings, lists and scalars, as YAML gives them; raises pydantic's ValidationError."""
        # Strict mode wants a tuple where YAML has a list; in JSON mode a list is what it expects.
        return cls.model_validate_json(json.dumps(tree))

    def tree(self) -> dict[str, Any]:
        """Return plain mappings, lists and scalars, with every default filled in; `parse` reads it back."""
        return self.model_dump(mode="json")


_C = TypeVar("_C", bound=Config)


def _form(value: Any) -> str:
    return "none" if isinstance(value, str) else "config"


#: A recipe, or the word none. Told apart by form, so that a fault is told of the one that was meant.
NoneOr = Annotated[Annotated[Literal["none"], Tag("none")] | Annotated[_C, Tag("config")], Discriminator(_form)]


class Kinded(Config):
    """A recipe chosen by its ``kind``, which each subclass names: ``class TAMConfig(ModuleConfig, kind="tam")``."""

    kinds: ClassVar[dict[str, type["Kinded"]]]

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Kinded in cls.__bases__:
            cls.kinds = {}
        if kind is not None:
            assert kind not in cls.kinds, f"two recipes are of kind {kind!r}"
            cls.kinds[kind] = cls


def identity(tree: Any) -> str:
    """Return the identity of a canonical tree: 16 hexadecimal digits of its SHA-256."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
