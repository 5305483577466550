"""Operations of a pass: by hand, and as torch counts them."""

import pytest
import vla_made

from policylens.errors import UserError
from policylens.policies.sites import DENOISED_TOKEN
from policylens.policies.vla.cost import PARTS, pass_flops, stages_of, vision_flops

REAL = {
    "kind": "pi05",
    "language": {"width": 2048, "hidden": 16384, "depth": 18, "head_dim": 256, "kv_heads": 1},
    "expert": {"width": 1024, "hidden": 4096, "depth": 18, "head_dim": 256, "kv_heads": 1},
    "vision": {"width": 1152, "depth": 27, "heads": 16, "hidden": 4304, "patch": 14, "image_size": 224},
    "prompt_tokens": 200,
    "chunk": 50,
    "denoising_steps": 10,
    "max_state": 32,
    "max_action": 32,
    "cameras": ["image", "wrist_image"],
}


def test_the_published_network_by_hand():
    """Written out from the widths: 712 positions of the language model, 50 of the expert."""
    patches = 2 * 256 * 3 * 14 * 14 * 1152
    tower = 27 * (4 * 2 * 256 * 1152 * 1152 + 2 * 2 * 256 * 256 * 1152 + 2 * 2 * 256 * 1152 * 4304)
    assert vision_flops(REAL) == patches + tower + 2 * 256 * 1152 * 2048
    queries_and_output, keys_and_values = 2 * 2 * 712 * 2048 * 2048, 2 * 2 * 712 * 2048 * 256
    attention, angles, feed_forward = 2 * 2 * 712 * 712 * 2048, (712 + 50) * 256, 3 * 2 * 712 * 2048 * 16384
    layer = queries_and_output + keys_and_values + attention + feed_forward
    assert pass_flops(REAL)["language"] == angles + 18 * layer
    assert pass_flops(REAL, "language_12")["language"] == angles + 13 * layer
    assert pass_flops(REAL, "language_12_ffn")["language"] == angles + 13 * layer - 2 * 712 * 2048 * 16384
    own = 2 * 2 * 50 * 1024 * 2048 + 2 * 2 * 50 * 1024 * 256 + 2 * 2 * 50 * 762 * 2048
    own += 3 * 2 * 50 * 1024 * 4096 + 2 * 6 * 1024 * 1024
    around = 3 * 2 * 50 * 32 * 1024 + 4 * 1024 * 1024 + 6 * 1024 * 1024
    assert pass_flops(REAL)["expert"] == 10 * (18 * own + around)


def test_a_site_that_is_not_there():
    with pytest.raises(UserError, match="no site 'language_99'"):
        pass_flops(REAL, "language_99")


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_every_stop_costs_what_torch_counts(kind):
    pytest.importorskip("lerobot", reason="needs the environment vla")
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    rows, policy = 2, vla_made.policy(kind)
    taken = vla_made.batch(rows)
    assert {stage.site for stage in stages_of(policy.architecture)} == {*policy.sites, ""}
    early = [
        (site.name, times) for site in policy.sites.values() if site.row_space == DENOISED_TOKEN for times in (1, 2)
    ]
    for stop, times in [*((site, None) for site in (*policy.sites, None)), *early]:
        # Attention in one kernel is not counted on every device, attention as two products is.
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
            policy.run(taken, stop_after=stop, times=times)
        found = pass_flops(policy.architecture, stop, times)
        assert set(found) == set(PARTS)
        assert rows * sum(found.values()) == counted.get_total_flops(), (stop, times)
