"""The world `glyphs`: two coloured symbols side by side on a textured background, drawn by ourselves."""
