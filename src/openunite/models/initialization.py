"""Initialization of all parameters.

| what                                   | how                              |
|----------------------------------------|----------------------------------|
| Linear, and Conv2d seen as a matrix    | Xavier uniform, bias 0           |
| adaLN projections, latent output       | 0: every block starts as identity |
| output of a head's convolutions        | 0: the head starts without them  |
| class table, in-context, CLS, queries  | normal, std 0.02                 |
| register vectors                       | sin-cos, order 1 (see docs/METHOD.md, section 6) |
| norms                                  | weight 1, bias 0                 |
"""

from torch import nn

_ZERO = ("modulation", "modulation_out", "latent_output", "pixel_output")
_SMALL = ("class_embedding.weight", "context_positions", "cls_token", "query_tokens")


def initialize(model: nn.Module) -> None:
    """Initialize a model in place by the table above, with torch's default generator."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
            if name.rsplit(".", 1)[-1] in _ZERO:
                nn.init.zeros_(module.weight)
            else:
                nn.init.xavier_uniform_(module.weight.flatten(1))
    for name, parameter in model.named_parameters():
        if name in _SMALL:
            nn.init.normal_(parameter, std=0.02)
