"""Bytes: write-once objects under opaque keys, and the uploads that become them."""
