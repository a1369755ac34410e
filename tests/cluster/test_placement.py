"""Number of trainings that fit on a cluster; expected values are computed by hand."""

import pytest

from cluster.placement import Resources
from vattn.errors import UserError


def test_the_scarcest_resource_limits_the_number_of_trainings() -> None:
    cluster = {"CPU": 17.0, "GPU": 4.0}

    # 17 CPUs hold 4 trainings of 2 x 2 CPUs; 4 GPUs hold 2 trainings of 2 GPUs, or 4 of half a GPU for each worker.
    assert Resources(workers=2, cpus=2, gpus=0).concurrency(cluster) == 4
    assert Resources(workers=2, cpus=2, gpus=1).concurrency(cluster) == 2
    assert Resources(workers=2, cpus=2, gpus=0.5).concurrency(cluster) == 4


def test_a_cluster_too_small_for_one_training_raises_user_error() -> None:
    with pytest.raises(UserError) as error:
        Resources(workers=2, cpus=2, gpus=1).concurrency({"CPU": 2.0})

    assert str(error.value) == (
        "resources: one training takes 4 CPUs, 2 GPUs, more than the whole cluster has (2 CPUs, 0 GPUs); lower "
        "workers, cpus or gpus"
    )
