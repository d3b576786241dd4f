"""Physics, samplers, key-rate models and the digital twin of the relay."""
