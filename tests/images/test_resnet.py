"""ResNet20 against torch's own BatchNorm2d, and its shape against the paper's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairseq_powernorm.images.resnet import Block, ResNet20
from fairseq_powernorm.norms.token_norm import TokenNorm


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def with_torch_norms(model):
    """Every norm in the model replaced by torch's with the same parameters and settings."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, TokenNorm):
                torch_norm = nn.BatchNorm2d(child.channels)
                torch_norm.load_state_dict(child.state_dict(), strict=False)
                setattr(module, name, torch_norm)
    return model


def test_its_size_is_the_paper_s():
    assert parameters(ResNet20("batch")) == 269_722
    assert parameters(ResNet20("none")) == 269_722 - 2 * (7 * 16 + 6 * 32 + 6 * 64)
    model, shapes = ResNet20("batch"), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) + 1 == 20  # and the linear


def test_batch_is_torch_s_batch_norm_over_images():
    """Outputs and gradients in training, and the running statistics but for torch's unbiased variance."""
    torch.manual_seed(0)
    ours = ResNet20("batch").double()
    torch.manual_seed(0)
    theirs = with_torch_norms(ResNet20("batch")).double()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    outputs = []
    for model in (ours, theirs):
        output = model(images)
        F.cross_entropy(output, labels).backward()
        outputs.append(output)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours.stem_norm.running_mean, theirs.stem_norm.running_mean)


def test_the_shortcut_has_no_parameters():
    """With convolutions of zero a block is ReLU of every second position, and zero in the new channels."""
    block, images = Block(2, 5, "batch"), torch.randn(3, 2, 6, 6)
    for convolution in (block.conv1, block.conv2):
        nn.init.zeros_(convolution.weight)
    output = block(images)
    assert torch.equal(output[:, :2], images[:, :, ::2, ::2].relu()) and not output[:, 2:].any()


@pytest.mark.parametrize("name", ["pn-v", "power", "layer"])
def test_other_norms_by_their_names(name):
    model = ResNet20(name, alpha_fwd=0.8, alpha_bwd=0.7, warmup_updates=5)
    norms = [module for module in model.modules() if isinstance(module, TokenNorm)]
    assert len(norms) == 19 and all(norm.declaration.name == name for norm in norms)
    if name == "power":
        assert all((norm.alpha_fwd, norm.alpha_bwd, norm.warmup_updates) == (0.8, 0.7, 5) for norm in norms)
    assert model(torch.randn(2, 3, 32, 32)).isfinite().all()


def test_an_unknown_norm():
    with pytest.raises(ValueError, match=r"^unknown norm 'bn'; known norms: layer, .*, none$"):
        ResNet20("bn")
