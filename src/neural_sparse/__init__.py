"""Train, judge and ship inference-free neural sparse retrievers."""
