"""What a warm start takes from an earlier search, and whether its accuracies are trusted, in words."""

from search.ledger.events import Guarded, WarmStarted

#: differences in data, sizes and training that are listed by name
_LISTED = 5


def describe_source(offer: WarmStarted) -> str:
    """Return how many finished trials of an earlier search can be used, why others cannot, and what differs."""
    usable, left_out = len(offer.trials), offer.left_out
    reasons = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
    more = " and more" if len(offer.differs) > _LISTED else ""
    differs = f"; settings that differ: {', '.join(offer.differs[:_LISTED])}{more}" if offer.differs else ""
    return (
        f"{offer.source}: {usable} of {usable + sum(left_out.values())} finished trials can be used{reasons}{differs}"
    )


def describe_decision(guard: Guarded) -> str:
    """Return the decision of a ``guard`` event: whether an earlier search is trusted from now on, and why."""
    if guard.trusted:
        return f"{guard.source}: its ranking agrees with this search ({_agreement(guard)}); its trials are used now"
    return (
        f"{guard.source}: its ranking no longer agrees with this search ({_agreement(guard)}); "
        "its trials are not used any more"
    )


def describe_trust(source: str, guard: Guarded | None) -> str:
    """Return whether an earlier search was trusted at the end, by its last ``guard`` event (None: there was none)."""
    if guard is None:
        return f"{source} is not trusted: too few trials to show that its ranking agrees with this search"
    return f"{source} is {'trusted' if guard.trusted else 'no longer trusted'}: {_agreement(guard)}"


def _agreement(guard: Guarded) -> str:
    return f"rank correlation at equal cost {guard.correlation:.2f}, over {guard.trials} finished trials"
