"""What a user expects of a search: a prior over its space, and configs that are tried first; what is wrong in them."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from search.spec.messages import problems
from search.spec.schema import Spec
from spaces.space import Problem, SpaceError
from vattn.config import TrialConfig


def expectation_problems(spec: Spec) -> Iterator[Problem]:
    """Yield the problems of ``search.prior`` and ``search.start``, apart from limits of cost (`over_limits`)."""
    sampler = spec.search.sampler
    if spec.search.prior and not sampler.uses_prior:
        rule = f"sampler {sampler.kind} does not use it; write sampler: {{kind: frontier}}, or leave it out"
        yield Problem(("search", "prior"), rule)
    try:
        _ = spec.prior
    except SpaceError as error:
        yield from error.problems
    for place in range(len(spec.search.start)):
        try:
            tree = spec.space.replay(spec.start(place))
        except SpaceError as error:
            yield from error.problems
            continue
        try:
            spec.trial_config(tree)
        except ValidationError as error:
            for problem in problems(error, TrialConfig, tree):
                yield Problem(("search", "start", place), f"gives no valid config: {problem}")


def over_limits(spec: Spec) -> Iterator[Problem]:
    """Yield a problem for each config of ``search.start`` that breaks a limit of cost."""
    for place in range(len(spec.search.start)):
        config: Any = spec.trial_config(spec.space.replay(spec.start(place)))
        if broken := spec.broken_limits(spec.cost(config)):
            rule = f"is over a limit: {'; '.join(broken)}; change its values, or the limit"
            yield Problem(("search", "start", place), rule)
