"""The config in a file, or in a trained model, as a plain tree."""

from collections.abc import Sequence
from pathlib import Path

from search.spec.exported import without_section
from search.spec.yaml_reader import override, read
from spaces.space import Tree
from vattn.trained.file import is_model, read_model


def config_tree(path: Path, sets: Sequence[str] = ()) -> Tree:
    """Return the config in a YAML file, or that of a trained model, with the overrides ``a.b=value`` applied.

    Raises UserError: there is no such file, or it is neither.
    """
    if not is_model(path):
        return without_section(read(path, sets))
    tree = read_model(path).config.tree()
    override(tree, sets)
    return tree
