"""The parts of samplers: the space as Optuna sees it, and the frontier sampler with its surrogate and acquisition."""
