"""The bundled models: tiny LLaDA-V checkpoints, the world they know, and the data sets around them."""
