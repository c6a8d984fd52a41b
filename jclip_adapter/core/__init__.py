"""What every room uses: errors, checks of input, messages, and the few-shot task."""
