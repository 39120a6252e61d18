"""LLaDA-V: a bidirectional Llama that denoises answers, with a SigLIP tower and a two-layer projector."""
