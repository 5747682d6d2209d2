"""Signal processing: STFT, complex pairs, compression, mel, padding. Imports no torch."""

COMPRESSIONS = {
    "none": "pipeline.dsp.compression:NoCompression",
    "log_mag": "pipeline.dsp.compression:LogMag",
    "power_norm": "pipeline.dsp.compression:PowerNorm",
}
