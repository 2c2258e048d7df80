"""The one dictionary from names of initializations to what they do: ``--init-scheme``.

A scheme gives every matrix a gain, a number by which a known distribution (Xavier's, mostly) is multiplied, and says
what it adds to the model and which norms it goes with. Where a paper and its authors' code differ, both are here or the
difference is noted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .places import Depth, Matrix, Stack
from .residual import ReZeroBranch, ScaledBranch, WeightedResidual

FAIRSEQ = "fairseq"
"""The scheme that leaves everything as fairseq makes it."""
TRUNCATION = 2.0
"""Standard deviations at which a truncated normal distribution ends."""


def he_normal_(matrix: Tensor, gain: float) -> Tensor:
    """N(0, 2·gain²/d_in) (He et al. 2015)."""
    return nn.init.normal_(matrix, 0.0, gain * math.sqrt(2 / matrix.size(1)))


def truncated_normal_(matrix: Tensor, gain: float) -> Tensor:
    """A normal distribution cut off at ±2σ, with Xavier's standard deviation, gain·√(2/(d_in + d_out)).

    Cutting off leaves 0.88 of σ, so σ is larger than the standard deviation asked for by that much.
    """
    density = math.exp(-(TRUNCATION**2) / 2) / math.sqrt(2 * math.pi)
    left = math.sqrt(1 - 2 * TRUNCATION * density / math.erf(TRUNCATION / math.sqrt(2)))
    sigma = gain * math.sqrt(2 / sum(matrix.shape)) / left
    return nn.init.trunc_normal_(matrix, 0.0, sigma, -TRUNCATION * sigma, TRUNCATION * sigma)


@dataclass(frozen=True)
class Scheme:
    """An initialization.

    Attributes:
        name: by which flags, checkpoints and configurations choose it. Never changed: checkpoints hold it.
        source: the paper, and the code where it counts.
        formula: for the documents' table.
        norms: which norms it goes with: ``any``, ``post`` (post-norm) or ``none`` (no norm at all).
        kept: what is kept of the norm, for the documents' table.
        gain: of a matrix; None leaves attention and feed-forward block as fairseq draws them.
        draw: the distribution: fills a matrix (d_out, d_in), given a gain.
        zero_biases: whether the linear layers' biases start at 0.
        has_biases: whether they exist.
        embedding_gain: by which a stack's embedding, N(0, 1/d), is multiplied.
        zero_output: whether an output projection that is not the embedding starts at 0.
        connection: makes a residual connection of a stack, called with the stack, the model's depth and, where its
            vector is to be trained, the channels; None for x + f(x).
        shared_connection: whether a layer's branches have one connection in common.
        shifts: whether scalar biases stand in the norms' places and around the feed-forward block's activation.
    """

    name: str
    source: str
    formula: str
    norms: Literal["any", "post", "none"] = "any"
    kept: str = "all"
    gain: Callable[[Matrix], float] | None = None
    draw: Callable[[Tensor, float], Tensor] = nn.init.xavier_uniform_
    zero_biases: bool = True
    has_biases: bool = True
    embedding_gain: Callable[[Stack, Depth], float] | None = None
    zero_output: bool = False
    connection: Callable[[Stack, Depth, int | None], nn.Module] | None = None
    shared_connection: bool = False
    shifts: bool = False


def one(matrix: Matrix) -> float:
    """Every matrix alike."""
    return 1.0


def fused(matrix: Matrix) -> float:
    """Xavier, with q, k and v as one matrix: the start of the Transformers that the papers changed, and of older
    versions of fairseq. (Today's draws feed-forward blocks and biases of q, k and v as torch's ``nn.Linear`` does.)"""
    return math.sqrt(0.5) if matrix.is_input_of_attention else 1.0


def ds(matrix: Matrix) -> float:
    """DS-Init as in the paper's equation: Xavier's bound divided by √l in layer l."""
    return matrix.layer**-0.5


def ds_released(matrix: Matrix) -> float:
    """DS-Init as the authors' code computes it, where l divides the variance's scale under the root: bound/l^¼. Self-
    attention's q, k and v are one matrix there, cross-attention's are three."""
    return matrix.layer**-0.25 * (fused(matrix) if matrix.attention == "self_attn" else 1.0)


def fixup(matrix: Matrix) -> float:
    """Fixup: in a branch of m matrices all but the last times L^(−1/(2m − 2)), L branches in all; the last is 0. The
    feed-forward block has m = 2, attention counts as m = 4."""
    if matrix.is_last_of_branch:
        return 0.0
    branches = matrix.depth.branches("encoder") + matrix.depth.branches("decoder")
    return fused(matrix) * branches ** (-1 / 6 if matrix.attention else -1 / 2)


def t_fixup(matrix: Matrix) -> float:
    """T-Fixup: values, outputs and the feed-forward block times 0.67·N^(−¼) in the encoder, (9M)^(−¼) in the decoder;
    values without the 1/√2 of the fused matrix; q and k as they were."""
    if matrix.is_query_or_key:
        return fused(matrix)
    return 0.67 * matrix.depth.encoder**-0.25 if matrix.stack == "encoder" else (9 * matrix.depth.decoder) ** -0.25


def t_fixup_embedding(stack: Stack, depth: Depth) -> float:
    """T-Fixup: (9N)^(−¼), N the layers of the embedding's stack."""
    return (9 * depth.layers(stack)) ** -0.25


def admin_omega(branches: int) -> float:
    """ω = √((n + 1)/ln(n + 1) − 1) for a stack of n residual branches: admin-torch's closed form, which stands for a
    profile of branches that all have the same variance."""
    return math.sqrt((branches + 1) / math.log(branches + 1) - 1)


def deepnet_alpha(stack: Stack, depth: Depth) -> float:
    """DeepNet's weight of the residual: 0.81·(N⁴M)^(1/16) in the encoder, (3M)^(1/4) in the decoder; alone, without an
    encoder, (2M)^(1/4)."""
    if stack == "encoder":
        return 0.81 * (depth.encoder**4 * depth.decoder) ** (1 / 16)
    return depth.branches(stack) ** 0.25


def deepnet(matrix: Matrix) -> float:
    """DeepNet's gain: 0.87·(N⁴M)^(−1/16) in the encoder, (12M)^(−1/4) in the decoder, (8M)^(−1/4) without
    an encoder; 1 for q and k."""
    if matrix.is_query_or_key:
        return 1.0
    if matrix.stack == "encoder":
        return 0.87 * (matrix.depth.encoder**4 * matrix.depth.decoder) ** (-1 / 16)
    return (4 * matrix.depth.branches(matrix.stack)) ** -0.25


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(FAIRSEQ, "fairseq 0.12", "q, k, v: Xavier/√2; out: Xavier; fc1, fc2 and biases: torch's `nn.Linear`"),
        Scheme(
            "ds",
            "Zhang, Titov, Sennrich 2019",
            "U(−b, b), b = √(6/(d_in + d_out))/√l in layer l of each stack",
            norms="post",
            gain=ds,
        ),
        Scheme(
            "ds-released",
            "the same authors' code",
            "b = √(6/(d_in + d_out))/l^¼; self-attention's q, k, v as one matrix",
            norms="post",
            gain=ds_released,
        ),
        Scheme(
            "fixup",
            "Zhang, Dauphin, Ma 2019",
            "with L = 2N + 3M branches: q, k, v: Xavier/√2·L^(−1/6); fc1: Xavier·L^(−1/2); out, fc2 and an untied "
            "output projection: 0; branch: x + s·f(x − b)",
            norms="none",
            kept="scalars b, s in its places; no linear layer has a bias",
            gain=fixup,
            has_biases=False,
            zero_output=True,
            connection=lambda stack, depth, channels: ScaledBranch(),
            shifts=True,
        ),
        Scheme(
            "t-fixup",
            "Huang et al. 2020",
            "q, k: Xavier/√2; v, out, fc1, fc2: Xavier·0.67·N^(−¼) in the encoder, Xavier·(9M)^(−¼) in the decoder; "
            "embeddings: N(0, 1/d)·(9N)^(−¼)",
            norms="none",
            kept="nothing",
            gain=t_fixup,
            embedding_gain=t_fixup_embedding,
        ),
        Scheme(
            "admin",
            "Liu et al. 2020, ω by admin-torch",
            "Norm(ω ⊙ x + f(x)), ω = √((n + 1)/ln(n + 1) − 1), n = 2N or 3M; Xavier, q, k, v /√2",
            norms="post",
            gain=fused,
            connection=lambda stack, depth, channels: WeightedResidual(admin_omega(depth.branches(stack)), channels),
        ),
        Scheme(
            "rezero",
            "Bachlechner et al. 2020",
            "x + α·f(x), α = 0, one for each layer; Xavier, q, k, v /√2",
            norms="none",
            kept="nothing",
            gain=fused,
            connection=lambda stack, depth, channels: ReZeroBranch(),
            shared_connection=True,
        ),
        Scheme(
            "deepnet",
            "Wang et al. 2022",
            "Norm(a·x + f(x)); encoder: a = 0.81·(N⁴M)^(1/16), gain 0.87·(N⁴M)^(−1/16); decoder: a = (3M)^¼, gain "
            "(12M)^(−¼); normal Xavier, gain 1 for q, k",
            norms="post",
            gain=deepnet,
            draw=nn.init.xavier_normal_,
            connection=lambda stack, depth, channels: WeightedResidual(deepnet_alpha(stack, depth)),
        ),
        Scheme("xavier", "Glorot, Bengio 2010", "U(−b, b), b = √(6/(d_in + d_out))", gain=one, zero_biases=False),
        Scheme("he", "He et al. 2015", "N(0, 2/d_in)", gain=one, draw=he_normal_, zero_biases=False),
        Scheme(
            "orthogonal",
            "Saxe et al. 2014",
            "orthogonal rows or columns",
            gain=one,
            draw=nn.init.orthogonal_,
            zero_biases=False,
        ),
        Scheme(
            "truncated-normal",
            "TensorFlow's `VarianceScaling`",
            "normal within ±2σ, of variance 2/(d_in + d_out) after the truncation",
            gain=one,
            draw=truncated_normal_,
            zero_biases=False,
        ),
    )
}
"""Every scheme by its name, in the order of the documents' table."""


def available_schemes() -> tuple[str, ...]:
    """The names that ``--init-scheme`` knows."""
    return tuple(SCHEMES)


def markdown_table() -> str:
    """The table of schemes, for documents; that of docs/initialization.md is compared with it."""
    goes_with = {"any": "any", "post": "any, post-norm", "none": "`none` in both stacks"}
    lines = ["| scheme | formula | norms | what is kept of the norm | source |", "|---|---|---|---|---|"]
    for name, scheme in SCHEMES.items():
        lines.append(f"| `{name}` | {scheme.formula} | {goes_with[scheme.norms]} | {scheme.kept} | {scheme.source} |")
    return "\n".join(lines) + "\n"
