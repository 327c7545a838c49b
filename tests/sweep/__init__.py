"""The proof by kills: at every fail point, at random moments, once and twice, while an application writes."""
