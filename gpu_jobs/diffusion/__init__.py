"""The masked diffusion process: corruption and loss, sampling, likelihood."""
