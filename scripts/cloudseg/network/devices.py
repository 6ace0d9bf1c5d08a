"""Choose the device that a job computes on, and make what it computes repeatable."""

import os

import cv2
import torch

# Slurm puts one of these into the environment of a job that it gave a GPU; with its Snakemake plugin, not the first.
GRANTED = {"SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"}


def pick(device: str, gpus: int) -> torch.device:
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
    ValueError : if ``cuda`` is asked for and there is none, if a cluster granted a GPU that torch does not see (a run
        of days on the CPU would waste it quietly), or for any other word.

    Examples
    --------
    >>> pick("cpu", gpus=1)
    device(type='cpu')
    >>> pick("auto", gpus=0)
    no GPU was granted to this job: computing on the CPU
    device(type='cpu')
    """
    if device not in ("auto", "cuda", "cpu"):
        raise ValueError(f"device: {device!r} came, expected auto, cuda or cpu")
    if device == "cpu":
        return torch.device("cpu")
    if gpus > 0 and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if gpus > 0 and (granted := sorted(GRANTED & os.environ.keys())):
        raise ValueError(
            f"the cluster granted this job a GPU ({granted[0]}={os.environ[granted[0]]}), and torch sees none: check "
            "`nvidia-smi` and torch's CUDA build on that node, or say `--config device=cpu`"
        )
    reason = "torch sees no CUDA device" if gpus > 0 else "no GPU was granted to this job"
    if device == "cuda":
        raise ValueError(
            f"device: cuda, but {reason}; allow GPUs (`--resources gpu=1`) and check `nvidia-smi`, "
            "or set `device: auto` or `device: cpu`"
        )
    print(f"{reason}: computing on the CPU")
    return torch.device("cpu")


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the CPU's allocator, had no more memory to give.

    Examples
    --------
    >>> ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")), ran_out_of_memory(ValueError("batch"))
    (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch has a class for devices alone; these are the words of its CPU allocator, and of oneDNN's
    words = "can't allocate memory", "could not create a memory", "std::bad_alloc"
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def settle(threads: int, device: torch.device) -> None:
    """Make torch compute the same bits in every run of this process's program on this kind of machine.

    Parameters
    ----------
    threads : numerical threads; one and two add floats in different orders and give different bits.
    device : on CUDA an operation without a deterministic form only warns.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)  # OpenCV's threads would come on top
    # Gradients below 1e-38 are worth nothing and cost up to ten times the CPU time.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # a search aid, not free
    torch.backends.cudnn.benchmark = False
    # cuBLAS asks for this; it is read when the first matrix is multiplied
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def precision_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that a network computes in; losses and probabilities are float32 whatever this is.

    Parameters
    ----------
    precision : ``float32``, ``bf16``, ``fp16``, or ``auto``: bfloat16 on CUDA devices that have it, else
        float32.
    device : where the network is.

    Examples
    --------
    >>> precision_type("auto", torch.device("cpu"))
    torch.float32
    """
    if precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
