"""The numbers of a search for Prometheus, published through Ray's metrics at each node's metrics port."""

from collections.abc import Mapping
from typing import Any

#: by name: what it is, and the label that divides it ("" for none). Ray puts "ray_" before each name.
METRICS = {
    "vattn_trials": ("trials of the search", "state"),
    "vattn_hypervolume": ("hypervolume of the finished trials", ""),
    "vattn_utilisation": ("share of the cluster's GPUs, or CPUs, that running trials reserve", ""),
    "vattn_waiting_seconds": ("seconds without progress until now", "why"),
    "vattn_decisions": ("decisions of the search since it began", "kind"),
    "vattn_out_of_memory": ("trainings that lacked GPU memory and were tried in another way", ""),
    "vattn_faults_survived": ("failures after which a training or the search went on", "cause"),
}

#: values of a metric by its label; the label is "" where there is none
Values = Mapping[str, Mapping[str, float]]


class Gauges:
    """The metrics of a search in this process. Labels that are not given any more become 0."""

    def __init__(self, search: str) -> None:
        from ray.util.metrics import Gauge

        self._search = search
        self._seen: dict[str, set[str]] = {name: set() for name in METRICS}
        self._gauges: dict[str, Any] = {
            name: Gauge(name, description, ("search", label) if label else ("search",))
            for name, (description, label) in METRICS.items()
        }

    def publish(self, values: Values) -> None:
        """Set the metrics; names are those of `METRICS`."""
        for name, by_label in values.items():
            label = METRICS[name][1]
            self._seen[name] |= by_label.keys()
            for key in self._seen[name]:
                tags = {"search": self._search} | ({label: key} if label else {})
                self._gauges[name].set(by_label.get(key, 0.0), tags)
