"""What all commands share: mistakes in one line, an end that fits the status, reports."""
