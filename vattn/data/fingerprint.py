"""Fingerprints of data sets: whether two of them list the same clips, and whether their files have the same content."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from vattn.base import Config
from vattn.data.cache import read_index


class SplitPrint(Config):
    """One split: its number of clips, and hashes of 16 hexadecimal digits."""

    clips: int
    lists: str
    """of the path, class and frames of each clip"""
    content: str = ""
    """of the content of the files; empty where they were not read"""


def fingerprint(manifest: pa.Table, labels: Sequence[str], cache: Path | None = None) -> dict[str, SplitPrint]:
    """Return the fingerprint of each split, which does not depend on where the files are.

    Args:
        manifest: the clips, see `vattn.data.config.DataConfig.manifest`.
        labels: names of the classes.
        cache: the folder of the decoded clips, which has the hash of each file; None: contents are not compared.
    """
    rows: dict[str, list[str]] = {}
    absent = [None] * len(manifest)
    first, last = (
        manifest[name].to_pylist() if name in manifest.column_names else absent for name in ("first", "last")
    )
    columns = (manifest[name].to_pylist() for name in ("path", "label", "split"))
    for path, label, split, start, end in zip(*columns, first, last, strict=True):
        rows.setdefault(split, []).append(f"{path}\t{labels[label]}\t{start}\t{end}")
    contents: dict[str, list[str]] = {}
    if cache is not None:
        index = read_index(cache)
        names = ("path", "first", "last", "digest", "split")
        for *clip, split in zip(*(index[name].to_pylist() for name in names), strict=True):
            contents.setdefault(split, []).append("\t".join(map(str, clip)))
    return {
        split: SplitPrint(
            clips=len(lines), lists=_hash(lines), content=_hash(contents[split]) if split in contents else ""
        )
        for split, lines in sorted(rows.items())
    }


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogatepass")).hexdigest()[:16]
