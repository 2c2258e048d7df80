"""What a model's flags say about its norms, as plain values that a checkpoint can hold."""

import dataclasses

ENCODER_SITES = ("self_attn", "ffn", "output", "ffn_inner")
DECODER_SITES = ("self_attn", "cross_attn", "ffn", "output", "ffn_inner")


@dataclasses.dataclass(frozen=True)
class NormSpec:
    """One norm of one site: its name and every setting that a flag can give.

    A norm takes the settings that it has a use for and leaves the others, so that a sweep over norms can keep one set
    of flags.

    Attributes:
        name: a name of :func:`fairseq_powernorm.available_norms`.
        eps: ε, added to a variance or a quadratic mean before the root.
        alpha_fwd: decay in [0, 1) of the running statistics (ψ², or μ and σ²), per update.
        alpha_bwd: decay in [0, 1) of ν, per update.
        warmup_updates: optimizer updates during which ``power`` normalises by the batch (forward calls for
            ``power-released``).
        group_scaling: groups of channels of the per-token scaling in front of the norm; 0 leaves it out.
        sync: statistics over all ranks.
        own: the settings that this norm alone has, by their keywords.
    """

    name: str
    eps: float = 1e-5
    alpha_fwd: float = 0.9
    alpha_bwd: float = 0.9
    warmup_updates: int = 0
    group_scaling: int = 0
    sync: bool = False
    own: dict[str, float | int | bool | str] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, float | int | bool | str]:
        """Everything but the name, as keyword arguments of a norm's constructor."""
        settings = dataclasses.asdict(self)
        del settings["name"]
        return settings | settings.pop("own")


@dataclasses.dataclass(frozen=True)
class StackSpec:
    """The norms of one stack, encoder or decoder, site by site; ``cross_attn`` is None without cross-attention,
    ``output`` where the stack has none, ``ffn_inner``, between the feed-forward block's two linear layers, wherever
    there is no norm."""

    self_attn: NormSpec
    ffn: NormSpec
    output: NormSpec | None
    cross_attn: NormSpec | None = None
    ffn_inner: NormSpec | None = None
