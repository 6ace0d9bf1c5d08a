"""Choose the device that a job computes on, and make what it computes repeatable."""

import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator

import cv2
import torch

from cloudseg.errors import ConfigError, DeviceError

# Slurm sets at least one of these in a job with a GPU; in jobs of its Snakemake plugin the first is missing.
GRANTED = {"SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"}


def select_device(device: str, gpus: int) -> torch.device:
    """Return the device for a job.

    Parameters
    ----------
    device : ``auto`` takes a CUDA device when the job was granted one and torch sees it, else the CPU, and
        says so in one line; ``cuda`` insists; ``cpu`` never looks.
    gpus : GPUs that the scheduler granted to this job; 0 means a run on the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    DeviceError : if ``cuda`` is asked for and there is none, or if a cluster granted a GPU that torch does not see (a
        run of days on the CPU would waste it quietly).
    ConfigError : for any other word.

    Examples
    --------
    >>> select_device("cpu", gpus=1)
    device(type='cpu')
    >>> select_device("auto", gpus=0)
    no GPU was granted to this job: computing on the CPU
    device(type='cpu')
    """
    if device not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"device: expected auto, cuda or cpu, got {device!r}")
    if device == "cpu":
        return torch.device("cpu")
    if gpus > 0 and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if gpus > 0 and (granted := sorted(GRANTED & os.environ.keys())):
        raise DeviceError(
            f"the cluster granted this job a GPU ({granted[0]}={os.environ[granted[0]]}), and torch sees none: check "
            "`nvidia-smi` and torch's CUDA build on that node, or say `--config device=cpu`"
        )
    reason = "torch sees no CUDA device" if gpus > 0 else "no GPU was granted to this job"
    if device == "cuda":
        raise DeviceError(
            f"device: cuda, but {reason}; allow GPUs (`--resources gpu=1`) and check `nvidia-smi`, "
            "or set `device: auto` or `device: cpu`"
        )
    print(f"{reason}: computing on the CPU")
    return torch.device("cpu")


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, means that the memory of a device or of the CPU was not enough.

    Examples
    --------
    >>> ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")), ran_out_of_memory(ValueError("batch"))
    (True, False)
    """
    # torch has a class only for its own CUDA allocator. These are from messages of CUDA and its libraries, of the CPU's
    # allocator, of oneDNN and of C++.
    words = "out of memory", "ALLOC_FAILED", "can't allocate memory", "could not create a", "std::bad_alloc"
    while error is not None:
        matches = isinstance(error, RuntimeError) and any(each in str(error) for each in words)
        if matches or isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def set_determinism(threads: int, device: torch.device, deterministic: bool = True) -> None:
    """Make torch deterministic: the same bits in every run of a program on the same kind of machine.

    Parameters
    ----------
    threads : numerical threads; one and two add floats in different orders and give different bits.
    device : on CUDA an operation without a deterministic form only warns.
    deterministic : False lets torch and cuDNN choose what is fastest.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)  # OpenCV would add threads of its own
    # Denormal gradients (below 1e-38) are worth nothing and cost up to ten times the CPU time.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # only for debugging, and slow
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    # Determinism in cuBLAS needs this variable, which it reads at the first matrix product
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def is_deterministic(wanted: bool | None, device: torch.device) -> bool:
    """Return whether a recipe's ``deterministic`` asks for the same bits in each run; None does on a CPU.

    Examples
    --------
    >>> [is_deterministic(wanted, torch.device("cuda")) for wanted in (None, True, False)]
    [False, True, False]
    """
    return device.type == "cpu" if wanted is None else wanted


@contextlib.contextmanager
def resizing_natively(device: torch.device) -> Iterator[None]:
    """Let a block without gradients resize by CUDA's own kernels.

    Only their gradients have no deterministic form, and where algorithms are to be deterministic torch replaces the
    resizing itself by a slow one. What cuDNN computes stays deterministic.
    """
    if device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        yield
        return
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that a network computes in; losses and probabilities are float32 whatever this is.

    Parameters
    ----------
    precision : ``float32``, ``bf16``, ``fp16``, or ``auto``: bfloat16 where the device computes in it, else float16 on
        CUDA and float32 on the CPU.
    device : where the network is.

    Examples
    --------
    >>> compute_dtype("bf16", torch.device("cpu"))
    torch.bfloat16
    """
    if precision == "auto" and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "auto":
        precision = "bf16" if device.type == "cpu" and cpu_computes_bf16() else "float32"
    return {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def cpu_computes_bf16() -> bool:
    """Return whether this processor multiplies in bfloat16: with AMX or AVX512_BF16, as servers' have since 2022.

    Others emulate it, slower than float32. The answer is the same on all processors of one kind.
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


class BusyClock:
    """Counts the seconds in which a device has work.

    On CUDA between events in its own queue, so that the host does not wait; on the CPU by the clock.

    Parameters
    ----------
    device : to watch.

    Examples
    --------
    >>> clock = BusyClock(torch.device("cpu"))
    >>> with clock.working():
    ...     time.sleep(0.01)
    >>> clock.seconds() >= 0.01
    True
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._seconds = device, 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count the work that the block gives to the device."""
        if self._device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            stop.record()
            self._events.append((start, stop))
        else:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started

    def seconds(self) -> float:
        """Return the seconds so far; waits for the device."""
        if self._events:
            torch.cuda.synchronize(self._device)
            self._seconds += sum(start.elapsed_time(stop) for start, stop in self._events) / 1e3
            self._events.clear()
        return self._seconds


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: allocated on a CUDA device, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    units = 1 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes there, KiB on Linux
    return units * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor, as its driver or the platform gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def instructions(device: torch.device) -> str:
    """Return the property of a device that decides last bits: the model of a GPU, the instruction set of a CPU.

    Examples
    --------
    >>> instructions(torch.device("cpu")) == torch.backends.cpu.get_cpu_capability()
    True
    """
    return name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
