"""The Triton kernels that :mod:`.cuda` launches: forward, backward, and one that adds up what their programs found.

Within a program every thread adds up its own elements, block after block, and only behind the last block are threads
added up: so no block waits for a barrier, and the loads of the next ones are under way (``STAGES``). ε is a constant of
the kernel: as an argument it would be float32 in float64 arithmetic too.
"""

import triton
import triton.language as tl


@triton.jit
def forward_kernel(
    x_ptr,  # (N, C)
    padding_ptr,  # (N,) uint8, 1 at padding; not read without HAS_PADDING
    mean_ptr,  # (C,); not read without CENTRED
    second_moment_ptr,  # (C,): d; not read without STORE
    weight_ptr,  # (C,); not read without STORE
    bias_ptr,  # (C,); not read without STORE
    y_ptr,  # (N, C); not written without STORE
    partial_ptr,  # (stretches, 2, C): Σ (s − μ)² and, without STORE, Σ (s − μ)
    counts_ptr,  # (stretches,): real rows
    count,
    channels,
    width,
    rows_per_program,
    EPS: tl.constexpr,
    HAS_PADDING: tl.constexpr,
    CENTRED: tl.constexpr,
    GROUPED: tl.constexpr,
    STORE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """y = γ (s − μ)/√(d + ε) + β, and the sums."""
    stretch, tile = tl.program_id(0), tl.program_id(1)
    columns = tile * width + tl.arange(0, BLOCK_CHANNELS)
    inside = (tl.arange(0, BLOCK_CHANNELS) < width) & (columns < channels)
    squares = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), WIDE)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), WIDE)
    nothing = tl.zeros((BLOCK_CHANNELS,), WIDE)
    mean = tl.load(mean_ptr + columns, inside, 0.0).to(WIDE) if CENTRED else nothing
    scale, shift = nothing, nothing
    if STORE:
        scale = tl.load(weight_ptr + columns, inside, 0.0).to(WIDE)
        scale /= tl.sqrt(tl.load(second_moment_ptr + columns, inside, 1.0).to(WIDE) + EPS)
        shift = tl.load(bias_ptr + columns, inside, 0.0).to(WIDE)
    real_rows = tl.zeros((BLOCK_ROWS,), WIDE)
    first, last = stretch * rows_per_program, tl.minimum((stretch + 1) * rows_per_program, count)
    for start in tl.range(first, last, BLOCK_ROWS, num_stages=STAGES):
        row = start + tl.arange(0, BLOCK_ROWS)
        there = row < count
        real = there
        if HAS_PADDING:
            real = there & (tl.load(padding_ptr + row, there, 1) == 0)
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        values = tl.load(x_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        if GROUPED:
            values *= (1 / tl.sqrt(tl.sum(values * values, 1) / width + EPS))[:, None]
        if CENTRED:
            values = tl.where(real[:, None], values - mean[None, :], 0.0)
        squares += values * values
        real_rows += tl.where(real, 1.0, 0.0)
        if STORE:
            y = values * scale[None, :] + shift[None, :]
            tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), there[:, None] & inside[None, :])
        else:
            sums += values
    partial = partial_ptr + stretch * 2 * channels + columns
    tl.store(partial, tl.sum(squares, 0), inside)
    if not STORE:
        tl.store(partial + channels, tl.sum(sums, 0), inside)
    tl.store(counts_ptr + stretch, tl.sum(real_rows, 0), tile == 0)


@triton.jit
def backward_kernel(
    x_ptr,  # (N, C)
    grad_ptr,  # (N, C): dY
    padding_ptr,  # (N,) uint8, 1 at padding; not read without HAS_PADDING
    mean_ptr,  # (C,); not read without CENTRED
    second_moment_ptr,  # (C,): d; not read without STORE
    weight_ptr,  # (C,); not read without STORE
    projection_ptr,  # (C,): p; not read without STORE
    grad_mean_ptr,  # (C,): m; not read without STORE and CENTRED
    grad_x_ptr,  # (N, C): dX; not written without STORE
    partial_ptr,  # (stretches, 2, C): Σ dY (s − μ), Σ dY
    count,
    channels,
    width,
    rows_per_program,
    EPS: tl.constexpr,
    HAS_PADDING: tl.constexpr,
    CENTRED: tl.constexpr,
    GROUPED: tl.constexpr,
    STORE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """ds = (γ dY − p (s − μ)/√(d + ε) − m)/√(d + ε), dX from it, and the sums."""
    stretch, tile = tl.program_id(0), tl.program_id(1)
    columns = tile * width + tl.arange(0, BLOCK_CHANNELS)
    inside = (tl.arange(0, BLOCK_CHANNELS) < width) & (columns < channels)
    products = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), WIDE)
    sums = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), WIDE)
    nothing = tl.zeros((BLOCK_CHANNELS,), WIDE)
    mean = tl.load(mean_ptr + columns, inside, 0.0).to(WIDE) if CENTRED else nothing
    grad_scale, grad_product, grad_shift = nothing, nothing, nothing
    if STORE:
        root = tl.sqrt(tl.load(second_moment_ptr + columns, inside, 1.0).to(WIDE) + EPS)
        grad_scale = tl.load(weight_ptr + columns, inside, 0.0).to(WIDE) / root
        grad_product = tl.load(projection_ptr + columns, inside, 0.0).to(WIDE) / (root * root)
        if CENTRED:
            grad_shift = tl.load(grad_mean_ptr + columns, inside, 0.0).to(WIDE) / root
    first, last = stretch * rows_per_program, tl.minimum((stretch + 1) * rows_per_program, count)
    for start in tl.range(first, last, BLOCK_ROWS, num_stages=STAGES):
        row = start + tl.arange(0, BLOCK_ROWS)
        there = row < count
        real = there
        if HAS_PADDING:
            real = there & (tl.load(padding_ptr + row, there, 1) == 0)
        at = row.to(tl.int64)[:, None] * channels + columns[None, :]
        scaled = tl.load(x_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        grad = tl.load(grad_ptr + at, real[:, None] & inside[None, :], 0.0).to(WIDE)
        inverse_root = 1.0
        if GROUPED:
            inverse_root = (1 / tl.sqrt(tl.sum(scaled * scaled, 1) / width + EPS))[:, None]
            scaled *= inverse_root
        values = scaled
        if CENTRED:
            values = tl.where(real[:, None], scaled - mean[None, :], 0.0)
        products += grad * values
        sums += grad
        if STORE:
            grad_scaled = grad * grad_scale[None, :] - values * grad_product[None, :]
            if CENTRED:
                grad_scaled = tl.where(real[:, None] & inside[None, :], grad_scaled - grad_shift[None, :], 0.0)
            if GROUPED:
                inner = tl.sum(grad_scaled * scaled, 1) / width
                grad_scaled = (grad_scaled - scaled * inner[:, None]) * inverse_root
            tl.store(grad_x_ptr + at, grad_scaled.to(grad_x_ptr.dtype.element_ty), there[:, None] & inside[None, :])
    partial = partial_ptr + stretch * 2 * channels + columns
    tl.store(partial, tl.sum(products, 0), inside)
    tl.store(partial + channels, tl.sum(sums, 0), inside)


@triton.jit
def finish_kernel(
    partial_ptr,  # (stretches, 2, C)
    counts_ptr,  # (stretches,); not read without COUNT
    second_moment_ptr,  # (C,): d; not read without DIVIDE
    first_ptr,  # (C,)
    second_ptr,  # (C,); not written with MEAN
    count_ptr,  # (); not written without COUNT
    stretches,
    channels,
    EPS: tl.constexpr,
    COUNT: tl.constexpr,
    MEAN: tl.constexpr,
    DIVIDE: tl.constexpr,
    BLOCK_STRETCHES: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Adds the stretches' sums and counts. The first sum becomes a mean over the tokens (MEAN; then there is no second)
    or is divided by √(d + ε) (DIVIDE)."""
    tile = tl.program_id(0)
    columns = tile * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    inside = columns < channels
    first = tl.zeros((BLOCK_CHANNELS,), WIDE)
    second = tl.zeros((BLOCK_CHANNELS,), WIDE)
    counts = tl.zeros((BLOCK_STRETCHES,), WIDE)
    for start in range(0, stretches, BLOCK_STRETCHES):
        stretch = start + tl.arange(0, BLOCK_STRETCHES)
        there = (stretch < stretches)[:, None] & inside[None, :]
        at = partial_ptr + stretch[:, None] * 2 * channels + columns[None, :]
        first += tl.sum(tl.load(at, there, 0.0), 0)
        if not MEAN:
            second += tl.sum(tl.load(at + channels, there, 0.0), 0)
        if COUNT:
            counts += tl.load(counts_ptr + stretch, stretch < stretches, 0.0)
    if COUNT:
        count = tl.sum(counts, 0)
        tl.store(count_ptr, count, tile == 0)
        if MEAN:
            first /= tl.maximum(count, 1.0)
    if DIVIDE:
        first /= tl.sqrt(tl.load(second_moment_ptr + columns, inside, 1.0).to(WIDE) + EPS)
    tl.store(first_ptr + columns, first, inside)
    if not MEAN:
        tl.store(second_ptr + columns, second, inside)
