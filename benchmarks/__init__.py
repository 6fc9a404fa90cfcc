"""Side-by-side measurements. Every figure is a ratio within one run on one machine."""
