"""Layers of real and complex networks alike. Imports no torch: names only."""

# Elementwise classes of torch.nn that need no argument. A complex network applies them to each part.
ELEMENTWISE_ACTIVATIONS = (
    "CELU",
    "ELU",
    "GELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
)

# Our own for real networks, built from the number of real channels.
REAL_ACTIVATIONS = {
    "GLU": "pipeline.layers.gated:GLU",
    "Snake": "pipeline.layers.periodic:Snake",
}

# Our own for complex networks, built from the number of complex channels and of bins.
COMPLEX_ACTIVATIONS = {
    "AbsSiLU": "pipeline.layers.phase_preserving:AbsSiLU",
    "CGLU": "pipeline.layers.gated:CGLU",
    "CReLU": "pipeline.layers.activation:CReLU",
    "CSnake": "pipeline.layers.periodic:CSnake",
    "PhaseGELU": "pipeline.layers.phase_preserving:PhaseGELU",
    "freqModReLU": "pipeline.layers.phase_preserving:FreqModReLU",
    "modReLU": "pipeline.layers.phase_preserving:ModReLU",
}

# Norms of a convolution's output; the other norms are of its weight.
FEATURE_NORMS = ("group_norm", "layer_norm", "batch_norm")
