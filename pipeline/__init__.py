"""EulerAudioBackbone: containerised batch training of complex and real STFT audio autoencoders.

Floors, imports go downward only:

    0  errors
    1  config, dsp
    2  layers
    3  models, losses, data          (siblings that do not know each other)
    4  training, evaluation, inference
    5  launch
"""

__version__ = "0.1.0"
