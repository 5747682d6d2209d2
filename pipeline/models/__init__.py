"""Autoencoders. Imports no torch: the names that a configuration may use and where their classes are."""

ENCODERS = {"SEANetEncoder": "pipeline.models.seanet:SEANetEncoder"}

DECODERS = {"SEANetDecoder": "pipeline.models.seanet:SEANetDecoder"}

BOTTLENECKS = {
    "IdentityBottleneck": "pipeline.models.bottleneck.identity:IdentityBottleneck",
    "VAEBottleneck": "pipeline.models.bottleneck.vae:VAEBottleneck",
}
