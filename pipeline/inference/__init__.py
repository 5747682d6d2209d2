"""Using a trained autoencoder on audio of any length, rate and channel count. Imports no torch."""
