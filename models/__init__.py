"""One folder per architecture: metadata to config, config to graph."""
