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

COMPLEX_ACTIVATIONS = {
    "CReLU": "pipeline.layers.activation:CReLU",
    "modReLU": "pipeline.layers.activation:ModReLU",
}
