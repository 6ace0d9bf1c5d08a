"""Which devices a job may use, by the driver, the variable and schedulers."""

import os

import pytest
from lock_holders import is_free

from cloudseg.runtime.gpus import visible
from cloudseg.runtime.gpus.lease import lease
from cloudseg.runtime.gpus.visible import visible_devices


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,0", ["1", "0"]),
        (" b , a", ["b", "a"]),
        ("MIG-GPU-1/0/0,MIG-2", ["MIG-GPU-1/0/0", "MIG-2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
    ],
)
def test_names_in_the_variable(monkeypatch, text, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_devices() == names


def test_a_name_with_slashes_is_locked_in_the_folder(folder):
    with lease(1, pool=["MIG-GPU-1/0/0"], folder=folder):
        assert not is_free(folder, "MIG-GPU-1%2F0%2F0")


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def make(script):
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}")

    return make


def test_a_device_has_one_lock_however_it_is_named(driver, folder, monkeypatch):
    driver()
    for text in ("2,3", "GPU-22,GPU-33", "GPU-2,3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        with lease(1, folder=folder) as devices:
            assert devices == ("GPU-22",)
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
            with lease(3, folder=folder) as others:
                assert others == ("GPU-00", "GPU-11", "GPU-33")
    assert {file.name for file in folder.glob("device-*")} == {f"device-GPU-{n}{n}" for n in range(4)}


def test_numbers_of_devices_that_differ_must_mean_one_thing(driver, monkeypatch):
    driver(models=("T400", "A6000", "A6000", "A6000"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError, match=r"=0 .*\(NVIDIA A6000, NVIDIA T400\).*CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible_devices()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert visible_devices() == ["GPU-00"]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert visible_devices() == ["GPU-11"]


def test_an_excluded_device_is_none(driver):
    driver(excluded=[1])
    assert visible_devices() == ["GPU-00", "GPU-22", "GPU-33"]


def test_a_sleeping_driver_is_asked_through_nvidia_smi(driver, nvidia_smi, monkeypatch):
    driver(uuids=["GPU-????????-????"] * 4)
    assert visible_devices() == ["0", "1", "2", "3"]
    nvidia_smi('[ "$1" = --query-gpu=uuid,name ] && for n in 0 1 2 3; do echo "GPU-$n$n, NVIDIA H100, 80GB"; done')
    assert visible_devices() == ["GPU-00", "GPU-11", "GPU-22", "GPU-33"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    assert visible_devices() == ["GPU-33", "7"]


def test_a_broken_driver_names_no_devices_and_says_why(nvidia_smi, folder, capsys):
    nvidia_smi("echo cannot communicate with the driver; exit 9")
    with lease(1, folder=folder) as devices:
        assert devices == ()
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    said = capsys.readouterr().out
    assert "exit status 9" in said and "cannot communicate with the driver" in said
    assert not folder.exists()


def test_no_devices(folder, monkeypatch):
    assert visible_devices() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    with lease(0, folder=folder) as devices:
        assert (devices, os.environ["CUDA_VISIBLE_DEVICES"]) == ((), "")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "a,b"
    assert not folder.exists()


def test_more_than_there_are(folder):
    expected = r"asks for 3 devices, and there are 2: a, b; lower `gpus`"
    with pytest.raises(ValueError, match=expected), lease(3, pool=["a", "b", "a"], folder=folder):
        pass
    with pytest.raises(ValueError, match="gpu: -1"), lease(-1):
        pass
    with pytest.raises(ValueError, match="jobs_per_device: 0"), lease(1, jobs_per_device=0):
        pass


@pytest.mark.parametrize("scheduler", visible.SCHEDULERS)
def test_what_a_scheduler_assigned_is_believed(driver, folder, monkeypatch, capsys, scheduler):
    driver()
    monkeypatch.setenv(scheduler, "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for _ in range(2):
        with lease(2, folder=folder) as devices:
            assert (devices, os.environ["CUDA_VISIBLE_DEVICES"]) == (("0", "1"), "0,1")
    assert not folder.exists()
    assert f"0, 1 assigned by {scheduler}=17\n" in capsys.readouterr().out
    with pytest.raises(ValueError, match="3 devices, and there are 2"), lease(3, folder=folder):
        pass


def test_slurm_without_the_variable(folder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lease(1, folder=folder) as devices:  # no devices were assigned
        assert devices == ()
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,3")
    with lease(1, folder=folder) as devices:
        assert devices == ("2", "3")
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not folder.exists()


def test_jobs_inside_a_wide_allocation_share_it(folder, monkeypatch):
    def inside(job):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    inside("17")
    with lease(1, folder=folder) as first:
        inside("17")
        with lease(1, folder=folder) as second:
            assert (first, second, os.environ["CUDA_VISIBLE_DEVICES"]) == (("0",), ("1",), "1")
            inside("18")  # another allocation: its numbers are of other devices
            with lease(1, folder=folder) as devices:
                assert devices == ("0",)
