"""Shared by all rooms: errors, input checks, messages, and the few-shot task."""
