"""Base classes of all configs: frozen, complete, strict, and readable from the plain trees that YAML and JSON give."""

import hashlib
import json
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

#: Marks a field that did not exist when the first identities were made: ``Field(..., json_schema_extra=LATER)``. Its
#: default must give the results of the time before. `Config.identity_tree` leaves the default out.
LATER: dict[str, Any] = {"later": True}


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Frozen(type(BaseModel)):
    """Makes type checkers treat configs as frozen, and any `Field(...)` as a default value."""


class Config(BaseModel, metaclass=_Frozen):
    """A frozen config. Unknown keys and implicit conversions ("3" for 3) are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, tree: Any) -> Self:
        """Return the config of a tree of mappings, lists and scalars, as YAML gives it.

        Raises:
            pydantic.ValidationError: the tree breaks a rule of the config.
        """
        # Strict mode needs a tuple where YAML has a list. In JSON mode it accepts a list.
        return cls.model_validate_json(json.dumps(tree))

    def tree(self) -> dict[str, Any]:
        """Return the config as mappings, lists and scalars, with every default filled in; `parse` reads it back."""
        return self.model_dump(mode="json")

    def identity_tree(self) -> dict[str, Any]:
        """Return `tree` without the defaults of fields marked `LATER`: an identity does not change with a new field.

        A config of a family with `Kinded.is_word` whose options all have their defaults is the word of its kind.
        """
        return _identity_tree(self, self.tree())


def _identity_tree(value: Any, tree: Any) -> Any:
    if isinstance(value, Config):
        fields = {name: (field, getattr(value, name)) for name, field in type(value).model_fields.items()}
        if isinstance(value, Kinded) and value.is_word and all(v == field.default for field, v in fields.values()):
            return tree["kind"]
        return {
            name: _identity_tree(inner, tree[name])
            for name, (field, inner) in fields.items()
            if field.json_schema_extra != LATER or inner != field.default
        }
    if isinstance(value, tuple):
        return [_identity_tree(*pair) for pair in zip(value, tree, strict=True)]
    return tree


_C = TypeVar("_C", bound=Config)


#: Chooses between the tags word and config by the value's form, so that a message is about the intended one.
WORD_OR_CONFIG = Discriminator(lambda value: "word" if isinstance(value, str) else "config")

#: A config, or the word none.
NoneOr = Annotated[Annotated[Literal["none"], Tag("word")] | Annotated[_C, Tag("config")], WORD_OR_CONFIG]


class Kinded(Config):
    """A config selected by its ``kind``. A subclass registers its kind: ``class TAMConfig(ModuleConfig, kind="tam")``.

    A direct subclass of this class starts a family. The family's ``kinds`` maps each kind to its config class.
    """

    kinds: ClassVar[dict[str, type["Kinded"]]]
    #: In a file, the word of a kind stands for that kind with its defaults (`any_or_word`).
    is_word: ClassVar[bool] = False

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Kinded in cls.__bases__:
            cls.kinds = {}
        if kind is not None:
            assert kind not in cls.kinds, f"two config classes have the kind {kind!r}"
            cls.kinds[kind] = cls


def any_of(family: type[Kinded]) -> Any:
    """Return the union of all configs of a family, discriminated by ``kind``."""
    union = reduce(or_, family.kinds.values())
    return Annotated[union, Field(discriminator="kind")] if len(family.kinds) > 1 else union


def any_or_word(family: type[Kinded]) -> Any:
    """Return the type `any_of` that also takes the word of a kind whose options all have defaults."""
    words = tuple(kind for kind, config in family.kinds.items() if _has_defaults(config))
    named = AfterValidator(lambda word: family.kinds[word]())
    return Annotated[
        Annotated[Literal[words], named, Tag("word")] | Annotated[any_of(family), Tag("config")], WORD_OR_CONFIG
    ]


def _has_defaults(config: type[Config]) -> bool:
    return not any(field.is_required() for field in config.model_fields.values())


def identity(tree: Any) -> str:
    """Return the identity of a canonical tree: the first 16 hexadecimal digits of the SHA-256 of its sorted JSON."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
