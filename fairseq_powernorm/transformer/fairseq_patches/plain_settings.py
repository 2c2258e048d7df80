"""fairseq without ``eval``: settings are plain values, whoever wrote them.

Some settings of fairseq's are Python expressions in a string (``--adaptive-softmax-cutoff``, ``--adam-betas``, the
layers of convolutional models), which it hands to ``eval`` when it builds the model: a checkpoint from a stranger could
run any code by them, although torch unpickles it safely.
"""

import ast
import operator
from typing import Any

from ...import_hooks import when_imported

MODULES_THAT_EVALUATE = (
    "fairseq.criterions.ctc",
    "fairseq.data.audio.raw_audio_dataset",
    "fairseq.data.codedataset",
    "fairseq.examples.criss.save_encoder",
    "fairseq.examples.data2vec.models.data2vec_audio",
    "fairseq.examples.data2vec.models.modalities.audio",
    "fairseq.examples.discriminative_reranking_nmt.drnmt_rerank",
    "fairseq.examples.speech_recognition.models.vggtransformer",
    "fairseq.examples.speech_recognition.models.w2l_conv_glu_enc",
    "fairseq.examples.textless_nlp.pgslm.data_utils",
    "fairseq.examples.textless_nlp.pgslm.quantize_f0",
    "fairseq.examples.textless_nlp.pgslm.sample.sample",
    "fairseq.models.fconv",
    "fairseq.models.fconv_lm",
    "fairseq.models.fconv_self_att",
    "fairseq.models.hubert.hubert",
    "fairseq.models.lightconv_lm",
    "fairseq.models.speech_to_text.s2t_wav_transformer",
    "fairseq.models.transformer_lm",
    "fairseq.models.wav2vec.wav2vec",
    "fairseq.models.wav2vec.wav2vec2",
    "fairseq.optim.adafactor",
    "fairseq.optim.adam",
    "fairseq.optim.adamax",
    "fairseq.optim.cpu_adam",
    "fairseq.optim.fused_lamb",
    "fairseq.utils",
)
"""All of fairseq's that call ``eval`` (its commands do too, of options of their own command line)."""

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LARGEST = 100_000  # of what a product may repeat


def plain_value(text: str, *_: Any) -> Any:
    """The value of a Python expression of literals: numbers, strings, tuples, lists, dictionaries, and + - * / of them
    (``[(512, 3)] * 20``). What is no string is its own value.

    Raises:
        ValueError: anything else: names, calls, attributes, comprehensions, or a product beyond all measure.
    """
    if isinstance(text, bytes | bytearray):
        raise ValueError(f"the setting {text!r} is no plain value: fairseq_powernorm evaluates no code")
    if not isinstance(text, str):
        return text
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise ValueError(f"the setting {text!r} is no plain value: fairseq_powernorm evaluates no code") from None


def _value(node: ast.expr) -> Any:
    """The value of a node."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        for one, other in ((left, right), (right, left)):
            if isinstance(node.op, ast.Mult) and hasattr(one, "__len__") and len(one) * abs(other) > LARGEST:
                raise ValueError("too large")
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Tuple | ast.List):
        values = [_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


def forbid_eval() -> None:
    """Puts :func:`plain_value` in the place of ``eval`` in the modules of fairseq that call it, those too that are
    imported later; settings that are code are then a ``ValueError`` where fairseq builds what they are of."""
    for name in MODULES_THAT_EVALUATE:
        when_imported(name, lambda module: setattr(module, "eval", plain_value))
