"""Why a trial was proposed, in words."""

import math
from collections.abc import Mapping
from typing import Any

from search.analysis.intervals import Z
from search.analysis.learning_curves import OFFSET
from search.report.why.parts import Proposal, Why
from search.report.why.phrases import LISTED, and_more, count_times, decimals
from search.report.wording.states import describe_state
from search.report.wording.values import format_probability, format_value


def describe_proposal(why: Why) -> list[str]:
    """Return the sentences of the paragraph: the reason, what was known, what was rejected."""
    if why.confirms is not None:
        return [
            f"to confirm trial {why.confirms}: the same training with a fresh seed, which no trial of the search has"
        ]
    if why.is_base:
        return [
            "as a base: the model of other trials without mechanisms, trained first so that they inherit its weights"
        ]
    assert why.proposal is not None
    proposal = why.proposal
    sentences = [_origin(proposal, why) + _knowledge(proposal)]
    if rejected := proposal.rejected_before:
        reasons = [f"{count} x {reason}" for reason, count in list(rejected.items())[:LISTED]]
        sentences.append(f"rejected just before it: {'; '.join(reasons)}{and_more(len(rejected), 'reasons')}")
    if proposal.num_duplicates:
        sentences.append(f"proposed again {count_times(proposal.num_duplicates)} later, and rejected as a duplicate")
    return sentences


def _knowledge(proposal: Proposal) -> str:
    """Return what the search knew when it proposed the trial."""
    known = [f"{count} {describe_state(state)}" for state, count in proposal.known_trials.items() if count]
    trials = f"; trials known by then: {', '.join(known)}" if known else ""
    searches = ", ".join(proposal.trusted_searches)
    return trials + (f"; trusted earlier searches: {searches}" if searches else "")


def _origin(proposal: Proposal, why: Why) -> str:
    """Return who chose the config and why; early versions have not written the reason to the ledger."""
    match proposal.reason:
        case None:
            return f"in a search by the {proposal.sampler} sampler"
        case {"plain": True}:
            return "as the plainest config of the space, a baseline"
        case {"start": place}:
            return f"from search.start of the spec, its config {place}"
        case {"chance": True}:
            return f"sampled at random: too many proposals by {proposal.sampler} were duplicates or over a limit"
        case {"earlier": {"source": source, "trial": trial}}:
            return f"from the front of an earlier search: {source}, trial {trial}"
        case reason:
            return f"by the {proposal.sampler} sampler" + (f": {_sampler_reason(reason, why)}" if reason else "")


def _sampler_reason(reason: Mapping[str, Any], why: Why) -> str:
    """Return a sampler's reason in words; a key that is not known here is followed by its value."""
    if reason.get("initial"):
        drawn = ", drawn from the prior" if reason.get("from_prior") else ""
        return f"initial design, part {reason['part']} of {reason['parts']} of the {reason['by']} range{drawn}"
    measured, words, spread = why.measured[0], [], reason.get("spread")
    for name, value in reason.items():
        match name:
            case "predicted_error":
                words.append(_prediction(measured, why.objectives[measured] == "max", value, spread))
            case "spread":  # a part of the interval of the predicted error
                pass
            case "probability_of_front":
                words.append(f"probability to be on the front {format_probability(value)}")
            case "expected_gain":
                words.append(f"expected hypervolume improvement {value:.3g}")
            case "pool":
                words.append(f"the best of {value:,} candidates")
            case "learnt_from":
                words.append(f"model fitted to {value} trials")
            case "prior":
                words.append(f"{math.exp(value):.2g} times as probable by the prior as without it")
            case "neglected":
                words.append(f"chosen among candidates with {value}, the option that had been tried least")
            case _:
                words.append(f"{name} {format_value(value)}")
    return ", ".join(words)


def _prediction(measured: str, is_rate: bool, error: float, spread: float | None) -> str:
    """Return a predicted error with its 95 % interval, such as "predicted error 11 % (8 to 15 %)".

    The error of a rate is 1 - rate; a loss is an error itself. ``spread`` is the standard deviation of the logarithm of
    the error, to which samplers add `OFFSET`.
    """
    factor, unit = (100, " %") if is_rate else (1, "")
    name = "error" if is_rate else measured
    if spread is None:
        return f"predicted {name} {factor * error:.3g}{unit}"
    low, high = (math.exp(math.log(error + OFFSET) + sign * Z * spread) - OFFSET for sign in (-1, 1))
    low, high = max(0.0, low), min(1.0, high) if is_rate else high
    # As many digits as the interval is wide.
    digits = decimals(factor * (high - low) / 2, 0)
    value, low_text, high_text = (f"{factor * end:.{digits}f}" for end in (error, low, high))
    return f"predicted {name} {value}{unit} ({low_text} to {high_text}{unit})"
