"""The meter of a search: it measures the latency of networks on the device that the spec names."""

from collections.abc import Iterable

from search.ledger.events import Measured
from search.spec.schema import Spec
from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.errors import UserError


class Meter:
    """Measures networks in this process. A call returns the event that records the latency of a network.

    Args:
        spec: the search, with a section latency.
        known: earlier measurements of this search.

    Raises:
        UserError: this machine has no such device, or another one than the one that was measured on so far.
    """

    def __init__(self, spec: Spec, known: Iterable[Measured] = ()) -> None:
        from vattn.latency import device_name, device_of  # torch takes a second to import

        assert spec.latency != "none"
        self._spec, self._settings = spec, spec.latency
        self._device = device_of(self._settings.device, "latency.device", spec.file)
        #: name of the processor or the GPU
        self.name = device_name(self._device)
        if others := sorted({each.device for each in known} - {self.name}):
            raise UserError(
                f"is {self.name} on this machine, and the search was measured on {others[0]}", file=spec.file,
                path="latency.device", way_out="resume it there, or name another output", found=self._settings.device,
            )  # fmt: skip

    def __call__(self, model: ModelConfig) -> Measured:
        from vattn.latency import Subject, UnmeasurableError

        identity, settings = architecture_id(model), self._settings
        try:
            subject = Subject(model, self._spec.classes, self._device, settings.threads)
            timing = subject.measure("eager", settings.batch)
        except UnmeasurableError as error:
            return Measured(architecture=identity, latency_ms=0.0, device=self.name, error=str(error))
        return Measured(
            architecture=identity, latency_ms=round(timing.p50_ms, 4), p99_ms=round(timing.p99_ms, 4), device=self.name
        )
