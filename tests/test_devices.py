"""Devices as programs take them, and TF32 in config, process and provenance."""

import pytest
import torch
from support import refused

from policylens.devices import device, named_device, uses_tf32
from policylens.project.compute import compute_settings
from policylens.stores.provenance import provenance


@pytest.fixture(autouse=True)
def restored():
    """The process as it was."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("text", "name", "tf32"), [("cuda", "cuda", False), ("cuda:3+tf32", "cuda:3", True)])
def test_a_gpu_says_how_products_are_made(text, name, tf32):
    for before in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before
        assert device(text) == name
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
        assert uses_tf32() == tf32
        assert provenance(settings={}).get("float32_products") == ("tf32" if tf32 else None)


@pytest.mark.parametrize("text", ["cpu", "mps"])
def test_elsewhere_torch_stays_as_it_is(text):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert device(text) == text
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("text", ["cpu+tf32", "gpu", "cuda+fp8", "cuda:", ""])
def test_other_devices_are_one_line(text):
    with refused(f"--device {text}: a device is cpu, mps, cuda"):
        device(text)


def test_the_config_s_setting_reaches_programs():
    assert compute_settings({}, "my.yaml") == {"device": "cpu", "batch_rows": 4096}
    found = compute_settings({"device": "cuda:1", "tf32": True, "batch_rows": 16}, "my.yaml")
    assert found == {"device": "cuda:1+tf32", "batch_rows": 16}
    assert named_device("cuda", tf32=False) == "cuda"
    for name in ("cpu", "mps"):
        with refused(f"my.yaml: compute.tf32: only devices called cuda have TF32, and the device is {name}"):
            compute_settings({"device": name, "tf32": True}, "my.yaml")
