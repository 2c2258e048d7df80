"""The definition of the rivals with statistics of the batch, as :mod:`.reference` has it for the other norms."""

import math

import torch
from torch import Tensor

from .reference import Backward, State, batch_norm, exact_backward, layer_norm, real_rows


def regularized_batch_norm(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, state: State, eps: float, alpha_fwd: float
) -> tuple[Tensor, Backward]:
    """RegularizedBN (Wang et al. 2022) without its penalty: BatchNorm with x̂ = (x − μ_B)/√max(σ_B², ε); where σ_B² is
    below ε it is a constant."""
    rows, y = real_rows(padding), torch.full_like(x, math.nan)
    count = len(rows)
    mean = sum(x[row] for row in rows) / count
    variance = sum((x[row] - mean) ** 2 for row in rows) / count
    deviation = torch.sqrt(torch.clamp(variance, min=eps))
    normalized = (x - mean) / deviation
    y[rows] = weight * normalized[rows] + bias
    state["running_mean"] = alpha_fwd * state["running_mean"] + (1 - alpha_fwd) * mean
    state["running_var"] = alpha_fwd * state["running_var"] + (1 - alpha_fwd) * variance

    def jacobian(channel: int) -> Tensor:
        centring = torch.eye(count, dtype=x.dtype) - torch.ones(count, count, dtype=x.dtype) / count
        hat = normalized[rows, channel] * (variance[channel] >= eps)
        return (centring - torch.outer(hat, hat) / count) / deviation[channel]

    return y, exact_backward(x, normalized, weight, rows, jacobian)


def rep_batch_norm(
    x: Tensor, padding: Tensor, weight: Tensor, bias: Tensor, state: State, eps: float, alpha_fwd: float, alpha: Tensor
) -> tuple[Tensor, Backward]:
    """RepBN (Guo et al. 2024): y = BN(x) + αx, α (1,); the running variance takes N/(N−1) σ_B²."""
    rows, before = real_rows(padding), state["running_var"]
    y, batch_backward = batch_norm(x, padding, weight, bias, state, eps, alpha_fwd)
    biased = state["running_var"] - alpha_fwd * before
    state["running_var"] = alpha_fwd * before + biased * len(rows) / max(len(rows) - 1, 1)

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        grad_x, *grads = batch_backward(grad)
        grad_x[rows] += alpha * grad[rows]
        return grad_x, *grads, sum(grad[row] @ x[row] for row in rows).reshape(1)

    return y + alpha * x, backward


def progressive_rep_batch_norm(
    x: Tensor,
    padding: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: State,
    eps: float,
    alpha_fwd: float,
    alpha: Tensor,
    layer_weight: Tensor,
    layer_bias: Tensor,
    updates: int,
    warmup_updates: int,
    start_eps: float,
) -> tuple[Tensor, Backward]:
    """Progressive RepBN (Guo et al. 2024) from LayerNorm: y = λ LN(x) + (1−λ) RepBN(x), λ = (T−n)/T after the warm-up's
    and n further updates; in the warm-up λ = 1 and RepBN sees nothing."""
    done = int(state.setdefault("num_updates", torch.tensor(0)))
    state["num_updates"] = torch.tensor(done + 1)
    seen = state if done >= warmup_updates else dict(state)
    share = 1.0 if done < warmup_updates else max(updates + warmup_updates - done, 0) / max(updates, 1)
    rep, rep_backward = rep_batch_norm(x, padding, weight, bias, seen, eps, alpha_fwd, alpha)
    layer, layer_backward = layer_norm(x, padding, layer_weight, layer_bias, start_eps)

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        grad_x, *grads = rep_backward((1 - share) * grad)
        layer_grad_x, *layer_grads = layer_backward(share * grad)
        return grad_x + layer_grad_x, *grads, *layer_grads

    return share * layer + (1 - share) * rep, backward


def unified_norm(
    x: Tensor,
    padding: Tensor,
    weight: Tensor,
    bias: Tensor,
    state: State,
    eps: float,
    alpha_fwd: float,
    alpha_bwd: float,
    window: int,
    backward_window: int,
    warmup_updates: int,
    outlier_filtration: bool,
) -> tuple[Tensor, Backward]:
    """Unified Normalization (Yang et al. 2022) in update t, counted from 1; windows are lists of (C,) by slot."""
    rows, channels = real_rows(padding), x.size(1)
    backward_window = backward_window or window
    zero = torch.zeros(channels, dtype=x.dtype)
    last = list(state.setdefault("square_mean_window", torch.stack([zero] * window)))
    running, update = state["running_square_mean"], int(state.setdefault("num_updates", torch.tensor(0))) + 1
    outliers = state.setdefault("num_outliers", torch.tensor(0))
    square_mean = sum(x[row] ** 2 for row in rows) / len(rows)
    deviation = torch.sqrt(torch.stack(last)).var()
    last[update % window] = square_mean
    geometric = torch.exp(sum(torch.log(values) for values in last) / window)
    outlying = outlier_filtration and update >= warmup_updates
    outlying = outlying and bool((sum(last) / window - geometric > deviation * window).any())
    if outlying:
        last[update % window] = running
    alone = window == 1 or outlying
    divisor = square_mean if alone or update <= window or update < warmup_updates else geometric
    ratio = torch.ones_like(zero)
    if not alone and update > warmup_updates:
        ratio = torch.clamp(torch.sqrt(divisor + eps) / torch.sqrt(running + eps), 1 / 5, 5)
    normalized, y = x / torch.sqrt(divisor + eps), torch.full_like(x, math.nan)
    y[rows] = weight * normalized[rows] + bias
    state["running_square_mean"] = alpha_fwd * running + (1 - alpha_fwd) * divisor
    state["square_mean_window"], state["num_updates"] = torch.stack(last), torch.tensor(update)
    state["num_outliers"] = outliers + int(outlying)
    state.setdefault("gradient_window", torch.stack([zero] * backward_window))

    def backward(grad: Tensor) -> tuple[Tensor, ...]:
        projection, grad_x = state["gradient_projection"], torch.zeros_like(x)
        correlation = sum(grad[row] * weight * ratio * normalized[row] for row in rows) / len(rows)
        last = list(state["gradient_window"])
        last[update % backward_window] = projection if alone else correlation
        by_batch = alone or update <= backward_window or update < warmup_updates
        mean = correlation if by_batch else sum(last) / backward_window
        projection = alpha_bwd * projection + (1 - alpha_bwd) * mean
        state["gradient_projection"], state["gradient_window"] = projection, torch.stack(last)
        for row in rows:
            projected = grad[row] * weight * ratio - (mean if alone else projection) * normalized[row]
            grad_x[row] = projected / torch.sqrt(divisor + eps)
        return grad_x, (grad[rows] * ratio * normalized[rows]).sum(dim=0), grad[rows].sum(dim=0)

    return y, backward
