"""The definition of every norm: each equation of the papers written out slowly in float64, gradients included.

Nothing here is shared with the fast code: real rows are picked by an index list, gradients are sums over explicit
Jacobians, and the state is a plain dictionary. The fast code is right when it agrees with this.

Every function takes x and dY as (N, C) float64, ``padding`` as an (N,) bool vector, ``weight`` and ``bias`` as (C,).
It returns ``(y, backward)``; ``backward(dY)`` returns ``(dX, dγ, dβ)`` and, where there is one, moves the state that
belongs to the backward pass. Rows of padding come out as NaN and get a gradient of 0.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
Backward = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def start_state(channels: int) -> State:
    """ψ² = 1, ν = 0; μ = 0, σ² = 1: what every norm starts from, (C,) each, by the names of the modules' buffers."""
    one, zero = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    return {
        "running_square_mean": one.clone(),
        "gradient_projection": zero.clone(),
        "running_mean": zero.clone(),
        "running_var": one.clone(),
    }


def real_rows(padding: Tensor) -> list[int]:
    """The indices of the rows that hold tokens."""
    return [row for row, is_padding in enumerate(padding.tolist()) if not is_padding]


def exact_backward(
    x: Tensor, normalized: Tensor, weight: Tensor, rows: list[int], jacobian: Callable[[int], Tensor]
) -> Backward:
    """The chain rule with a full Jacobian per channel.

    Args:
        x: (N, C).
        normalized: X̂ (N, C), of use at real rows only.
        weight: γ (C,).
        rows: the n real rows.
        jacobian: gives, for a channel, the (n, n) matrix ∂X̂_i/∂x_j over the real rows.
    """

    def backward(grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad_x = torch.zeros_like(x)
        for channel in range(x.size(1)):
            grad_x[rows, channel] = jacobian(channel).T @ (grad[rows, channel] * weight[channel])
        return grad_x, (grad[rows] * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return backward


def layer_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Backward]:
    """LayerNorm (Ba, Kiros, Hinton 2016): x̂ = (x − m)/√(v + ε), m and v of a token over its channels."""
    channels, y = x.size(1), torch.full_like(x, math.nan)
    normalized, grad_factors = torch.full_like(x, math.nan), {}
    for row in real_rows(padding):
        mean = sum(x[row]) / channels
        deviation = torch.sqrt(sum((x[row] - mean) ** 2) / channels + eps)
        normalized[row] = (x[row] - mean) / deviation
        y[row] = weight * normalized[row] + bias
        identity, ones = torch.eye(channels, dtype=x.dtype), torch.ones(channels, channels, dtype=x.dtype)
        outer = torch.outer(normalized[row], normalized[row])
        grad_factors[row] = (identity - ones / channels - outer / channels) / deviation

    def backward(grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad_x, rows = torch.zeros_like(x), list(grad_factors)
        for row in rows:
            grad_x[row] = grad_factors[row].T @ (weight * grad[row])
        return grad_x, (grad[rows] * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return y, backward


def batch_norm(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, state: State, eps: float, alpha_fwd: float
) -> tuple[Tensor, Backward]:
    """BatchNorm (Ioffe, Szegedy 2015): x̂ = (x − μ_B)/√(σ_B² + ε); then μ ← αμ + (1−α)μ_B, σ² likewise, biased."""
    rows = real_rows(padding)
    count, y = len(rows), torch.full_like(x, math.nan)
    mean = sum(x[row] for row in rows) / count
    variance = sum((x[row] - mean) ** 2 for row in rows) / count
    deviation = torch.sqrt(variance + eps)
    normalized = (x - mean) / deviation
    y[rows] = weight * normalized[rows] + bias
    state["running_mean"] = alpha_fwd * state["running_mean"] + (1 - alpha_fwd) * mean
    state["running_var"] = alpha_fwd * state["running_var"] + (1 - alpha_fwd) * variance

    def jacobian(channel: int) -> Tensor:
        hat = normalized[rows, channel]
        centring = torch.eye(count, dtype=x.dtype) - torch.ones(count, count, dtype=x.dtype) / count
        return (centring - torch.outer(hat, hat) / count) / deviation[channel]

    return y, exact_backward(x, normalized, weight, rows, jacobian)


def pn_v(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, state: State, eps: float, alpha_fwd: float
) -> tuple[Tensor, Backward]:
    """PN-V (Shen et al. 2020, Definition 1): x̂ = x/√(ψ_B² + ε), ψ_B² = mean x²; then ψ² ← αψ² + (1−α)ψ_B²."""
    rows = real_rows(padding)
    count, y = len(rows), torch.full_like(x, math.nan)
    square_mean = sum(x[row] ** 2 for row in rows) / count
    root = torch.sqrt(square_mean + eps)
    normalized = x / root
    y[rows] = weight * normalized[rows] + bias
    state["running_square_mean"] = alpha_fwd * state["running_square_mean"] + (1 - alpha_fwd) * square_mean

    def jacobian(channel: int) -> Tensor:
        hat = normalized[rows, channel]
        return (torch.eye(count, dtype=x.dtype) - torch.outer(hat, hat) / count) / root[channel]

    return y, exact_backward(x, normalized, weight, rows, jacobian)


def power_norm(
    x: Tensor,
    padding: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: State,
    eps: float,
    alpha_fwd: float,
    alpha_bwd: float,
    warming_up: bool = False,
) -> tuple[Tensor, Backward]:
    """PowerNorm (Shen et al. 2020, Algorithm 2), line by line. In warm-up the forward and backward passes are
    PN-V's, and the state moves by Algorithm 2's lines. The last of these weighs Γ and Λ by 1 − α, but never Γ by more
    than 1: Theorem 4 assumes that (1 − α) Γ ≤ 1."""
    rows, previous = real_rows(padding), state["running_square_mean"].clone()
    count, y = len(rows), torch.full_like(x, math.nan)
    batch_square_mean = sum(x[row] ** 2 for row in rows) / count
    exact = None
    if warming_up:
        previous = batch_square_mean
        _, exact = pn_v(x, padding, weight, bias, start_state(x.size(1)), eps, alpha_fwd)
    normalized = x / torch.sqrt(previous + eps)
    y[rows] = weight * normalized[rows] + bias
    state["running_square_mean"] = alpha_fwd * state["running_square_mean"] + (1 - alpha_fwd) * batch_square_mean

    def backward(grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nu, grad_x = state["gradient_projection"], torch.zeros_like(x)
        for row in rows:
            projected = weight * grad[row] - nu * normalized[row]
            grad_x[row] = projected / torch.sqrt(previous + eps)
        gamma = sum(normalized[row] ** 2 for row in rows) / count
        correlation = sum(weight * grad[row] * normalized[row] for row in rows) / count
        share = torch.minimum(torch.full_like(gamma, 1 - alpha_bwd), 1 / gamma)
        state["gradient_projection"] = nu * (1 - share * gamma) + share * correlation
        if exact is not None:
            grad_x = exact(grad)[0]
        return grad_x, (grad[rows] * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return y, backward


def group_scaling(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """s = x/√(mean of x² over the token's group + ε), and its backward by the Jacobian (I − s sᵀ/K)/root of each
    group of K channels."""
    width, scaled = x.size(1) // groups, torch.empty_like(x)
    jacobians = {}
    for row in range(x.size(0)):
        for group in range(groups):
            part = slice(group * width, (group + 1) * width)
            root = torch.sqrt((x[row, part] ** 2).mean() + eps)
            scaled[row, part] = x[row, part] / root
            outer = torch.outer(scaled[row, part], scaled[row, part])
            jacobians[row, group] = (torch.eye(width, dtype=x.dtype) - outer / width) / root

    def backward(grad: Tensor) -> Tensor:
        grad_x = torch.empty_like(x)
        for (row, group), jacobian in jacobians.items():
            part = slice(group * width, (group + 1) * width)
            grad_x[row, part] = jacobian.T @ grad[row, part]
        return grad_x

    return scaled, backward


def rms_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Backward]:
    """RMSNorm (Zhang, Sennrich 2019): x̂ = x/√(q + ε), q the mean of x² of a token over its channels; ``bias`` is 0."""
    channels, y = x.size(1), torch.full_like(x, math.nan)
    normalized, grad_factors = torch.full_like(x, math.nan), {}
    for row in real_rows(padding):
        root = torch.sqrt(sum(x[row] ** 2) / channels + eps)
        normalized[row] = x[row] / root
        y[row] = weight * normalized[row] + bias
        outer = torch.outer(normalized[row], normalized[row])
        grad_factors[row] = (torch.eye(channels, dtype=x.dtype) - outer / channels) / root

    def backward(grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad_x, rows = torch.zeros_like(x), list(grad_factors)
        for row in rows:
            grad_x[row] = grad_factors[row].T @ (weight * grad[row])
        return grad_x, (grad[rows] * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return y, backward


def no_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Backward]:
    """No norm: y = x, dX = dY. ``weight`` is 1 and ``bias`` 0, as it has no parameters."""
    rows = real_rows(padding)
    y = torch.full_like(x, math.nan)
    y[rows] = x[rows]

    def backward(grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad_x = torch.zeros_like(x)
        grad_x[rows] = grad[rows]
        return grad_x, (grad[rows] * x[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return y, backward
