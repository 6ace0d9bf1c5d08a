"""The keys of a config that a running job reads by itself; they are no params, so a change of them reruns nothing."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cloudseg.config.fields import Bool, Model, Scalar


class JobConfig(Model):
    """The keys of a config that say how its jobs run, and nothing of what comes out: a job reads them by itself."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where networks run. `auto` takes a CUDA device when there is one and says so when there is none."""
    jobs_per_device: Annotated[int, Scalar(ge=1, le=64)] = 1
    """Jobs that may share one GPU; they spread over the GPUs first."""
    keep_state: Bool = True
    """Keep the state of a finished training (`training.state`, about four times the network), so that more epochs go on
    from it.
    """

    @property
    def placement(self) -> dict[str, Any]:
        """What decides the devices that a job leases, but for how many it was granted."""
        return {"device": self.device, "jobs_per_device": self.jobs_per_device}

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "JobConfig":
        """Return these keys of a config as Snakemake has it.

        Examples
        --------
        >>> JobConfig.of({"name": "demo", "device": "cpu", "keep_state": "false"})
        JobConfig(device='cpu', jobs_per_device=1, keep_state=False)
        """
        return cls(**{name: config[name] for name in JobConfig.model_fields if name in config})
