"""Autoencoders. Imports no torch: the names that a configuration may use and where their classes are."""

ENCODERS = {
    "PatchTransformerEncoder": "pipeline.models.patch_transformer:PatchTransformerEncoder",
    "SEANetEncoder": "pipeline.models.seanet:SEANetEncoder",
}

DECODERS = {
    "PatchTransformerDecoder": "pipeline.models.patch_transformer:PatchTransformerDecoder",
    "SEANetDecoder": "pipeline.models.seanet:SEANetDecoder",
}

BOTTLENECKS = {
    "IdentityBottleneck": "pipeline.models.bottleneck.identity:IdentityBottleneck",
    "VAEBottleneck": "pipeline.models.bottleneck.vae:VAEBottleneck",
}
