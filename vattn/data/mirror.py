"""Which classes a horizontal flip exchanges: by the words in their names, and by a user's file of pairs.

A flip exchanges left and right, and clockwise and counter-clockwise. It does not change up and down, in and out, or
forward and backward.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from vattn.errors import UserError

_NO_LETTER_BEFORE, _NO_LETTER_AFTER = r"(?<![^\W\d_])", r"(?![^\W\d_])"
#: The boundary between two words of a name such as SwipeLeft or LEFTTurn.
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: Words that name a side. Inside other words (bright, cleft) the syllables have other meanings.
_SIDE = re.compile(
    rf"{_NO_LETTER_BEFORE}(left|right)(wards?|most|hand|handed|hander|side|sided|footed)?{_NO_LETTER_AFTER}"
)
#: Words that name a direction of turning; the group is there for counter-clockwise.
_TURN = re.compile(
    rf"{_NO_LETTER_BEFORE}(?:(counter|anti|contra)[\W_]*)?clock[\W_]*wise{_NO_LETTER_AFTER}"
    rf"|{_NO_LETTER_BEFORE}(?:(ccw|acw)|cw){_NO_LETTER_AFTER}"
)
#: The same without boundaries, for names that write words together; used only if the opposite is a class too.
_INNER_SIDE = re.compile(r"left|right")
_INNER_TURN = re.compile(r"(counter|anti|contra)?clockwise")
#: Abbreviations of a side, such as arm_L and RH; used only if the opposite is a class too.
_LETTER = re.compile(rf"{_NO_LETTER_BEFORE}(l|r)(h|hs|t)?{_NO_LETTER_AFTER}")

# Capitals, because the rest of a name is written in small letters.
_OPPOSITE = {"LEFT": "RIGHT", "RIGHT": "LEFT", "TURN": "COUNTERTURN", "COUNTERTURN": "TURN"}
_MARK = re.compile("COUNTERTURN|TURN|LEFT|RIGHT")


def mirror_labels(names: Sequence[str]) -> list[int]:
    """Return the label of each class's mirror image; -1 if there is no such class.

    A name without a side or a direction of turning is its own mirror image. The opposite of a name may be spelled in
    another way: TurnClockwise and turn_ccw are opposites.
    """
    marked = [_marked(name) for name in names]
    by_form = [_labels_by(form, marked) for form in (str, _loose, _looser)]
    opposites = [_opposite(text, label, by_form) for label, text in enumerate(marked)]
    # Exchanges are mutual: a class is not mirrored if its opposite is ambiguous.
    return [
        opposite if opposite >= 0 and opposites[opposite] == label else -1 for label, opposite in enumerate(opposites)
    ]


def read_pairs(file: Path, names: Sequence[str]) -> dict[int, int]:
    """Return the label of the mirror image of each class that a file names; -1 for a class that is never mirrored.

    Each line has two classes, separated by a tab or else by a comma: their names, or their labels. A class beside
    itself does not change under a flip, a class beside the word none is never flipped.

    Raises:
        UserError: the file cannot be read, names an unknown class, or names a class twice.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _error(
            f"{file}: cannot be read as text ({error})", "name a file of pairs of classes, one pair a line"
        ) from None
    labels = {name.strip(): label for label, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{file.name}:{number}"
        try:
            fields = [field.strip() for field in (line.split("\t") if "\t" in line else next(csv.reader([line])))]
        except csv.Error as error:
            raise _error(f"{place}: must be two classes, separated by a tab or a comma ({error})") from None
        if len(fields) != 2:
            raise _error(f"{place}: must be two classes, separated by a tab or a comma", found=line.strip())
        first = _label(fields[0], labels, place)
        second = -1 if fields[1] == "none" and "none" not in labels else _label(fields[1], labels, place)
        for label, opposite in dict.fromkeys([(first, second), (second, first)]):
            if label >= 0 and pairs.setdefault(label, opposite) != opposite:
                raise _error(f"{place}: {names[label]} has another opposite above", "name each class once")
    return pairs


def _label(text: str, labels: dict[str, int], place: str) -> int:
    if text in labels:
        return labels[text]
    number = re.fullmatch(r"0*([0-9]{1,9})", text)
    if number and int(number[1]) < len(labels):
        return int(number[1])
    close = get_close_matches(text, labels, 1)
    raise _error(f"{place}: names no class", f"did you mean {close[0]}?" if close else "", text)


def _error(rule: str, way_out: str = "", found: str = "") -> UserError:
    return UserError(rule, path="data.augment.mirror", way_out=way_out, found=found)


def _marked(name: str) -> str:
    """Return a name in small letters, with marks in capitals for the sides and the directions of turning."""
    text = _CAMEL.sub(" ", name).lower()
    text = _TURN.sub(lambda match: "COUNTERTURN" if match[1] or match[2] else "TURN", text)
    return _SIDE.sub(lambda match: match[1].upper() + (match[2] or ""), text)


def _loose(marked: str) -> str:
    return " ".join(re.split(r"[\W_]+", marked)).strip()


def _looser(marked: str) -> str:
    return re.sub(r"(LEFT|RIGHT)wards?", r"\1", _loose(marked))


def _labels_by(form: Callable[[str], str], marked: Sequence[str]) -> dict[str, list[int]]:
    labels: dict[str, list[int]] = defaultdict(list)
    for label, text in enumerate(marked):
        labels[form(text)].append(label)
    return labels


def _opposite(marked: str, label: int, by_form: Sequence[dict[str, list[int]]]) -> int:
    """Return the label of the opposite of a class; -1 if there is none, or if several classes could be it."""
    exchanged = _MARK.sub(lambda match: _OPPOSITE[match[0]], marked)
    for inner in _inner_opposites(exchanged):
        if labels := by_form[0].get(inner):
            return labels[0]
    if exchanged == marked:
        return label
    for form, labels_of in zip((str, _loose, _looser), by_form, strict=True):
        if labels := labels_of.get(form(exchanged)):
            return labels[0] if len(labels) == 1 else -1
    return -1


def _inner_opposites(text: str) -> list[str]:
    """Return what the opposite can be if words such as swipeleft are written together; empty if none is."""
    swapped = _INNER_SIDE.sub(lambda match: "right" if match[0] == "left" else "left", text)
    texts = [swapped]
    if _INNER_TURN.search(text):
        texts = [
            _INNER_TURN.sub(lambda match, prefix=prefix: "clockwise" if match[1] else f"{prefix}clockwise", swapped)
            for prefix in ("counter", "anti", "contra")
        ]
    letters = _LETTER.sub(lambda match: ("r" if match[1] == "l" else "l") + (match[2] or ""), text)
    return [other for other in (*texts, letters) if other != text]
