"""Class-balanced sampling: which clips an epoch has, and how often."""

import numpy as np
from jaxtyping import Int64


def training_order(
    labels: Int64[np.ndarray, " clips"], balance: float, rng: np.random.Generator
) -> Int64[np.ndarray, " clips"]:
    """Return the clips of an epoch in random order, as many as there are.

    A class with n clips gets a share in proportion to n ** (1 - ``balance``), evenly divided among its clips. A clip
    whose part of it is 2.3 times its part of the data comes twice or three times, three times with probability 0.3:
    systematic resampling of Kitagawa, "Monte Carlo Filter and Smoother for Non-Gaussian Nonlinear State Space Models",
    Journal of Computational and Graphical Statistics 5(1), 1996. With ``balance`` 0 each clip comes once.

    The number of a clip that comes again is raised by the number of clips, once for each time it came before.
    """
    clips = len(labels)
    order = rng.permutation(clips)
    if not balance:
        return order
    # By class, the expected number of times of each of its clips, up to a common factor.
    expected = np.bincount(labels).astype(np.float64).clip(min=1) ** -balance
    ends = np.cumsum(expected[labels[order]])
    ends *= clips / ends[-1]
    times = np.diff(np.floor(ends + rng.random()).clip(max=clips), prepend=0).astype(np.int64)
    drawn, repeats = np.repeat(order, times), np.concatenate([np.arange(n) for n in times])
    return rng.permutation(drawn + clips * repeats)
