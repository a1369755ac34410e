"""TPE: the tree-structured Parzen estimator."""

from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


class TPEConfig(SamplerConfig, kind="tpe"):
    """The tree-structured Parzen estimator as Optuna implements it, for one objective or several.

    The first 10 trials are random. Sources: James Bergstra, Rémi Bardenet, Yoshua Bengio and Balázs Kégl, "Algorithms
    for Hyper-Parameter Optimization", Advances in Neural Information Processing Systems (NIPS) 24, 2011; for several
    objectives Yoshihiko Ozaki, Yuki Tanigaki, Shuhei Watanabe and Masaki Onishi, "Multiobjective tree-structured Parzen
    estimator for computationally expensive optimization problems", Genetic and Evolutionary Computation Conference
    (GECCO), 2020.
    """

    kind: Literal["tpe"] = "tpe"

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from optuna.samplers import TPESampler

        class DeclaredParamsTPESampler(TPESampler):
            """TPE that reads only the params that a running trial has suggested.

            Optuna also stores the values it drew for ranges that the trial's choices made inactive, for the use of
            parallel workers. Trials of a search are asked one at a time, and a replayed study does not have these
            values.
            """

            @override
            def _get_params(self, trial: "FrozenTrial", study: "optuna.Study") -> dict[str, Any]:
                return trial.params

        # group: the ranges of a space are conditional. constant_liar: running trials count as bad ones, so that
        # parallel workers explore different regions.
        return DeclaredParamsTPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
