"""Bytes to frames and back; no sockets."""
