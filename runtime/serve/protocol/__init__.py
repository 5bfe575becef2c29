"""What goes over the wire, as pydantic models: requests are read by them, answers described."""
