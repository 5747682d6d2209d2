"""What happens to latents between encoder and decoder. Imports no torch."""
