"""The paper's experiments as a grid of cells: generators, synthetic sets, segmenters and measures, and the tables."""
