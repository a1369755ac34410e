"""A space that several tests use."""

ATTENTION = {
    "choice": [
        [],
        [{"kind": "tsm", "stages": {"subset": [2, 3, 4, 5]}}],
        [
            {
                "kind": "tam", "alpha": {"choice": [1, 2, 4]}, "beta": {"choice": [2, 4, 8]},
                "kernel_size": {"choice": [3, 5]}, "stages": {"subset": [2, 3, 4, 5]}, "every": 1,
            }
        ],
    ]
}  # fmt: skip
MODEL = {"model": {"frames": {"choice": [4, 8]}, "size": 48, "attention": ATTENTION}}
