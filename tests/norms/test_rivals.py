"""Norms against recorded runs of other people's modules, every number of every step."""

import json

import numpy
import pytest
import torch

from fairseq_powernorm import build_norm

RUNS = {"rms": "rmsnorm_torch"}


@pytest.mark.realdata
@pytest.mark.parametrize("name", RUNS)
def test_follows_the_recorded_run(name, real_data):
    stored = numpy.load(real_data / "rival_norms" / f"{RUNS[name]}.npz")
    recorded = {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype.kind == "f"}
    settings = json.loads(str(stored["settings"]))
    parameters = {key.removeprefix("param_"): value for key, value in recorded.items() if key.startswith("param_")}
    norm = build_norm(name, recorded["x0"].size(-1), dtype=torch.float64, **settings)
    norm.load_state_dict(parameters)
    for step in range(int(stored["steps"])):
        x = recorded[f"x{step}"].requires_grad_()
        norm.zero_grad()
        y = norm(x, recorded.get(f"pad{step}"))
        y.backward(recorded[f"dy{step}"])
        gradients = {f"d{key}": parameter.grad for key, parameter in norm.named_parameters()}
        for key, value in {"y": y, "dx": x.grad, **gradients}.items():
            torch.testing.assert_close(value, recorded[f"{key}{step}"], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(norm.eval()(recorded["x_eval"]), recorded["y_eval"], rtol=1e-12, atol=1e-14)


def test_rms_equals_torch():
    ours, theirs = build_norm("rms", 12, eps=1e-6), torch.nn.RMSNorm(12, eps=1e-6)
    torch.nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 3, 12)
    assert torch.equal(ours(x), theirs(x))
    with pytest.raises(ValueError, match="RMSNorm has no bias, got bias=True"):
        build_norm("rms", 12, bias=True)
