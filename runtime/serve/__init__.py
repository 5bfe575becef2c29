"""ferrum.runtime.serve: an exported model behind HTTP, as OpenAI's clients expect it."""
