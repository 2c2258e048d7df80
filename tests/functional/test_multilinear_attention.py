"""Multi-linear attention against the public code's recorded runs, against loops, and what it may see."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from fairseq_powernorm.functional.multilinear_attention import (
    causal_scores,
    combine,
    reversed_sinusoids,
    third_order_scores,
)

RECORDED = ("pre_core1", "pre_core2", "pre_core1_memory", "post_core1", "post_core3")


@pytest.mark.realdata
@pytest.mark.parametrize("name", RECORDED)
def test_without_a_mask_it_is_the_public_code(real_data, name):
    """Outputs and all gradients that were recorded, but for the cores', which that module kept in float32."""
    file = np.load(real_data / "tensorized_attention" / f"{name}.npz")
    settings = json.loads(str(file["settings"]))
    recorded = {key: torch.from_numpy(file[key]).double() for key in file.files if file[key].dtype.kind == "f"}
    inputs = {key: value.requires_grad_() for key, value in recorded.items() if key.startswith(("w", "r_", "param"))}
    length, memory = settings["tgt_len"], settings["mem_len"]
    sinusoids = reversed_sinusoids(length + memory, settings["d_model"])
    torch.testing.assert_close(sinusoids, recorded["r"][:, 0], rtol=0, atol=1e-14)

    def norm(x):
        affine = (inputs["param_layer_norm_weight"], inputs["param_layer_norm_bias"])
        return layer_norm(x, x.shape[-1:], *affine, settings["eps"])

    hidden = torch.cat([recorded["mems"], inputs["w"]]) if memory else inputs["w"]
    hidden = norm(hidden) if settings["pre_lnorm"] else hidden
    q, k, v = (hidden @ inputs["param_qkv_net_weight"].T).chunk(3, dim=-1)
    p = sinusoids @ inputs["param_r_net_weight"].T
    biases = inputs["r_w_bias"][0], inputs["r_r_bias"][0]
    scores = third_order_scores(q[-length:], k, v, p, *biases, inputs["param_core_value"])
    y = inputs["w"] + combine(scores, inputs["param_o_net_weight"])
    y = y if settings["pre_lnorm"] else norm(y)
    torch.testing.assert_close(y, recorded["y"], rtol=0, atol=1e-12)
    y.backward(recorded["dy"])
    for key, value in inputs.items():
        gradient = recorded[f"d_{key.removeprefix('param_')}" if key != "w" else "dw"]
        rounded = 1e-6 if key == "param_core_value" else 1e-12
        torch.testing.assert_close(value.grad, gradient, rtol=rounded, atol=rounded)


def random_inputs(positions=5, batch=2, rank=3, cores=2, channels=4, longest=5):
    generator = torch.Generator().manual_seed(0)
    shapes = [*[(positions, batch, rank)] * 3, (positions, rank), (rank,), (rank,), (cores, rank)]
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return tensors, torch.randn(channels, longest**2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("longest", [5, 7])
def test_with_the_mask_it_is_a_loop_over_what_came_before(longest):
    (q, k, v, p, u, t, cores), weight = random_inputs(longest=longest)
    found = combine(causal_scores(q, k, v, p, u, t, cores), weight)
    expected = torch.zeros_like(found)
    core = cores.mean(0)
    for batch in range(q.size(1)):
        for i in range(5):
            for j in range(i + 1):
                for value in range(i + 1):
                    pair = (q[i, batch] + u) * k[j, batch] + (q[i, batch] + t) * p[j]
                    score = (core * pair * v[value, batch]).sum()
                    expected[i, batch] += score * weight[:, j * longest + value]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_the_mask_the_first_position_sees_the_last():
    """What the mask is for; and the test that a masked one passes can fail."""
    (q, k, v, *others), _ = random_inputs()
    other = v.clone()
    other[-1] += 1
    for scores, sees in ((third_order_scores, True), (causal_scores, False)):
        assert torch.equal(scores(q, k, v, *others)[:, 0], scores(q, k, other, *others)[:, 0]) is not sees


def test_gradients():
    tensors, weight = random_inputs(positions=3, rank=2, longest=3)
    inputs = [tensor.requires_grad_() for tensor in (*tensors, weight)]
    assert torch.autograd.gradcheck(lambda *args: combine(causal_scores(*args[:-1]), args[-1]), inputs)
