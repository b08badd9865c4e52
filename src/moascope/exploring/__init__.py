"""A local page to look at a screen: a map of its compounds, its plates, and pictures of wells."""
