"""The definition of every norm: each equation of the papers written out slowly in float64, gradients included.

Nothing here is shared with the fast code: real rows are picked by an index list, gradients are sums over explicit
Jacobians, and the state is a plain dictionary. The fast code is right when it agrees with this.

Every function takes x and dY as (N, C) float64, ``padding`` as an (N,) bool vector, ``weight`` and ``bias`` as (C,).
Further parameters and settings go by their names in the module. It returns ``(y, backward)``; ``backward(dY)`` returns
``(dX, dγ, dβ)`` and the gradients of further parameters, and, where there is one, moves the state that belongs to the
backward pass. Rows of padding come out as NaN and get a gradient of 0.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
Backward = Callable[[Tensor], tuple[Tensor, ...]]


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

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        grad_x = torch.zeros_like(x)
        for channel in range(x.size(1)):
            grad_x[rows, channel] = jacobian(channel).T @ (grad[rows, channel] * weight[channel])
        return grad_x, (grad[rows] * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return backward


def per_token(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, normalize: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Backward]:
    """A norm that looks at each token alone: ``normalize`` gives a token's x̂ (C,) and its Jacobian ∂x̂_i/∂x_j (C, C).

    ``weight`` is (C,), or a single number.
    """
    rows = real_rows(padding)
    y, normalized, jacobians = torch.full_like(x, math.nan), torch.full_like(x, math.nan), {}
    for row in rows:
        normalized[row], jacobians[row] = normalize(x[row])
        y[row] = weight * normalized[row] + bias

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        grad_x = torch.zeros_like(x)
        for row in rows:
            grad_x[row] = jacobians[row].T @ (weight * grad[row])
        grad_weight = (grad[rows] * normalized[rows]).sum(dim=0)
        return grad_x, grad_weight.sum_to_size(weight.shape), grad[rows].sum(dim=0)

    return y, backward


def centred_unit_variance(values: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x − m)/√(v + ε) of some channels (K,) of a token, and its Jacobian (K, K)."""
    number = len(values)
    mean = sum(values) / number
    deviation = torch.sqrt(sum((values - mean) ** 2) / number + eps)
    hat = (values - mean) / deviation
    identity, ones = torch.eye(number, dtype=values.dtype), torch.ones(number, number, dtype=values.dtype)
    return hat, (identity - ones / number - torch.outer(hat, hat) / number) / deviation


def layer_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Backward]:
    """LayerNorm (Ba, Kiros, Hinton 2016): x̂ = (x − m)/√(v + ε), m and v of a token over its channels."""
    return per_token(x, padding, weight, bias, lambda token: centred_unit_variance(token, eps))


def group_norm(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float, count: int
) -> tuple[Tensor, Backward]:
    """GroupNorm of a token (Wu, He 2018): LayerNorm's x̂ of each of ``count`` groups of channels."""

    def normalize(token: Tensor) -> tuple[Tensor, Tensor]:
        hats, jacobians = zip(*(centred_unit_variance(group, eps) for group in token.chunk(count)), strict=True)
        return torch.cat(hats), torch.block_diag(*jacobians)

    return per_token(x, padding, weight, bias, normalize)


def rms_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Backward]:
    """RMSNorm (Zhang, Sennrich 2019): x̂ = x/√(q + ε), q the mean of x² of a token over its channels; ``bias`` is 0."""

    def normalize(token: Tensor) -> tuple[Tensor, Tensor]:
        root = torch.sqrt(sum(token**2) / len(token) + eps)
        hat = token / root
        return hat, (torch.eye(len(token), dtype=x.dtype) - torch.outer(hat, hat) / len(token)) / root

    return per_token(x, padding, weight, bias, normalize)


def scale_norm(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Backward]:
    """ScaleNorm (Nguyen, Salazar 2019): y = g x/max(‖x‖, ε), g (1,) the ``weight``; ``bias`` is 0."""

    def normalize(token: Tensor) -> tuple[Tensor, Tensor]:
        length, identity = math.sqrt(sum(token**2)), torch.eye(len(token), dtype=x.dtype)
        if length <= eps:
            return token / eps, identity / eps
        hat = token / length
        return hat, (identity - torch.outer(hat, hat)) / length

    return per_token(x, padding, weight, bias, normalize)


def squashing(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, values: Tensor, slopes: Tensor, alpha: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """y = γ f(u) + β element by element with u = α x + s; the backward pass gives ds as well, (1,) as dα."""
    rows, y = real_rows(padding), torch.full_like(x, math.nan)
    y[rows] = weight * values[rows] + bias

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        inner = torch.zeros_like(x)
        inner[rows] = grad[rows] * weight * slopes[rows]
        grad_weight, grad_bias = (grad[rows] * values[rows]).sum(dim=0), grad[rows].sum(dim=0)
        return inner * alpha, grad_weight, grad_bias, (inner * x).sum().reshape(1), inner.sum().reshape(1)

    return y, backward


def dynamic_tanh(x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor) -> tuple[Tensor, Backward]:
    """Dynamic Tanh (Zhu et al. 2025): y = γ tanh(α x) + β, α (1,)."""
    values = torch.tanh(alpha * x)
    y, backward = squashing(x, padding, weight, bias, values, 1 - values**2, alpha)
    return y, lambda grad: backward(grad)[:4]


def dynamic_erf(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor, shift: Tensor
) -> tuple[Tensor, Backward]:
    """Dynamic erf (arXiv 2512.10938): y = γ erf(α x + s) + β, α and s (1,); erf'(u) = 2/√π exp(−u²)."""
    inner = alpha * x + shift
    slopes = 2 / math.sqrt(math.pi) * torch.exp(-(inner**2))
    return squashing(x, padding, weight, bias, torch.erf(inner), slopes, alpha)


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

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
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
