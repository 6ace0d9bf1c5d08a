import pytest
import torch

from cloudseg.runtime import devices


@pytest.fixture
def cuda(monkeypatch):
    def present(answer):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: answer)

    return present


@pytest.mark.parametrize(
    ("device", "gpus", "there", "expected", "said"),
    [
        ("auto", 1, True, "cuda:0", ""),
        ("auto", 1, False, "cpu", "torch sees no CUDA device: computing on the CPU\n"),
        ("auto", 0, True, "cpu", "no GPU was granted to this job: computing on the CPU\n"),
        ("cuda", 1, True, "cuda:0", ""),
        ("cpu", 1, True, "cpu", ""),
    ],
)
def test_devices(cuda, capsys, device, gpus, there, expected, said):
    cuda(there)
    assert devices.select_device(device, gpus) == torch.device(expected)
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(("gpus", "reason"), [(1, "torch sees no CUDA device"), (0, "no GPU was granted")])
def test_insisting_on_a_device_that_is_not_there(cuda, gpus, reason):
    cuda(gpus == 0)
    with pytest.raises(ValueError, match=rf"{reason}.*`--resources gpu=1`.*`device: auto`"):
        devices.select_device("cuda", gpus)


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_is_half_precision_on_a_gpu_that_has_no_bfloat16(monkeypatch, has, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert devices.compute_dtype("auto", torch.device("cuda")) == expected
    assert devices.compute_dtype("float32", torch.device("cuda")) == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),  # AMD since Zen 4
        ({"avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),  # Intel since Sapphire Rapids
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),  # emulates it
        ({"architecture": "aarch64"}, torch.float32),
    ],
)
def test_auto_is_bfloat16_on_a_processor_that_computes_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert devices.compute_dtype("auto", torch.device("cpu")) == expected
    assert devices.compute_dtype("float32", torch.device("cpu")) == torch.float32


def test_other_words():
    with pytest.raises(ValueError, match="expected auto, cuda or cpu, got 'gpu'"):
        devices.select_device("gpu", 1)


@pytest.mark.parametrize("name", ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE"])
def test_a_granted_gpu_that_cannot_be_used_is_an_error(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match=f"the cluster granted this job a GPU \\({name}=2\\)"):
        devices.select_device("auto", gpus=1)
    assert devices.select_device("cpu", gpus=1).type == "cpu"
    assert devices.select_device("auto", gpus=0).type == "cpu"


@pytest.fixture
def settings_of_torch():
    yield
    devices.set_determinism(1, torch.device("cpu"))


@pytest.mark.parametrize("deterministic", [True, False])
def test_algorithms_are_repeatable_or_the_fastest(settings_of_torch, deterministic):
    devices.set_determinism(1, torch.device("cuda"), deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.deterministic == deterministic
    assert torch.backends.cudnn.benchmark != deterministic


@pytest.mark.parametrize(("device", "within"), [("cuda", False), ("cpu", True)])
def test_without_gradients_cuda_resizes_natively_and_is_put_back(settings_of_torch, device, within):
    devices.set_determinism(1, torch.device(device))
    with pytest.raises(KeyError), devices.resizing_natively(torch.device(device)):
        assert torch.are_deterministic_algorithms_enabled() == within
        assert torch.backends.cudnn.deterministic
        raise KeyError
    assert torch.are_deterministic_algorithms_enabled()


def test_the_fastest_algorithms_stay_so_without_gradients(settings_of_torch):
    devices.set_determinism(1, torch.device("cuda"), deterministic=False)
    with devices.resizing_natively(torch.device("cuda")):
        pass
    assert not torch.are_deterministic_algorithms_enabled()
