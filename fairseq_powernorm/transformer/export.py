"""The encoder as a module that ``torch.export`` can take.

fairseq's own asks whether a batch holds any padding and goes two ways by the answer, which no exported graph can.
"""

from torch import Tensor, nn

from .encoder import PowerNormTransformerEncoder


class ExportableEncoder(nn.Module):
    """An encoder in evaluation mode, source tokens to states, the same graph with and without padding::

        batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=2, max=256)
        encoder = ExportableEncoder(model.encoder)
        torch.export.export(encoder, (src_tokens,), dynamic_shapes=({0: batch, 1: length},), strict=True)

    ``strict``, since fairseq's positions make a tensor of a shape. The graph holds torch's own operators: it runs where
    this package is not installed.
    """

    def __init__(self, encoder: PowerNormTransformerEncoder):
        """Args:
        encoder: of a trained model; put into evaluation mode here.
        """
        super().__init__()
        self.encoder = encoder.eval()

    def forward(self, src_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """src_tokens (B, T), padded on the left → states (T, B, C), and the padding mask (B, T), True at padding."""
        padding_mask = src_tokens.eq(self.encoder.padding_idx)
        x, _ = self.encoder.forward_embedding(src_tokens, None)
        x = x.masked_fill(padding_mask.unsqueeze(-1), 0).transpose(0, 1)
        for layer in self.encoder.layers:
            x = layer(x, encoder_padding_mask=padding_mask)
        if self.encoder.layer_norm is not None:
            x = self.encoder.layer_norm(x)
        return x, padding_mask
