"""The calls of a run, by subject. Each probe keeps its responses in the evidence under fixed names."""
